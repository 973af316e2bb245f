"""Tests of experiment= presets: composition, headers, precedence.

Settings given beside an experiment override it.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from nas import compound_grid, search
from nas.cli.hydra_config import choices, headline, presets
from nas.core.errors import NasError
from tests.paths import ROOT

COMMANDS: dict[str, Any] = {"search": search, "compound_grid": compound_grid}
PRESETS = [(command, name) for command in COMMANDS for name in presets(command)]


def test_every_experiment_is_of_one_command() -> None:
    assert sorted(name for _, name in PRESETS) == choices("experiment")
    assert len(PRESETS) >= 5


@pytest.mark.parametrize(("command", "name"), PRESETS)
def test_it_composes_under_its_own_name(command: str, name: str) -> None:
    plan = COMMANDS[command].make_plan([f"experiment={name}"])
    assert plan.name == name and plan.command == f"python -m nas.{command} experiment={name}"


@pytest.mark.parametrize(("command", "name"), PRESETS)
def test_its_header_has_source_cost_result_and_command(command: str, name: str) -> None:
    text = (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
    head = text.partition("\ndefaults:")[0]
    for word in ("# Source: ", "# Cost: ", "# Result: ", f"# Command: python -m nas.{command} experiment={name}"):
        assert word in head, word
    assert headline("experiment", name).endswith(".") and "@" not in headline("experiment", name)
    assert isinstance(yaml.safe_load(text), dict)


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_settings_beside_it_win() -> None:
    plan = search.make_plan(["space=mnasnet", "experiment=first_look", "study.n_trials=3", "proxy=tiny"])
    assert (plan.space.name, plan.study.n_trials, plan.proxy.width_multiplier) == ("mnasnet", 3, 0.15)
    plan = search.make_plan(["+experiment=mixnet_10ms", "+space=mixnet", "constraint.latency_ms=20"])
    assert (plan.space.name, plan.constraints.latency_ms) == ("mixnet", 20)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_an_unknown_one_list_them(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    other = next(name for its, name in PRESETS if its != command)
    assert COMMANDS[command].command(["--help"]) == 0
    help_text = one_line(capsys.readouterr().out)
    with pytest.raises(NasError, match=f"unknown experiment '{other}': choose one of these:") as caught:
        COMMANDS[command].command([f"experiment={other}"])
    for its, name in PRESETS:
        for text in (help_text, one_line(str(caught.value))):
            assert (f"experiment={name} " in text and headline("experiment", name) in text) is (its == command)
