"""A winner of a search against a baseline: accuracy and latency with their errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from nas.analysis.significance import SIGNIFICANCE_LEVEL, indistinguishable
from nas.core.statistics import binomial_tail
from nas.study.trial_record import BaselineRecord, PairedCounts, TrialRecord

_TWO_SIDED: Final = 1.96  # standard normal deviate at the 5% level
_DEVIATES_OF_INTERVAL: Final = 2 * 1.645  # standard deviations between the ends of a 90% interval


class Relation(StrEnum):
    """How a winner compares with a baseline, as far as it is significant.

    ``better``: more accurate or faster, and not worse in the other. ``equal``: neither differs. ``trade``: better in
    one and worse in the other.
    """

    BETTER = "better"
    WORSE = "worse"
    EQUAL = "equal"
    TRADE = "trade"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineComparison:
    """A winner compared with a baseline.

    ``accuracy``: 1 where the winner is significantly more accurate, -1 where the baseline is, 0 where the noise does
    not separate them. ``speed``: the same of which is faster. ``winner_ms``, ``baseline_ms``: the latencies that were
    compared, ``is_measured`` or predicted ones.
    """

    accuracy: int
    speed: int
    winner_ms: float
    baseline_ms: float
    is_measured: bool

    @classmethod
    def of(cls, winner: TrialRecord, baseline: BaselineRecord, compared: int) -> BaselineComparison:
        """Compare a winner of ``compared`` networks with a baseline, which counts too."""
        row = baseline.row
        is_measured = winner.measured_ms is not None and row.measured_ms is not None
        winner_ms, winner_error = _latency(winner, measured=is_measured)
        baseline_ms, baseline_error = _latency(row, measured=is_measured)
        difference = baseline_ms - winner_ms
        return cls(
            accuracy=_accuracy_sign(winner, baseline, compared),
            speed=_sign(difference) if abs(difference) > _TWO_SIDED * math.hypot(winner_error, baseline_error) else 0,
            winner_ms=winner_ms,
            baseline_ms=baseline_ms,
            is_measured=is_measured,
        )

    @property
    def relation(self) -> Relation:
        """How the winner compares, in both together."""
        signs = {self.accuracy, self.speed} - {0}
        if len(signs) == 2:
            return Relation.TRADE
        return {(): Relation.EQUAL, (1,): Relation.BETTER, (-1,): Relation.WORSE}[tuple(signs)]


def mcnemar_p_value(counts: PairedCounts) -> float:
    """Exact two-sided p-value that two networks are equally accurate (McNemar, 1947).

    of the images that one network alone classifies correctly, each is as likely to do so.
    """
    images = sum(counts)
    return min(1.0, 2 * binomial_tail(max(counts), images, 0.5)) if images else 1.0


def _accuracy_sign(winner: TrialRecord, baseline: BaselineRecord, compared: int) -> int:
    """Which is significantly more accurate, at the 5% level.

    By McNemar's test with Bonferroni's correction where both were scored image by image, else by Tukey-Kramer.
    """
    counts, row = baseline.paired.get(winner.arch_id), baseline.row
    difference = (winner.ranked_accuracy or 0.0) - (row.ranked_accuracy or 0.0)
    if counts is not None:
        is_known = compared * mcnemar_p_value(counts) < SIGNIFICANCE_LEVEL
        difference = counts.winner_only - counts.baseline_only
    else:
        have_errors = None not in (winner.ranked_error, row.ranked_error)
        is_known = have_errors and not indistinguishable(winner, row, compared)
    return _sign(difference) if is_known else 0


def _latency(row: TrialRecord, *, measured: bool) -> tuple[float, float]:
    """Latency and its standard error in ms, 0 if that is unknown."""
    if measured:
        return row.measured_ms or 0.0, row.measured_error_ms or 0.0
    low, high = row.latency_low_ms, row.latency_high_ms
    error_ms = 0.0 if low is None or high is None else (high - low) / _DEVIATES_OF_INTERVAL
    return row.latency_ms or 0.0, error_ms


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
