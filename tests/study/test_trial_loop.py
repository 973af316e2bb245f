"""A training in this process: what was kept to go on with it goes when it is told, and not before."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.trial import TrialState

from nas.arch.spec import ArchSpec
from nas.study.trial_loop import TrialTask, run_trial
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
