"""A training in this process: what was kept to go on with it goes when it is told, and not before."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import TrialState

from nas.arch.spec import ArchSpec
from nas.estimators.base import Evaluation
from nas.study.trial_loop import TrialTask, evaluate_task, run_trial
from nas.study.trial_record import Outcome
from tests.study.fakes import FakeEvaluator, make_search, small_space


def doing(evaluator: FakeEvaluator, monkeypatch: pytest.MonkeyPatch, *, can_tell: bool = True) -> Callable[[], Outcome]:
    """The first training of a search, ready to be done."""
    search = make_search(small_space(), evaluator)
    task = search.ask()
    assert isinstance(task, TrialTask)

    def gone(*_: object, **__: object) -> None:
        raise ConnectionError

    if not can_tell:
        monkeypatch.setattr("nas.study.trial_loop.finish_trial", gone)
    return lambda: run_trial(search, task, evaluator).outcome


def raising(error: BaseException) -> Callable[[int, ArchSpec], None]:
    def trouble(_: int, __: ArchSpec) -> None:
        raise error

    return trouble


def test_a_training_that_was_told_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    for trouble, outcome in ((None, Outcome.TRAINED), (raising(ValueError()), Outcome.FAILED)):
        evaluator = FakeEvaluator(trouble)
        assert doing(evaluator, monkeypatch)() is outcome
        assert len(evaluator.forgotten) == 1


@pytest.mark.parametrize("trouble", [None, raising(ValueError())], ids=["trained", "failed"])
def test_a_training_that_cannot_be_told_is_not_forgotten(
    trouble: Callable[[int, ArchSpec], None] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = FakeEvaluator(trouble)
    with pytest.raises(ConnectionError):
        doing(evaluator, monkeypatch, can_tell=False)()
    assert not evaluator.forgotten


def test_an_interrupted_training_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = FakeEvaluator(raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        doing(evaluator, monkeypatch)()
    assert not evaluator.forgotten


@pytest.mark.parametrize("is_for_good", [False, True])
def test_what_the_storage_raises_is_not_blamed_on_the_network(
    is_for_good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise ConnectionError("storage")

    evaluator = FakeEvaluator(epochs=2)
    search = make_search(small_space(), evaluator)
    task = search.ask()
    assert isinstance(task, TrialTask)
    monkeypatch.setattr(search.study._storage, "set_trial_intermediate_value", away)
    if is_for_good:
        monkeypatch.setattr(search.study._storage, "set_trial_state_values", away)
    with pytest.raises(ConnectionError, match="storage"):
        run_trial(search, task, evaluator)
    assert search.study.trials[0].state is (TrialState.RUNNING if is_for_good else TrialState.WAITING)
    assert "outcome" not in search.study.trials[0].user_attrs and not evaluator.forgotten


class Costly(FakeEvaluator):
    """A training takes 10 CPU-seconds and 20 seconds."""

    def evaluate(self, *args: Any, **kwargs: Any) -> Evaluation:
        return replace(super().evaluate(*args, **kwargs), cpu_s=10.0, duration_s=20.0)


@pytest.mark.parametrize(("trains", "cpu_s", "duration_s"), [(True, 13, 24), (False, 3, 4)])
def test_the_cost_of_a_scored_network_includes_its_scoring(
    trains: bool, cpu_s: float, duration_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = {"process_time": itertools.count(step=3).__next__, "perf_counter": itertools.count(step=4).__next__}
    monkeypatch.setattr("nas.study.trial_loop.time", SimpleNamespace(**clock))
    task = make_search(small_space(), FakeEvaluator()).ask()
    assert isinstance(task, TrialTask)
    found = evaluate_task(Costly(), replace(task, score=True, train=trains), None)
    assert (found.cpu_s, found.duration_s, list(found.scores)) == (cpu_s, duration_s, ["size"])
