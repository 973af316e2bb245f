"""Tests of ``estimator=zero_cost`` as a user runs it: terminal, files and report, interrupted and resumed.

Scores are real ones, accuracies are invented.
"""

from __future__ import annotations

import csv
import html
import itertools
import re
from pathlib import Path
from typing import Any, Final

import pytest

from nas import report
from nas.arch.files import load_spec_file
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.estimators.base import Evaluation
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.search import command
from tests.json_output import json_answer
from tests.study.fakes import accuracy_of

ARGUMENTS: Final = (
    "space=mobilenet_v1", "space.width=[0.25,0.5]", "latency=macs", "estimator=zero_cost", "estimator.anchors=4",
    "estimator.finalists=1", "estimator.short_epochs=1", "data=digits", "proxy=tiny", "proxy.epochs=2",
    "data.subset=100", "study.n_trials=6", "study.name=tiny",
)  # fmt: skip
FOLDER: Final = Path("runs/tiny")


def summary() -> str:
    """First paragraph of the report."""
    found = re.search(r'<p id="summary">(.*?)</p>', (FOLDER / "report.html").read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return html.unescape(found[1])


def trials() -> list[dict[str, str]]:
    with (FOLDER / "trials.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def accuracies(row: dict[str, str]) -> tuple[str, str, str]:
    return row["role"], row["accuracy"], row["estimated_accuracy"]


def invent_trainings(monkeypatch: pytest.MonkeyPatch, interrupted: int | None = None) -> None:
    """Trainings take no time, and end with invented accuracies; Ctrl-C in the one ``interrupted``, from 1.

    Those of one epoch are short trainings for a score, and not counted.
    """
    trainings = itertools.count(1)

    def evaluate(own: ProxyEvaluator, arch: ArchSpec, **_: object) -> Evaluation:
        if own.settings.epochs == 2 and next(trainings) == interrupted:
            raise KeyboardInterrupt
        correct = round(36 * accuracy_of(arch))
        return Evaluation(
            accuracy=correct / 36,
            loss=1 - correct / 36,
            cpu_s=1.0,
            duration_s=1.0,
            class_correct=(correct,) * 10,
            class_images=(36,) * 10,
        )

    monkeypatch.setattr(ProxyEvaluator, "evaluate", evaluate)


def test_a_search_by_estimate_from_its_first_candidate_to_its_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Interrupted before the finalist is trained, and resumed: the same trials, with what was missing."""
    monkeypatch.chdir(tmp_path)
    weights = FOLDER / "weights" / "0123456789ab.safetensors"  # of an anchor that no winner is
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"")
    invent_trainings(monkeypatch, interrupted=5)
    assert command(list(ARGUMENTS)) != 0
    said = capsys.readouterr().out
    assert "1/8 trial 0 (anchor): accuracy " in said and "6/8 trial 5: estimated accuracy " in said
    before = trials()
    assert [row["outcome"] for row in before if row["outcome"] != "running"] == [*["trained"] * 4, *["scored"] * 2]
    assert "Winners are chosen by estimate; finalists are not trained yet." in summary()
    assert "Unfinished: 6 of 8 trials." in summary()

    assert weights.is_file()  # it may win once finalists are trained
    invent_trainings(monkeypatch)
    assert command(list(ARGUMENTS)) == 0
    said, rows = capsys.readouterr().out, trials()
    assert re.search(r"7/8 trial \d+ \(finalist\): accuracy .*\n8/8 trial \d+ \(check\): accuracy ", said)
    assert [accuracies(row) for row in rows[:6]] == [accuracies(row) for row in before[:6]]
    for row in rows:  # scores that are the same for all would say nothing; the loss is that of the last epoch
        assert row["score_naswot"] and row["estimated_accuracy"] and row["estimate_error"]
        assert -1 < float(row["score_short_training"]) < 0  # minus the invented loss
        assert bool(row["val_loss"]) == bool(row["accuracy"]) == (row["outcome"] == "trained")
    assert [row["role"] for row in rows] == [*["anchor"] * 4, "", "", "finalist", "check"]
    assert not weights.is_file()
    for text in (said, summary()):
        assert "of 6 trained networks (4 anchors, 1 finalist, 1 drawn at random)" in text
    assert summary().startswith("The estimator ")

    winner = load_spec_file(FOLDER / "winners" / "winner_1.yaml").provenance
    assert {"proxy_accuracy", "proxy_val_loss", "estimated_accuracy", "estimate_error"} <= winner.keys()
    page = (FOLDER / "report.html").read_text(encoding="utf-8")
    assert "it ranks candidates" not in page
    assert "Whether it ranks networks as a longer training does is not known" in page
    (study,) = json_answer(report.command, capsys, ("tiny",))["studies"]
    assert study["winners"] and all(one["accuracy"] and one["val_loss"] for one in study["winners"])
    assert (FOLDER / "report.html").read_text(encoding="utf-8") == page  # rendered again without images and scores


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("estimator=zerocost", "estimator 'zerocost'"),
        ("estimator.anchors=6", "estimator.anchors 6: leaves nothing to score of study.n_trials 6"),
        ("pruner=median", "pruner.name 'median': stops trainings by their epochs"),
        ("estimator.zero_cost=[naswot,grasp]", "estimator.zero_cost 'grasp'"),
        ("estimator.anchor=6", "estimator.anchor"),
        (
            "estimator.short_epochs=2",
            "estimator.short_epochs 2: must be less than proxy.epochs 2, or a score",
        ),
    ],
)
def test_a_mistake_is_answered_in_a_line(word: str, message: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NasError) as raised:
        command([*ARGUMENTS, word])
    assert message in str(raised.value)
