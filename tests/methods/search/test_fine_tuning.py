"""Tests of the fine-tuning of winners: what is stored, resumed, told; and the files, tables and API of a search."""

from __future__ import annotations

import csv
import html
import itertools
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import optuna
import pytest
import timm
import torch
from rich.console import Console
from safetensors.torch import load_file

import nas
from nas import report, search
from nas.arch.files import load_spec_file
from nas.arch.spec import ArchSpec
from nas.data.images import load_images
from nas.data.sources import DataSettings
from nas.estimators.base import Evaluation
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.estimators.settings import EstimatorSettings
from nas.estimators.supernet import SupernetScorer
from nas.methods.search.fine_tuning import FINE_TUNED_FOLDER, fine_tune_winners
from nas.model.build import build
from nas.study.trial_attributes import trial_records
from nas.study.trial_record import FineTuning, Outcome, TrialRecord
from nas.training.evaluation import score_model
from nas.training.run import TrainingRun
from tests.estimators.test_supernet_training import PROXY, SETTINGS, make_space
from tests.json_output import json_answer
from tests.methods.search.interrupts import interrupt_training
from tests.study.fakes import accuracy_of, new_study, pricer

SPACE: Final = make_space()
VAL_IMAGES: Final = 360


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> SupernetScorer:
    """Scorer on a hundred digits with its supernet."""
    scorer = SupernetScorer(
        data=load_images(DataSettings(resolution_px=8, subset=100)),
        proxy=PROXY,
        settings=SETTINGS,
        space=SPACE,
        largest_kernel=5,
        seed=0,
        folder=tmp_path_factory.mktemp("trained") / "supernet",
    )
    scorer.prepare()
    return scorer


@pytest.fixture
def session(trained: SupernetScorer, tmp_path: Path) -> Any:
    """A search whose last trial has ended, with a supernet of its own."""
    shutil.copytree(trained.folder, tmp_path / "supernet")
    return session_of(replace(trained, folder=tmp_path / "supernet"), tmp_path)


def session_of(scorer: SupernetScorer, folder: Path, *, is_complete: bool = True, **changes: Any) -> Any:
    settings = replace(SETTINGS, **changes)
    return SimpleNamespace(
        plan=SimpleNamespace(
            folder=folder, proxy=PROXY, estimator=EstimatorSettings(name="supernet", supernet=settings)
        ),
        evaluator=ProxyEvaluator(data=scorer.data, settings=PROXY, largest_kernel=5, seed=0, scorer=scorer),
        pricer=pricer(SPACE),
        is_complete=lambda _: is_complete,
    )


def winners(count: int = 2) -> list[TrialRecord]:
    points = itertools.product(*SPACE.parameters.values())
    genotypes = [dict(zip(SPACE.parameters, values, strict=True)) for values in points]
    networks = {network(genotype).arch_id: genotype for genotype in genotypes}
    return [
        TrialRecord(number=number, outcome=Outcome.TRAINED, arch_id=arch_id, accuracy=0.5, genotype=genotype)
        for number, (arch_id, genotype) in enumerate(itertools.islice(networks.items(), count))
    ]


def network(genotype: Any) -> ArchSpec:
    return SPACE.decode(genotype, classes=10, in_channels=1)


def fine_tuned(session: Any, rows: list[TrialRecord], study: optuna.Study | None = None) -> list[TrialRecord]:
    """``rows`` with what ``study`` knows after it."""
    study = study or new_study()
    if not study.trials:
        for row in rows:
            study.add_trial(
                optuna.trial.create_trial(values=[0.5, 1.0], user_attrs={"arch_id": row.arch_id, "outcome": "trained"})
            )
    fine_tune_winners(rows, session, study, Console())
    known = {row.arch_id: row.fine_tuning for row in trial_records(study)}
    return [replace(row, fine_tuning=known[row.arch_id]) for row in rows]


def weights(session: Any, row: TrialRecord) -> Path:
    return session.plan.folder / FINE_TUNED_FOLDER / f"{row.arch_id}.safetensors"


