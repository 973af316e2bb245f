"""Search history against brute force: hypervolume, progress, busy hours, curves."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from nas.analysis.history import ReferencePoint, busy_hours, front_progress, hypervolume, learning_curves
from nas.study.objective import ObjectiveSettings
from nas.study.trial_record import Outcome, TrialRecord, pareto_front

POINTS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=12)


def row(number: int, accuracy: float, latency_ms: float) -> TrialRecord:
    return TrialRecord(number=number, outcome=Outcome.TRAINED, accuracy=accuracy, latency_ms=latency_ms)


@given(POINTS, st.integers(0, 12), st.integers(0, 12))
def test_hypervolume_equals_the_number_of_dominated_unit_cells(
    points: list[tuple[int, int]], worst: int, slowest: int
) -> None:
    cells = sum(
        any(accuracy > low and latency <= left for accuracy, latency in points)
        for low in range(worst, 13)
        for left in range(0, slowest)
    )
    assert hypervolume(points, ReferencePoint(worst, slowest)) == cells


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=2, max_size=15))
def test_steps_equal_the_hypervolume_of_the_front_so_far(points: list[tuple[int, int]]) -> None:
    rows = [row(number, accuracy / 10, latency) for number, (accuracy, latency) in enumerate(points)]
    progress = front_progress(rows, {number: float(number) for number in range(0, len(rows), 2)})
    accuracies, latencies = zip(*[(item.accuracy, item.latency_ms) for item in rows], strict=True)
    reference = ReferencePoint(min(accuracies), max(latencies))
    whole = (max(accuracies) - reference.accuracy) * (reference.latency_ms - min(latencies))
    if not whole:
        assert progress is None
        return
    assert progress is not None and progress.reference == reference
    for step in progress.steps:
        front = pareto_front(rows[: step.trial + 1])
        area = hypervolume([(item.accuracy, item.latency_ms) for item in front], reference)
        assert step.value == pytest.approx(area / whole)
    assert [step.trial for step in progress.timed] == list(range(0, len(rows), 2))
    assert all(
        step.value <= after.value for steps in (progress.steps, progress.timed) for step, after in pairwise(steps)
    )


def test_timed_steps_are_ordered_by_end_time() -> None:
    rows = [row(0, 0.5, 4.0), row(1, 0.9, 2.0), row(2, 0.6, 1.0)]
    progress = front_progress(rows, {0: 3.0, 1: 1.0, 2: 2.0})
    assert progress is not None
    assert [(step.trial, step.hours) for step in progress.timed] == [(1, 1.0), (2, 2.0), (0, 3.0)]
    assert [step.hours for step in progress.steps] == [3.0, 1.0, 2.0]


def test_rewards_give_the_best_so_far() -> None:
    rows = [row(0, 0.5, 4.0), row(1, 0.9, 2.0), row(2, 0.6, 1.0)]
    progress = front_progress(rows, {}, {0: 0.4, 1: 0.7, 2: 0.6})
    assert progress is not None and progress.reference is None and progress.timed == ()
    assert [step.value for step in progress.steps] == [0.4, 0.7, 0.7]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), min_size=1, max_size=8))
def test_busy_hours_count_minutes_with_a_running_trial(spans: list[tuple[int, int]]) -> None:
    zero = datetime(2026, 1, 1)
    trials = [
        create_trial(state=TrialState.COMPLETE, value=0.0, params={}, distributions={}) for _ in range(len(spans))
    ]
    for number, (trial, (start, length)) in enumerate(zip(trials, spans, strict=True)):
        trial.number = number
        trial.datetime_start = zero + timedelta(minutes=start)
        trial.datetime_complete = zero + timedelta(minutes=start + length)
    for number, (start, length) in enumerate(spans):
        ran = sum(
            any(first <= minute < first + minutes for first, minutes in spans) for minute in range(start + length)
        )  # of the minutes before the trial's end
        assert 60 * busy_hours(trials)[number] == pytest.approx(ran)


def test_unfinished_trials_have_no_hours() -> None:
    study = optuna.create_study(storage=optuna.storages.InMemoryStorage())
    study.ask()
    assert busy_hours(study.trials) == {}


def test_learning_curves_are_accuracies_for_every_objective() -> None:
    reward = ObjectiveSettings(kind="mnasnet", target_ms=10.0)
    for objective in (ObjectiveSettings(), reward):
        study = optuna.create_study(storage=optuna.storages.InMemoryStorage())
        accuracies = {1: 0.25, 2: 0.5}
        values = {epoch: objective.values(accuracy, 20.0)[0] for epoch, accuracy in accuracies.items()}
        study.add_trial(create_trial(value=0.0, intermediate_values=values, user_attrs={"latency_ms": 20.0}))
        study.add_trial(create_trial(value=0.0))
        ((number, curve),) = learning_curves(study, objective).items()
        assert number == 0 and [epoch for epoch, _ in curve] == [1, 2]
        assert [accuracy for _, accuracy in curve] == pytest.approx(list(accuracies.values()))
