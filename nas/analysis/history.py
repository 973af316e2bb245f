"""Search history: hypervolume over trials and hours, and learning curves."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import optuna
from optuna.trial import FrozenTrial

from nas.study.objective import ObjectiveSettings
from nas.study.trial_attributes import told_latency_ms
from nas.study.trial_record import TrialRecord, searched_networks

Curve = tuple[tuple[int, float], ...]  # (epoch, accuracy in [0, 1]), by epoch


class ReferencePoint(NamedTuple):
    """Reference point of a hypervolume.

    Only points better in both objectives contribute. ``accuracy`` in [0, 1], ``latency_ms`` in ms.
    """

    accuracy: float
    latency_ms: float


class ProgressStep(NamedTuple):
    """Value after a trial.

    ``hours``: busy time from the start of the first trial to the end of this one, None if its end is unknown.
    """

    trial: int
    hours: float | None
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontProgress:
    """Progress of a search over its trained trials.

    ``steps``: one per trained trial, by number; ``timed``: those with known hours, by hours. Without rewards the
    ``value`` of a step is the hypervolume as a share of the rectangle between ``reference`` and the ideal point (the
    best accuracy and the best latency of all). ``reference`` is None if values are rewards: the highest so far.
    """

    steps: tuple[ProgressStep, ...]
    timed: tuple[ProgressStep, ...]
    reference: ReferencePoint | None


def hypervolume(points: Iterable[tuple[float, float]], reference: ReferencePoint) -> float:
    """Compute the exact hypervolume of ``points``, in accuracy x ms.

    ``points`` are pairs (accuracy, latency in ms). Accuracy is maximised and latency minimised. Points that are not
    better than ``reference`` in both objectives contribute nothing.
    """
    area, best = 0.0, reference.accuracy
    for accuracy, latency_ms in sorted(points, key=lambda point: (point[1], -point[0])):
        if latency_ms >= reference.latency_ms:
            break
        if accuracy > best:
            area += (accuracy - best) * (reference.latency_ms - latency_ms)
            best = accuracy
    return area


def front_progress(
    rows: Sequence[TrialRecord], hours: Mapping[int, float], reward: Mapping[int, float] | None = None
) -> FrontProgress | None:
    """Compute the hypervolume over trials, or with ``reward`` the best reward so far.

    ``hours`` and ``reward`` map trial numbers to the hour at which the trial ended and to its reward. The reference
    point is the lowest accuracy and the highest latency of all trained networks. Returns None with fewer than two
    trained networks, or if they span no area.
    """
    trained = searched_networks(rows)
    if len(trained) < 2:
        return None
    by_time = sorted((row for row in trained if row.number in hours), key=lambda row: (hours[row.number], row.number))
    if reward is not None:
        return FrontProgress(
            steps=_best_rewards(trained, hours, reward), timed=_best_rewards(by_time, hours, reward), reference=None
        )
    points = [accuracy_and_ms(row) for row in trained]
    reference = ReferencePoint(min(accuracy for accuracy, _ in points), max(latency for _, latency in points))
    total = (max(accuracy for accuracy, _ in points) - reference.accuracy) * (
        reference.latency_ms - min(latency for _, latency in points)
    )
    if not total:
        return None
    return FrontProgress(
        steps=_hypervolumes(trained, hours, reference, total),
        timed=_hypervolumes(by_time, hours, reference, total),
        reference=reference,
    )


def busy_hours(trials: Iterable[FrozenTrial]) -> dict[int, float]:
    """Map trial numbers to busy hours from the first trial's start to the trial's end.

    Time without a running trial does not count, such as an interruption overnight. Trials that have not ended are
    omitted.
    """
    spans = [
        (trial.datetime_start, trial.datetime_complete, trial.number)
        for trial in trials
        if trial.datetime_start and trial.datetime_complete
    ]
    ends = dict.fromkeys((end for _, end, _ in sorted(spans)), 0.0)
    busy: list[tuple[datetime, datetime]] = []  # disjoint intervals with a running trial, in order
    for start, end, _ in sorted(spans):
        if busy and start <= busy[-1][1]:
            busy[-1] = (busy[-1][0], max(end, busy[-1][1]))
        else:
            busy.append((start, end))
    elapsed_s = [0.0]  # busy time before each interval
    for start, end in busy:
        elapsed_s.append(elapsed_s[-1] + (end - start).total_seconds())
    starts = [start for start, _ in busy]
    for time in ends:
        index = bisect_right(starts, time) - 1
        ends[time] = (elapsed_s[index] + (time - starts[index]).total_seconds()) / 3600
    return {number: ends[end] for _, end, number in spans}


def learning_curves(study: optuna.Study, objective: ObjectiveSettings) -> dict[int, Curve]:
    """Map trial numbers to the recorded accuracy after each epoch.

    The study stores intermediate values of the first objective; a reward is converted back to accuracy.
    """
    curves: dict[int, Curve] = {}
    for trial in study.get_trials(deepcopy=False):
        if trial.intermediate_values and "latency_ms" in trial.user_attrs:
            unit = objective.values(1.0, told_latency_ms(trial, objective))[0]
            values = sorted(trial.intermediate_values.items())
            curves[trial.number] = tuple((epoch, value / unit if unit else 0.0) for epoch, value in values)
    return curves


def accuracy_and_ms(row: TrialRecord) -> tuple[float, float]:
    """Return the objectives of a row: (estimated) accuracy in [0, 1], latency in ms."""
    return row.ranked_accuracy or 0.0, row.latency_ms or 0.0


def _hypervolumes(
    rows: Iterable[TrialRecord], hours: Mapping[int, float], reference: ReferencePoint, total: float
) -> tuple[ProgressStep, ...]:
    """Return the hypervolume after each of ``rows`` as a share of ``total``.

    The Pareto front is updated incrementally.
    """
    front: list[tuple[float, float]] = []  # (latency, accuracy), both increasing
    steps, area = [], 0.0
    for row in rows:
        accuracy, latency_ms = accuracy_and_ms(row)
        start = bisect_right(front, (latency_ms, accuracy))
        if not (start and front[start - 1][1] >= accuracy):
            end = start
            while end < len(front) and front[end][1] <= accuracy:
                end += 1
            if start and front[start - 1][0] == latency_ms:
                start -= 1
            front[start:end] = [(latency_ms, accuracy)]  # replaces the points that it dominates
            area = hypervolume(((point[1], point[0]) for point in front), reference)
        steps.append(ProgressStep(row.number, hours.get(row.number), area / total))
    return tuple(steps)


def _best_rewards(
    rows: Iterable[TrialRecord], hours: Mapping[int, float], reward: Mapping[int, float]
) -> tuple[ProgressStep, ...]:
    """Return the highest reward after each of ``rows``."""
    steps, best = [], float("-inf")
    for row in rows:
        best = max(best, reward.get(row.number, float("-inf")))
        steps.append(ProgressStep(row.number, hours.get(row.number), best))
    return tuple(steps)
