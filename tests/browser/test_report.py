"""The report of a real search as a person sees it: its points answer, its winners are drawn, nothing is fetched."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from nas.arch.files import load_spec
from tests.browser.conftest import NAME, Look, fits, prints
from tests.methods.scaling.tiny import Finished, networks

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

WIDTHS_PX = (1280, 400)


@pytest.fixture
def trained(runs: Path) -> list[FrozenTrial]:
    """The study's trained networks from the fastest to the slowest, in which order the keyboard visits them."""
    study = optuna.load_study(study_name=NAME, storage=f"sqlite:///{runs / 'optuna.db'}")
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    assert len(trials) == 5
    return sorted(trials, key=lambda trial: trial.values[1])


def report(look: Look, runs: Path, width_px: int = 1280) -> Page:
    return look((runs / NAME / "report.html").as_uri(), width_px)


def number(dot: Locator, name: str) -> float:
    return float(dot.get_attribute(name) or "nan")


def blocks(runs: Path) -> dict[int, set[str]]:
    """Trial number to block strings of its network."""
    with (runs / NAME / "trials.csv").open(encoding="utf-8", newline="") as stream:
        return {int(row["number"]): set(row["blocks"].replace(";", "").split()) for row in csv.DictReader(stream)}


@pytest.mark.parametrize("width_px", WIDTHS_PX)
def test_the_plot_has_the_study_s_points_where_they_belong(
    look: Look, runs: Path, trained: list[FrozenTrial], width_px: int
) -> None:
    page = report(look, runs, width_px)
    dots = {dot.get_attribute("data-row"): dot for dot in page.locator(".hit").all()}
    assert set(dots) == {f"trial-{trial.number}" for trial in trained}
    ordered = [dots[f"trial-{trial.number}"] for trial in trained]
    places = [(number(dot, "cx"), -number(dot, "cy")) for dot in ordered]
    values = [(trial.values[1], trial.values[0]) for trial in trained]
    for drawn, told in zip(np.transpose(places), np.transpose(values), strict=True):
        assert np.corrcoef(drawn, told)[0, 1] > 0.9999  # the axes are linear; places are rounded to tenths
    assert fits(page)


def test_pointing_at_a_dot_shows_its_network(look: Look, runs: Path, trained: list[FrozenTrial]) -> None:
    page = report(look, runs)
    for trial in trained:
        page.locator(f".hit[data-row=trial-{trial.number}]").hover(force=True)
        said = page.locator(".tip").inner_text()
        assert f"rial {trial.number}\n" in said and f"{100 * trial.values[0]:.2f}%" in said
        assert blocks(runs)[trial.number] <= set(said.split())


def test_the_keyboard_goes_from_dot_to_dot_and_to_the_row(look: Look, runs: Path, trained: list[FrozenTrial]) -> None:
    page = report(look, runs)
    page.locator(".hit[tabindex='0']").focus()
    for trial in trained:
        assert f"rial {trial.number}\n" in page.locator(".tip").inner_text()
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.locator("tr.marked").get_attribute("id") == f"trial-{trained[-1].number}"


@pytest.mark.parametrize("width_px", WIDTHS_PX)
def test_every_winner_is_drawn_block_by_block(look: Look, runs: Path, width_px: int) -> None:
    page = report(look, runs, width_px)
    specs = [load_spec(path) for path in sorted((runs / NAME / "winners").glob("winner_?.yaml"))]
    assert specs and page.locator("section.one").count() == len(specs)
    for index, spec in enumerate(specs, start=1):
        boxes = page.locator(f"#winner-{index} svg g[data-path^='blocks.']")
        assert [box.get_attribute("data-path") for box in boxes.all()] == [
            placed.path for placed in spec.placed_blocks()
        ]
        sides = [box.bounding_box() for box in boxes.all()]
        assert all(side and side["width"] > 30 and side["height"] > 60 for side in sides)  # large enough to read


def test_the_table_is_sorted_by_a_click(look: Look, runs: Path, trained: list[FrozenTrial]) -> None:
    page = report(look, runs)
    page.locator("#trials th button", has_text="Accuracy").click()
    page.locator("#trials th button", has_text="Accuracy").click()
    cells = page.locator("#trials tbody tr td:nth-child(2)").all_inner_texts()
    assert cells[:5] == [f"{100 * value:.2f}" for value in sorted((trial.values[0] for trial in trained), reverse=True)]


def test_all_of_it_is_printed(look: Look, runs: Path) -> None:
    page = report(look, runs)
    assert prints(page)
    assert not page.locator(".tip").is_visible()


@pytest.mark.parametrize("width_px", WIDTHS_PX)
def test_a_grid_has_its_plots_and_every_network(look: Look, grid: Finished, width_px: int) -> None:
    folder = grid.folder / "runs" / "tiny"
    page = look((folder / "report.html").as_uri(), width_px)
    plots = [plot.bounding_box() for plot in page.locator("svg.plot").all()]
    assert len(plots) >= 3 and all(plot and plot["width"] > 300 and plot["height"] > 150 for plot in plots)
    named = page.locator("#networks tbody tr").evaluate_all("rows => rows.map((row) => row.cells[0].textContent)")
    assert sorted(named) == sorted(networks(folder))
    assert fits(page) and prints(page)
