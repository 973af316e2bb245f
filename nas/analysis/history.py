"""How a search came along: the front's hypervolume over trials and over hours, and learning curves."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import optuna
from optuna.trial import FrozenTrial

from nas.study.objective import ObjectiveSettings
from nas.study.trial_record import TrialRecord, trained_networks

Curve = tuple[tuple[int, float], ...]  # epoch and accuracy in [0, 1], in the order of the epochs


class ReferencePoint(NamedTuple):
    """The point that hypervolumes are measured from: nothing at or below its accuracy or above its latency counts."""

    accuracy: float
    latency_ms: float


class ProgressStep(NamedTuple):
    """The state after a trial; ``hours`` of work since the first began, None where its end is not known."""

    trial: int
    hours: float | None
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontProgress:
    """How far the best got: ``steps`` after every trained trial by number, ``timed`` those with hours, in their order.

    ``reference``: of the hypervolume, whose ``value`` is the share of the rectangle between it and the best accuracy
    and latency of all; None where the values are rewards.
    """

    steps: tuple[ProgressStep, ...]
    timed: tuple[ProgressStep, ...]
    reference: ReferencePoint | None


def hypervolume(points: Iterable[tuple[float, float]], reference: ReferencePoint) -> float:
    """The area, in accuracy x ms, that ``points`` (accuracy, latency in ms) dominate up to ``reference``; exact.

    Accuracy is to be high and latency low; points that do not beat the reference in both add nothing.
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
    """How the front of ``rows`` grew, or with ``reward`` (by trial number) the highest one; None before two networks.

    ``hours``: by trial number, when each ended. The reference is the lowest accuracy and the highest latency of all
    trained networks.
    """
    trained = trained_networks(rows)
    if len(trained) < 2:
        return None
    by_time = sorted((row for row in trained if row.number in hours), key=lambda row: (hours[row.number], row.number))
    if reward is not None:
        return FrontProgress(
            steps=_highest(trained, hours, reward), timed=_highest(by_time, hours, reward), reference=None
        )
    points = [accuracy_and_ms(row) for row in trained]
    reference = ReferencePoint(min(accuracy for accuracy, _ in points), max(latency for _, latency in points))
    whole = (max(accuracy for accuracy, _ in points) - reference.accuracy) * (
        reference.latency_ms - min(latency for _, latency in points)
    )
    if not whole:
        return None
    return FrontProgress(
        steps=_growth(trained, hours, reference, whole),
        timed=_growth(by_time, hours, reference, whole),
        reference=reference,
    )


def busy_hours(trials: Iterable[FrozenTrial]) -> dict[int, float]:
    """By trial number, hours from the first trial's beginning to each one's end, without those when none ran.

    A search that was interrupted over night took no longer for it.
    """
    spans = [
        (trial.datetime_start, trial.datetime_complete, trial.number)
        for trial in trials
        if trial.datetime_start and trial.datetime_complete
    ]
    ends = dict.fromkeys((end for _, end, _ in sorted(spans)), 0.0)
    covered: list[tuple[datetime, datetime]] = []  # stretches of work, in their order, apart from each other
    for begin, end, _ in sorted(spans):
        if covered and begin <= covered[-1][1]:
            covered[-1] = (covered[-1][0], max(end, covered[-1][1]))
        else:
            covered.append((begin, end))
    before = [0.0]
    for begin, end in covered:
        before.append(before[-1] + (end - begin).total_seconds())
    begins = [begin for begin, _ in covered]
    for moment in ends:
        place = bisect_right(begins, moment) - 1
        ends[moment] = (before[place] + (moment - begins[place]).total_seconds()) / 3600
    return {number: ends[end] for _, end, number in spans}


def learning_curves(study: optuna.Study, objective: ObjectiveSettings) -> dict[int, Curve]:
    """By trial number, the accuracy after each epoch that was written down.

    The value that is kept is the first objective; a reward is turned into its accuracy again.
    """
    found: dict[int, Curve] = {}
    for trial in study.get_trials(deepcopy=False):
        if trial.intermediate_values and "latency_ms" in trial.user_attrs:
            unit = objective.values(1.0, trial.user_attrs["latency_ms"])[0]
            values = sorted(trial.intermediate_values.items())
            found[trial.number] = tuple((epoch, value / unit if unit else 0.0) for epoch, value in values)
    return found


def accuracy_and_ms(row: TrialRecord) -> tuple[float, float]:
    """Where a trained row lies: accuracy in [0, 1] and latency in ms."""
    return row.accuracy or 0.0, row.latency_ms or 0.0


def _growth(
    rows: Iterable[TrialRecord], hours: Mapping[int, float], reference: ReferencePoint, whole: float
) -> tuple[ProgressStep, ...]:
    """The hypervolume after each of ``rows`` as a share of ``whole``, of a front that is kept as it grows."""
    front: list[tuple[float, float]] = []  # latency and accuracy, both rising
    steps, area = [], 0.0
    for row in rows:
        accuracy, latency_ms = accuracy_and_ms(row)
        place = bisect_right(front, (latency_ms, accuracy))
        if not (place and front[place - 1][1] >= accuracy):
            rest = place
            while rest < len(front) and front[rest][1] <= accuracy:
                rest += 1
            if place and front[place - 1][0] == latency_ms:
                place -= 1
            front[place:rest] = [(latency_ms, accuracy)]
            area = hypervolume(((high, slow) for slow, high in front), reference)
        steps.append(ProgressStep(row.number, hours.get(row.number), area / whole))
    return tuple(steps)


def _highest(
    rows: Iterable[TrialRecord], hours: Mapping[int, float], reward: Mapping[int, float]
) -> tuple[ProgressStep, ...]:
    steps, best = [], float("-inf")
    for row in rows:
        best = max(best, reward.get(row.number, float("-inf")))
        steps.append(ProgressStep(row.number, hours.get(row.number), best))
    return tuple(steps)