def test_stored_figures_are_those_of_the_inherited_and_of_the_written_weights(
    session: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    scorer: SupernetScorer = session.evaluator.scorer
    for row in fine_tuned(session, winners()):
        module, tuned = build(scorer.reduced(network(row.genotype))), row.fine_tuning
        assert tuned is not None and (tuned.epochs, tuned.lr) == (2, 0.3 * PROXY.lr)
        module.load_state_dict(load_file(weights(session, row)))
        found = score_model(module, scorer.data.resized(8), PROXY)
        assert tuned.accuracy == pytest.approx(found.accuracy, abs=1e-6)
        assert tuned.val_loss == pytest.approx(found.loss, abs=1e-5)
        module.load_state_dict(scorer.inherited_state(network(row.genotype)))
        before = score_model(module, scorer.data.resized(8), PROXY)
        assert tuned.inherited_accuracy == pytest.approx(before.accuracy, abs=1e-6)
        assert tuned.inherited_loss == pytest.approx(before.loss, rel=1e-4)
        assert tuned.val_loss < tuned.inherited_loss  # of a supernet of eight steps there is much left to learn
        for share, error in (
            (tuned.accuracy, tuned.standard_error),
            (tuned.inherited_accuracy, tuned.inherited_error),
        ):
            assert error == pytest.approx(math.sqrt(share * (1 - share) / VAL_IMAGES), abs=1e-6)
    assert capsys.readouterr().out == "fine-tuning 2 winners ...\n"
    assert {path.suffix for path in weights(session, winners()[0]).parent.iterdir()} == {".safetensors"}


def test_training_begins_from_inherited_weights(session: Any) -> None:
    """At a learning rate of nothing the weights stay what they were, but for batch norm statistics."""
    scorer = session.evaluator.scorer
    still = session_of(scorer, session.plan.folder, fine_tune_epochs=1, fine_tune_lr=1e-30)
    (row,) = fine_tuned(still, winners(1))
    written, inherited = load_file(weights(session, row)), scorer.inherited_state(network(row.genotype))
    assert written.keys() == inherited.keys()
    for name, tensor in inherited.items():
        if "running" not in name and "tracked" not in name:
            assert torch.equal(written[name], tensor), name


def test_interrupted_it_resumes_with_equal_weights_and_is_not_done_twice(
    session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Interrupted in the second epoch of the second winner, whose first one is in a checkpoint."""
    unbroken = session_of(session.evaluator.scorer, tmp_path / "unbroken")
    expected = fine_tuned(unbroken, winners())
    study = new_study()
    begun = interrupt_training(monkeypatch, at=4)
    rows = fine_tuned(session, winners(), study)
    assert "winners were not all fine-tuned: interrupted; the same command goes on" in capsys.readouterr().out
    assert [row.fine_tuning is None for row in rows] == [False, True]
    rows = fine_tuned(session, rows, study)
    assert begun == [1, 2, 1, 2, 2]
    assert rows == expected
    for row in rows:
        found, wanted = load_file(weights(session, row)), load_file(weights(unbroken, row))
        assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)
    supernet = session.evaluator.scorer.path
    supernet.rename(supernet.with_suffix(".moved"))
    assert fine_tuned(session, rows, study) == expected
    assert len(begun) == 5 and capsys.readouterr().out == "fine-tuning 1 winner ...\n"  # of the time before
    supernet.with_suffix(".moved").rename(supernet)
    (longer, _) = fine_tuned(session_of(session.evaluator.scorer, tmp_path, fine_tune_epochs=3), rows, study)
    assert begun[5:] == [1, 2, 3, 1, 2, 3] and longer.fine_tuning is not None and longer.fine_tuning.epochs == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is_complete": False}, ""),
        ({"fine_tune_epochs": 0}, ""),
        ({"fine_tune_lr": 1e3}, "loss became nan at epoch 1, step 2: lower estimator.supernet.fine_tune_lr."),
    ],
)
def test_without_a_result_nothing_is_stored(
    session: Any, change: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if message:
        steps = itertools.count(1)
        original = TrainingRun._train_step
        monkeypatch.setattr(
            TrainingRun,
            "_train_step",
            lambda run, rows: original(run, rows) * (math.nan if next(steps) == 2 else 1.0),
        )
    (row,) = fine_tuned(session_of(session.evaluator.scorer, session.plan.folder, **change), winners(1))
    assert row.fine_tuning is None and not weights(session, row).exists()
    assert capsys.readouterr().out == (
        f"fine-tuning 1 winner ...\nW1 was not fine-tuned: {message}\n" if message else ""
    )


def test_a_supernet_that_is_missing_or_another_is_told_in_a_line(
    session: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(session.plan.folder)
    other = session_of(replace(session.evaluator.scorer, seed=1), session.plan.folder)
    fine_tuned(other, winners())
    *_, line = capsys.readouterr().out.splitlines()
    assert line.startswith("winners were not fine-tuned: supernet ") and "was trained with another seed" in line
    session.evaluator.scorer.path.unlink()
    fine_tuned(session, winners())
    told = capsys.readouterr().out
    assert told == "winners were not fine-tuned: there is no supernet supernet/supernet.safetensors\n"


def test_settings_of_fine_tuning_may_change_within_a_study() -> None:
    plain = EstimatorSettings(name="supernet")
    assert EstimatorSettings(name="supernet", supernet={"fine_tune_epochs": 0, "fine_tune_lr": 1.0}).identity() == (
        plain.identity()
    )
    assert EstimatorSettings(name="supernet", supernet={"epochs": 3}).identity() != plain.identity()


ARGUMENTS: Final = (
    "space=mobilenet_v1", "space.width=[0.25]", "latency=macs", "estimator=supernet", "estimator.anchors=4",
    "estimator.finalists=0", "estimator.zero_cost=[]", "estimator.supernet.epochs=1", "data=digits", "proxy=tiny",
    "proxy.epochs=2", "data.subset=50", "study.n_trials=5", "study.seed_published=false", "study.name=tuned",
    "space.resolution_px=[128,160,192,224,256]",
)  # fmt: skip


def train_only_from_inherited_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings from scratch take no time, and end with invented accuracies."""
    train: Callable[..., Evaluation] = ProxyEvaluator.evaluate

    def evaluate(evaluator: ProxyEvaluator, arch: ArchSpec, **options: Any) -> Evaluation:
        if evaluator.initial_state is not None:
            return train(evaluator, arch, **options)
        correct = round(36 * accuracy_of(arch))
        counts = {"class_correct": (correct,) * 10, "class_images": (36,) * 10}
        return Evaluation(accuracy=correct / 36, loss=1.0, cpu_s=1.0, duration_s=1.0, **counts)

    monkeypatch.setattr(ProxyEvaluator, "evaluate", evaluate)


def test_a_search_shows_fine_tuned_winners_in_files_terminal_report_and_api(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    train_only_from_inherited_weights(monkeypatch)
    assert search.command(list(ARGUMENTS)) == 0
    said, folder = capsys.readouterr().out, Path("runs/tuned")
    result = nas.load_study("tuned")
    winner = result.winners[0]
    assert isinstance(winner.fine_tuning, FineTuning)
    accuracy, error = winner.fine_tuning.accuracy, winner.fine_tuning.standard_error
    shown = f"fine-tuned {100 * accuracy:.2f} ± {100 * error:.2f}% (2 epochs;"
    assert f"accuracy of W1: from scratch {100 * winner.accuracy:.2f} ± " in said and shown in said
    assert shown in html.unescape((folder / "report.html").read_text(encoding="utf-8"))
    facts = load_spec_file(winner.paths["proxy_spec"]).provenance
    assert facts["fine_tuned"]["accuracy"] == winner.fine_tuning.accuracy
    side_px = nas.load_spec(winner.paths["proxy_spec"]).resolution_px
    model = timm.create_model(
        "nas_arch", spec=str(winner.paths["proxy_spec"]), checkpoint_path=str(winner.paths["fine_tuned_weights"])
    ).eval()
    with torch.no_grad():
        logits = model(torch.linspace(-1, 1, side_px**2).reshape(1, 1, side_px, side_px))[0, :5].tolist()
    assert logits == pytest.approx(facts["finetuned_logits_of_ramp"], abs=1e-5)
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as stream:
        assert "fine_tuning" not in next(csv.reader(stream))

    page = (folder / "report.html").read_text(encoding="utf-8")
    shutil.rmtree(folder / "supernet")
    (study,) = json_answer(report.command, capsys, ("tuned",))["studies"]
    assert study["winners"][0]["fine_tuned_accuracy"] == winner.fine_tuning.accuracy
    assert (folder / "report.html").read_text(encoding="utf-8") == page  # rendered again without the supernet
