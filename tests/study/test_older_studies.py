"""Studies that an earlier version began, and killed: opened, shown, and finished with what that version would give."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from optuna.trial import FrozenTrial, TrialState
from optuna_dashboard import get_note

from nas import compare, compound_grid, dashboard, report, search
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.estimators.base import Evaluation
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.study.storage import lease
from nas.training.results import EpochResult
from tests.json_output import json_answer
from tests.paths import REFERENCE
from tests.reporting.dashboard_study import stop_after_notes
from tests.studies import open_study_file
from tests.study.fakes import epoch_result

FOLDER: Final = REFERENCE / "studies_0.1"
UNBROKEN: Final = json.loads((FOLDER / "unbroken.json").read_text(encoding="utf-8"))
COMMANDS: Final = {"search": search.command, "grid": compound_grid.command}
RUNNING: Final = {"search": 7, "grid": 6}  # the trial that was under way; the next one was queued
VALIDATION_IMAGES: Final = 360
# What was the default of a search then.
DEFAULTS: Final[dict[str, tuple[str, ...]]] = {"search": ("estimator=proxy", "data=digits", "sampler=tpe"), "grid": ()}
both = pytest.mark.parametrize("name", list(COMMANDS))


@pytest.fixture(autouse=True)
def in_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The studies are in the working directory; a lease that nobody renews is watched for a moment, not for 32 s."""
    shutil.copytree(FOLDER / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lease, "LeaseTiming", partial(lease.LeaseTiming, settle_s=0.0, watch_s=0.3))


