"""The driver's side of a cluster without a cluster: exactly what was asked for is told, whatever happens to workers."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.engines.ray.dispatch import Dispatcher
from nas.engines.ray.training import SteppedTraining, TrainingDone, TrainingFailed
from nas.estimators.base import Evaluation
from nas.estimators.settings import EstimatorSettings
from nas.methods.search.settings import StudySettings
from nas.methods.search.trials.finalists import is_search_complete
from nas.study.recovery import OUT_OF_MEMORY
from nas.study.trial_attributes import count_finished, trial_records
from nas.study.trial_loop import Idle, TrialTask, evaluate_task
from nas.study.trial_record import Outcome, Role, TrialRecord
from nas.training.results import EpochResult
from tests.study.fakes import (
    FakeEvaluator,
    OneWorker,
    accuracy_of,
    epoch_result,
    make_search,
    mobilenet_v1,
    small_space,
)

ARCH = mobilenet_v1().decode({"width": 0.25, "resolution_px": 128}, classes=10, in_channels=1)
TASK = TrialTask(number=7, trial_id=7, arch=ARCH)


@dataclass(frozen=True, kw_only=True)
class TwoEpochs:
    """Has the fields of a ProxyEvaluator that a cluster looks at, and notes in ``seen`` what it was made to do."""

    weights_dir: Path | None = None
    checkpoints_dir: Path | None = None
    error: Exception | None = None
    seen: list[Any] = field(default_factory=list)

    def with_folders(self, *, weights_dir: Path | None, checkpoints_dir: Path | None) -> TwoEpochs:
        return replace(self, weights_dir=weights_dir, checkpoints_dir=checkpoints_dir)

    def evaluate(self, arch: ArchSpec, *, repeat: int, on_epoch: Callable[[EpochResult], None]) -> Evaluation:
        self.seen.append(self.checkpoints_dir)
        for epoch in (1, 2):
            on_epoch(epoch_result(epoch, accuracy=epoch / 10))
            self.seen.append(epoch)
        if self.error:
            raise self.error
        if self.weights_dir is not None:
            (self.weights_dir / f"{arch.arch_id}.safetensors").write_bytes(b"weights")
        return Evaluation(accuracy=accuracy_of(arch), cpu_s=1.0, duration_s=2.0)

    def discard_checkpoint(self, arch: ArchSpec, *, repeat: int) -> None:
        self.seen.append(("forgotten", arch.arch_id))


class FakeScorer(TwoEpochs):
    """Scores networks, too."""

    def scores(self, _: ArchSpec) -> dict[str, float]:
        return {"fake": 0.25}


class Driver:
    """A dispatcher, and what it told and said."""

    def __init__(self, search: OneWorker, evaluator: TwoEpochs | None = None, **settings: Any) -> None:
        self.study = search.study
        self.rows: list[TrialRecord] = []
        self.said: list[str] = []
        self.dispatcher = Dispatcher(
            search,
            evaluator or TwoEpochs(),
            **{"max_retries": 2, "most": lambda: 9, "on_trial": self.rows.append, "say": self.said.append, **settings},
        )

    def running(self) -> int:
        return len(self.study.get_trials(states=(TrialState.RUNNING,)))


def trained(task: TrialTask) -> TrainingDone:
    return TrainingDone(evaluation=Evaluation(accuracy=accuracy_of(task.arch), cpu_s=1.0, duration_s=1.0))


def test_a_training_pauses_after_every_epoch_and_brings_its_weights_along(tmp_path: Path) -> None:
    evaluator = TwoEpochs(weights_dir=tmp_path / "on another machine", checkpoints_dir=tmp_path / "run" / "checkpoints")
    training = SteppedTraining(evaluator, TASK)
    assert training.next() == epoch_result(1, accuracy=0.1)
    assert evaluator.seen == [None]  # the run's folder is not there
    assert training.next() == epoch_result(2, accuracy=0.2)
    assert evaluator.seen == [None, 1]
    report = training.next()
    assert isinstance(report, TrainingDone) and report.evaluation.accuracy == accuracy_of(ARCH)
    assert report.files == {f"{ARCH.arch_id}.safetensors": b"weights"}
    assert list(tmp_path.iterdir()) == []
    training.stop()


def test_checkpoints_are_kept_where_the_runs_folder_is_shared(tmp_path: Path) -> None:
    evaluator = TwoEpochs(checkpoints_dir=tmp_path / "checkpoints")
    training = SteppedTraining(evaluator, TASK)
    reports = [training.next() for _ in range(3)]
    assert evaluator.seen[0] == tmp_path / "checkpoints"
    assert isinstance(reports[-1], TrainingDone) and reports[-1].files == {}


def test_a_network_is_scored_without_epochs_and_without_files(tmp_path: Path) -> None:
    evaluator = FakeScorer(weights_dir=tmp_path)
    training = SteppedTraining(evaluator, replace(TASK, score=True, train=False))
    report = training.next()
    assert isinstance(report, TrainingDone) and report.files == {} and evaluator.seen == []
    assert report.evaluation.accuracy is None and report.evaluation.scores == {"fake": 0.25}
    both = SteppedTraining(evaluator, replace(TASK, score=True))
    report = [both.next() for _ in range(3)][-1]
    assert isinstance(report, TrainingDone)
    assert (report.evaluation.accuracy, report.evaluation.scores) == (accuracy_of(ARCH), {"fake": 0.25})


def test_an_exception_of_a_training_is_a_report() -> None:
    training = SteppedTraining(TwoEpochs(error=RuntimeError("it does\nnot fit")), TASK)
    assert [training.next() for _ in range(3)][-1] == TrainingFailed(reason="RuntimeError: it does not fit")


def test_a_training_is_given_up_where_it_pauses_and_leaves_no_thread() -> None:
    before = threading.active_count()
    evaluator = TwoEpochs()
    training = SteppedTraining(evaluator, TASK)
    training.next()
    training.stop()
    assert evaluator.seen == [None] and threading.active_count() == before
    SteppedTraining(evaluator, TASK).stop()  # never begun
    assert threading.active_count() == before


@pytest.mark.parametrize("seed", range(5))
def test_workers_that_come_and_go_train_exactly_what_was_asked_for(seed: int) -> None:
    draws = random.Random(seed)
    driver = Driver(make_search(small_space(), FakeEvaluator(), n_trials=20), most=lambda: 4, max_retries=9)
    under_way: dict[str, TrialTask] = {}
    is_over = False
    while under_way or not is_over:
        key = f"{draws.random()}"
        found = Idle.OVER if is_over else driver.dispatcher.ask(key)
        is_over = found is Idle.OVER
        if isinstance(found, TrialTask):
            under_way[key] = found
        assert driver.running() == len(under_way) <= 4
        if under_way and (is_over or draws.random() < 0.6):
            key = draws.choice(list(under_way))
            task = under_way.pop(key)
            if draws.random() < 0.3:
                driver.dispatcher.lost(key, "its node has died")
            else:
                assert not driver.dispatcher.report(key, epoch_result(1, accuracy=0.1))
                assert driver.dispatcher.report(key, trained(task))
    driver.dispatcher.release()
    assert driver.dispatcher.error is None
    assert count_finished(driver.study) == 20 and driver.running() == 0
    rows = [row for row in trial_records(driver.study) if row.outcome is Outcome.TRAINED]
    assert len({row.arch_id for row in rows}) == len(rows) == 20
    assert {row.number for row in driver.rows} == {row.number for row in trial_records(driver.study)}
    assert any("lost its worker: its node has died" in line for line in driver.said)


@pytest.mark.parametrize("seed", range(2))
def test_workers_that_come_and_go_train_and_score_what_an_estimator_needs(seed: int) -> None:
    """Anchors before all others, finalists after them; what a lost worker had is done again."""
    draws, estimator = random.Random(seed), EstimatorSettings(name="zero_cost", anchors=4, finalists=2, checks=2)
    search = make_search(small_space(), FakeEvaluator(), n_trials=14, estimator=estimator)
    driver, under_way, is_over = Driver(search, most=lambda: 3, max_retries=9), dict[str, TrialTask](), False
    while under_way or not is_over:
        key = f"{draws.random()}"
        found = Idle.OVER if is_over else driver.dispatcher.ask(key)
        is_over = found is Idle.OVER
        if isinstance(found, TrialTask):
            under_way[key] = found
        if under_way and (is_over or draws.random() < 0.6):
            key = draws.choice(list(under_way))
            task = under_way.pop(key)
            if draws.random() < 0.3:
                driver.dispatcher.lost(key, "its node has died")
            else:
                report = TrainingDone(evaluation=evaluate_task(FakeEvaluator(), task, None))
                assert driver.dispatcher.report(key, report)
    driver.dispatcher.release()
    assert driver.dispatcher.error is None and driver.running() == 0
    assert (
        is_search_complete(driver.study, estimator, StudySettings(n_trials=14)) and count_finished(driver.study) == 18
    )
    rows = [row for row in trial_records(driver.study) if row.outcome is not Outcome.DUPLICATE]
    assert Counter(row.role for row in rows) == {Role.ANCHOR: 4, None: 10, Role.FINALIST: 2, Role.CHECK: 2}


def test_a_trial_that_costs_too_many_workers_fails_and_the_study_goes_on() -> None:
    driver = Driver(make_search(small_space(), FakeEvaluator(), n_trials=2), max_retries=1)
    first = driver.dispatcher.ask("a")
    driver.dispatcher.lost("a", "killed")
    assert isinstance(first, TrialTask) and driver.running() == 0
    again = driver.dispatcher.ask("b")
    assert again == first
    driver.dispatcher.lost("b", "killed")
    assert [(row.number, row.outcome, row.reason) for row in driver.rows] == [
        (first.number, Outcome.FAILED, f"its worker was killed 2 times; {OUT_OF_MEMORY}")
    ]
    other = driver.dispatcher.ask("c")
    assert isinstance(other, TrialTask) and other.number != first.number
    assert driver.dispatcher.report("c", trained(other))
    assert driver.dispatcher.ask("d") is Idle.OVER and driver.dispatcher.error is None


def test_a_cluster_where_no_worker_begins_is_given_up() -> None:
    driver = Driver(make_search(small_space(), FakeEvaluator(), n_trials=9), max_retries=1)
    for key in "abc":
        assert isinstance(driver.dispatcher.ask(key), TrialTask)
        driver.dispatcher.lost(key, "No module named 'nas'")
    assert driver.dispatcher.ask("d") is Idle.OVER
    assert isinstance(driver.dispatcher.error, NasError)
    assert str(driver.dispatcher.error) == "3 workers in a row were lost without an epoch: No module named 'nas'"
    assert driver.running() == 0


def test_a_machine_that_cannot_train_ends_the_run_and_no_trial() -> None:
    driver = Driver(make_search(small_space(), FakeEvaluator(), n_trials=9))
    first, second = driver.dispatcher.ask("a"), driver.dispatcher.ask("b")
    driver.dispatcher.unfit("No module named 'timm'")
    assert driver.dispatcher.ask("c") is Idle.OVER
    assert isinstance(second, TrialTask) and driver.dispatcher.report("b", epoch_result(1, accuracy=0.1))
    driver.dispatcher.release()
    assert str(driver.dispatcher.error) == "a machine of the cluster cannot train: No module named 'timm'"
    assert isinstance(first, TrialTask)
    assert {driver.study.trials[task.number].state for task in (first, second)} == {TrialState.WAITING}


def test_many_machines_that_die_at_once_are_made_up_for() -> None:
    driver = Driver(make_search(small_space(), FakeEvaluator(), n_trials=9), max_retries=1)
    for key in "abcdef":
        assert isinstance(driver.dispatcher.ask(key), TrialTask)
    for key in "abcdef":
        driver.dispatcher.lost(key, "its node has died")
    assert isinstance(driver.dispatcher.ask("g"), TrialTask) and driver.running() == 1


def test_weights_are_kept_before_the_trial_is_told_and_checkpoints_until_then(tmp_path: Path) -> None:
    evaluator = TwoEpochs(weights_dir=tmp_path / "weights")
    driver = Driver(make_search(small_space(), FakeEvaluator()), evaluator)
    task = driver.dispatcher.ask("a")
    assert isinstance(task, TrialTask)
    report = TrainingDone(evaluation=trained(task).evaluation, files={"x.safetensors": b"abc"})
    assert driver.dispatcher.report("a", report)
    assert (tmp_path / "weights" / "x.safetensors").read_bytes() == b"abc"
    assert evaluator.seen == [("forgotten", task.arch.arch_id)]


def test_trainings_that_fail_or_fall_behind_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(make_search(small_space(), FakeEvaluator(), n_trials=2))
    first, second = driver.dispatcher.ask("a"), driver.dispatcher.ask("b")
    assert isinstance(first, TrialTask) and isinstance(second, TrialTask)
    assert driver.dispatcher.ask("c") is Idle.WAIT
    assert driver.dispatcher.report("a", TrainingFailed(reason="ValueError: no"))
    monkeypatch.setattr(OneWorker, "report_epoch", lambda *_: "10.0% after epoch 1, behind others there")
    assert driver.dispatcher.report("b", epoch_result(1, accuracy=0.1))
    assert [(row.outcome, row.reason) for row in driver.rows] == [
        (Outcome.FAILED, "ValueError: no"),
        (Outcome.STOPPED, "10.0% after epoch 1, behind others there"),
    ]


def test_when_nothing_is_left_to_ask_for_what_is_under_way_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(make_search(small_space(), FakeEvaluator()))
    task = driver.dispatcher.ask("a")
    monkeypatch.setattr(OneWorker, "ask", lambda _: (_ for _ in ()).throw(NasError("all points have been tried")))
    assert driver.dispatcher.ask("b") is driver.dispatcher.ask("c") is Idle.OVER
    assert isinstance(task, TrialTask) and not driver.dispatcher.report("a", epoch_result(1, accuracy=0.1))
    assert driver.dispatcher.report("a", trained(task))
    assert [row.outcome for row in driver.rows] == [Outcome.TRAINED]
    assert str(driver.dispatcher.error) == "all points have been tried"


def test_a_storage_that_fails_ends_all_trainings_and_nothing_stays_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(make_search(small_space(), FakeEvaluator()))
    first, second = driver.dispatcher.ask("a"), driver.dispatcher.ask("b")
    with monkeypatch.context() as patch:
        patch.setattr(OneWorker, "tell", lambda *_: (_ for _ in ()).throw(NasError("the disk is full")))
        assert isinstance(first, TrialTask) and driver.dispatcher.report("a", trained(first))
        assert driver.dispatcher.report("b", epoch_result(1, accuracy=0.1))
        assert driver.dispatcher.ask("c") is Idle.OVER
    driver.dispatcher.release()
    assert str(driver.dispatcher.error) == "the disk is full"
    assert driver.running() == 0 and count_finished(driver.study) == 0
    assert isinstance(second, TrialTask) and driver.study.trials[second.number].state is TrialState.WAITING
