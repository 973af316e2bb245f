"""A small grid of real trainings as a command, and readers of its results."""

from __future__ import annotations

import csv
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

from nas.methods.scaling.trial_attributes import training_of
from tests.deadline import DEADLINE_S
from tests.reporting.dashboard_study import served
from tests.studies import open_study_file

# Five networks and the baseline at 8 px with a tenth of the width: a training takes about half a second.
TINY = (
    "phi=1", "baseline=mobilenetv2_035", "latency=macs", "data.subset=100", "proxy.resolution_px=8", "proxy.epochs=2",
    "proxy.width_multiplier=0.3", "proxy.min_map_px=1", "grid.alpha=[1.0,1.4,2.0]", "grid.beta=[1.0,1.4]",
    "grid.gamma=[1.0,1.2,1.4]", "grid.realised_tolerance=0.5", "race.seeds=2", "race.finalists=2", "study.name=tiny",
)  # fmt: skip


class Finished(NamedTuple):
    """Folder and terminal output of a finished grid."""

    folder: Path
    output: str


def study_in_dashboard(folder: Path) -> dict[str, Any]:
    """The study as the API of optuna-dashboard returns it."""
    with served(folder / "runs") as address, urlopen(f"{address}/api/studies/1", timeout=DEADLINE_S) as response:
        return dict(json.load(response))


def outcomes(folder: Path) -> list[tuple[str, int, str, float | None]]:
    trials = open_study_file(folder).trials
    return [(*training_of(one), one.user_attrs["outcome"], one.user_attrs.get("accuracy")) for one in trials]


def networks(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "networks.csv").open(encoding="utf-8", newline="") as stream:
        return {row["network"]: row for row in csv.DictReader(stream)}


class Page(HTMLParser):
    """Parser that checks matching tags and collects the links of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for key, value in attrs if key in ("src", "href", "xlink:href")]
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for key, value in attrs if key in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
