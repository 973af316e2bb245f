"""Rank correlation of an estimate with the truth, held against that of MACs alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from nas.analysis.bayesian_regression import FloatArray
from nas.analysis.rank_agreement import Values, average_ranks

_RESAMPLES: Final = 1000
_TAIL: Final = 0.025  # on each side of a 95% interval


class RankCorrelation(NamedTuple):
    """Kendall's tau-b with its 95% bootstrap interval; or a difference of two."""

    tau: float
    low: float
    high: float

    @property
    def is_positive(self) -> bool:
        """Whether it is significantly above 0."""
        return self.low > 0

    def __str__(self) -> str:
        return f"{self.tau:.2f} (95% bootstrap interval {self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankComparison:
    """Rank correlations of an estimate and of MACs with the truth.

    ``advantage``: that of the ``estimate`` minus that of ``macs``, by the same resamples of networks.
    """

    estimate: RankCorrelation
    macs: RankCorrelation
    advantage: RankCorrelation

    @classmethod
    def of(cls, estimates: Sequence[float], macs: Sequence[float], truth: Sequence[float]) -> RankComparison | None:
        """Compare series of one value per network.

        None where all networks are equal in one of them. Resamples in which they are have no tau, and are left out.
        """
        count, rng = len(truth), random.Random(0)
        drawn = np.zeros((_RESAMPLES + 1, count))  # how often each network is in a resample
        drawn[0] = 1.0
        for row in drawn[1:]:
            np.add.at(row, rng.choices(range(count), k=count) if count else [], 1.0)
        first, second = _taus(estimates, truth, drawn), _taus(macs, truth, drawn)
        if not np.isfinite(first[0] - second[0]):
            return None
        defined = np.isfinite(first - second)
        return cls(
            estimate=_with_interval(first[defined]),
            macs=_with_interval(second[defined]),
            advantage=_with_interval((first - second)[defined]),
        )

    @property
    def against_macs(self) -> str:
        """Whether the estimate is better than counting, as a sentence."""
        if self.advantage.is_positive:
            return f"It did better than MACs alone ({self.macs.tau:.2f}; difference {self.advantage})."
        if self.advantage.high < 0:
            return f"It did worse than counting: MACs alone have {self.macs}, the difference is {self.advantage}."
        return (
            f"It is not shown to be better than counting: MACs alone have {self.macs}, the difference is "
            f"{self.advantage}."
        )


def _taus(estimates: Values, truth: Values, counts: FloatArray) -> FloatArray:
    """Tau-b (R,) of resamples with each network ``counts`` (R, N) times.

    NaN where it is undefined. A network drawn twice is tied with itself.
    """
    first, second = (np.sign(ranks[:, None] - ranks) for ranks in (average_ranks(estimates), average_ranks(truth)))
    agreed, untied_first, untied_second = (
        np.einsum("rn,rn->r", counts @ pairs, counts) for pairs in (first * second, abs(first), abs(second))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        taus: FloatArray = agreed / np.sqrt(untied_first * untied_second)
    return taus


def _with_interval(taus: FloatArray) -> RankCorrelation:
    """The first of ``taus``, with the interval of the others."""
    values = np.sort(taus[1:]).tolist()
    low, high = values[int(_TAIL * len(values))], values[int((1 - _TAIL) * len(values)) - 1]
    return RankCorrelation(float(taus[0]), low, high)