@pytest.fixture
def trained_before(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Trainings end as in the unbroken runs, on whatever CPU; network and seed of those that are asked for."""
    known = {
        (trial["arch_id"], trial["seed"]): trial["epochs"]
        for study in UNBROKEN.values()
        for trial in study["trials"]
        if trial["outcome"] == "trained"
    }
    asked: list[tuple[str, int]] = []

    def evaluate(
        _: ProxyEvaluator, arch: ArchSpec, *, repeat: int = 0, on_epoch: Callable[[EpochResult], None] | None = None
    ) -> Evaluation:
        asked.append((arch.arch_id, repeat))
        epochs = known[arch.arch_id, repeat]
        for number, accuracy in enumerate(epochs, start=1):
            if on_epoch:
                on_epoch(epoch_result(number, accuracy=accuracy))
        return Evaluation(accuracy=epochs[-1], cpu_s=0.1, duration_s=0.1)

    monkeypatch.setattr(ProxyEvaluator, "evaluate", evaluate)
    return asked


def trials(name: str) -> list[FrozenTrial]:
    return list(open_study_file(name=name).trials)


def rows(name: str) -> list[dict[str, Any]]:
    """What ``unbroken.json`` tells of each trial, of the study as it is now."""
    return [
        {
            **{key: trial.user_attrs.get(key) for key in ("outcome", "arch_id", "latency_ms", "accuracy")},
            "seed": trial.params.get("seed", 0),
            "epochs": list(trial.intermediate_values.values()),
        }
        for trial in trials(name)
    ]


@both
def test_the_killed_study_is_as_the_readme_says(name: str) -> None:
    states = [trial.state for trial in trials(name)]
    assert states[RUNNING[name] :] == [TrialState.RUNNING, TrialState.WAITING]
    assert rows(name)[: RUNNING[name]] == UNBROKEN[name]["trials"][: RUNNING[name]]


def test_the_same_command_is_answered_with_the_defaults_of_then() -> None:
    overrides = UNBROKEN["search"]["overrides"]
    with pytest.raises(NasError, match=r"^study 'search' was started with data.name = 'digits', now .* Add ") as raised:
        search.command(overrides)
    words = re.findall(r"Add (.*) to resume it, or choose another study\.name\.$", str(raised.value))[0].split()
    given, wanted = ([*overrides, *more] for more in (words, DEFAULTS["search"]))
    assert search.make_plan(given).identity("here") == search.make_plan(wanted).identity("here")


@both
def test_with_the_same_trainings_it_ends_as_one_that_was_not_killed(
    name: str, trained_before: list[tuple[str, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    unbroken, config = UNBROKEN[name], Path("runs") / name / "config.yaml"
    assert "format" not in config.read_text(encoding="utf-8")
    assert COMMANDS[name]([*unbroken["overrides"], *DEFAULTS[name]]) == 0
    assert config.read_text(encoding="utf-8").startswith("format: 1\n")
    said = capsys.readouterr().out
    assert "is taken over from host" in said and "queued again, left unfinished by a killed run: 1" in said
    assert rows(name) == unbroken["trials"]
    again = [trial for trial in unbroken["trials"][RUNNING[name] :] if trial["outcome"] == "trained"]
    assert trained_before == [(trial["arch_id"], trial["seed"]) for trial in again]  # and no other
    (told,) = json_answer(report.command, capsys, (name,))["studies"]
    pairs = zip(told["winners"], unbroken["winners"], strict=True)
    assert [{key: one[key] for key in wanted} for one, wanted in pairs] == unbroken["winners"]
    folder = Path("runs") / name
    best = unbroken["winners"][-1]
    assert f"{100 * best['accuracy']:.2f}" in (folder / "report.html").read_text(encoding="utf-8")
    if name == "search":  # W2 was trained before the kill: its weights are those that the earlier version kept
        weights = FOLDER / "runs" / "search" / "weights" / f"{unbroken['winners'][1]['arch_id']}.safetensors"
        assert (folder / "winners" / "winner_2.proxy.safetensors").read_bytes() == weights.read_bytes()


@both
def test_real_trainings_finish_it_and_leave_what_was_trained(name: str) -> None:
    """Accuracies of the new trainings depend on the CPU, see the README there; all else does not."""
    unbroken, first = UNBROKEN[name]["trials"], RUNNING[name]
    before = trials(name)[:first]
    assert COMMANDS[name]([*UNBROKEN[name]["overrides"], *DEFAULTS[name]]) == 0
    after, told = trials(name), rows(name)
    assert after[:first] == before and told[:first] == unbroken[:first]
    assert {trial.state for trial in after} <= {TrialState.COMPLETE, TrialState.PRUNED}
    trained = [row for row in told if row["outcome"] == "trained"]
    assert len(trained) == sum(row["outcome"] == "trained" for row in unbroken)
    assert len({(row["arch_id"], row["seed"]) for row in trained}) == len(trained)
    for row, wanted in zip(told[first : first + 2], unbroken[first : first + 2], strict=True):  # RUNNING and WAITING
        assert all(row[key] == wanted[key] for key in ("outcome", "arch_id", "latency_ms", "seed"))
        images = row["accuracy"] * VALIDATION_IMAGES
        assert images == pytest.approx(round(images)) and 0 < images < VALIDATION_IMAGES
        assert len(row["epochs"]) == len(wanted["epochs"])


def test_as_they_are_they_are_listed_rendered_compared_and_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {name: trials(name) for name in COMMANDS}
    found = {one["name"]: one for one in json_answer(report.command, capsys, ())["studies"]}
    assert [(one["trained"], one["others"], one["running"]) for one in found.values()] == [(6, 0, 1), (6, 1, 1)]
    assert {name: one["kind"] for name, one in found.items()} == {"grid": "compound grid", "search": "search"}
    best = {
        name: max(trial["accuracy"] or 0.0 for trial in UNBROKEN[name]["trials"][:first])
        for name, first in RUNNING.items()
    }
    for name in COMMANDS:
        assert report.command([f"study={name}"]) == 0
        assert f"{100 * best[name]:.2f}" in (Path("runs") / name / "report.html").read_text(encoding="utf-8")
        with (Path("runs") / name / "trials.csv").open(encoding="utf-8", newline="") as stream:
            outcomes = [row["outcome"] for row in csv.DictReader(stream)]
        assert outcomes[: RUNNING[name]] == [row["outcome"] for row in UNBROKEN[name]["trials"][: RUNNING[name]]]
        assert outcomes[RUNNING[name] :] == ["running"]
    capsys.readouterr()
    told = json_answer(compare.command, capsys, ("search", "grid"))["studies"]
    assert {one["name"]: one["best_accuracy"] for one in told} == best
    stop_after_notes(monkeypatch)
    assert dashboard.command(["port=0"]) == 0
    assert "notes not updated" not in capsys.readouterr().out
    for name, text in (("search", "6 trained"), ("grid", "Best: 1/1/1.4")):
        study = open_study_file(name=name)
        assert text in get_note(study) and study.trials == before[name]
