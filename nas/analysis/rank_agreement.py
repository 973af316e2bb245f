"""Agreement of estimates with the truth: rank correlation, best found, regret.

Of one value per network, an array ``(N,)`` of estimates and one of true accuracies; larger is better in both. Infinite
values are ranked, NaN is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Values: TypeAlias = Sequence[float] | npt.NDArray[Any]
Statistic: TypeAlias = Callable[[npt.NDArray[np.int64]], float]  # of the networks at these indices, with repetition

_RESAMPLES: Final = 1000
_LEVEL: Final = 0.95
_LEAST_DEFINED: Final = 0.5  # share of resamples without which there is no error


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """A statistic of a sample with its bootstrap error.

    ``std_error``: standard deviation over resamples. ``low``, ``high``: percentile interval. All three are NaN where
    the statistic is undefined for most resamples.
    """

    value: float
    std_error: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ± {self.std_error:.2f}"


def bootstrap(
    statistic: Statistic, count: int, *, resamples: int = _RESAMPLES, level: float = _LEVEL, seed: int = 0
) -> Bootstrap:
    """Bootstrap ``statistic`` over ``count`` networks, drawn with replacement.

    Resamples for which it is NaN are left out. Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
    chapters 6 and 13.
    """
    rng = np.random.default_rng(seed)
    found = np.array([statistic(rng.integers(count, size=count)) for _ in range(resamples)]) if count else np.empty(0)
    found = found[~np.isnan(found)]
    value = statistic(np.arange(count))
    if len(found) < max(2, _LEAST_DEFINED * resamples):
        return Bootstrap(value=value, std_error=math.nan, low=math.nan, high=math.nan)
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Bootstrap(value=value, std_error=float(found.std(ddof=1)), low=low, high=high)


def bootstrap_tau(estimates: Values, truth: Values, *, resamples: int = _RESAMPLES, seed: int = 0) -> Bootstrap:
    """Kendall's tau-b of ``estimates`` with ``truth``, with its bootstrap error.

    Networks drawn twice into a resample are tied with themselves, and such pairs do not count in tau-b.
    """
    first, second = average_ranks(estimates), average_ranks(truth)
    return bootstrap(lambda rows: pairwise_tau(first[rows], second[rows]), len(first), resamples=resamples, seed=seed)


def pairwise_tau(first: Values, second: Values, pairs: npt.NDArray[np.bool_] | None = None) -> float:
    """Kendall's tau-b over all pairs or some.

    ``pairs``: symmetric mask (N, N) of those that count; over all, it equals
    ``nas.core.statistics.kendall_tau``. NaN if undefined: no pairs, or all of them tied in one series.
    """
    x, y = (np.sign(ranks[:, None] - ranks[None, :]) for ranks in (average_ranks(first), average_ranks(second)))
    if pairs is not None:
        x, y = x * pairs, y * pairs
    untied = float(np.abs(x).sum()) * float(np.abs(y).sum())
    return float((x * y).sum()) / math.sqrt(untied) if untied else math.nan


def comparable_pairs(costs: Values, tolerance: float = 0.15) -> npt.NDArray[np.bool_]:
    """Mask (N, N) of the pairs whose ``costs`` differ by at most ``tolerance``.

    The larger of two positive costs is at most 1 + ``tolerance`` times the smaller.
    """
    logs = np.log(np.asarray(costs, dtype=float))
    return np.asarray(np.abs(logs[:, None] - logs[None, :]) <= math.log1p(tolerance) + 1e-12, dtype=np.bool_)


def spearman_rho(first: Values, second: Values) -> float:
    """Spearman's rank correlation; NaN if all values of one series are equal."""
    x, y = (ranks - ranks.mean() for ranks in (average_ranks(first), average_ranks(second)))
    variance = float((x * x).sum()) * float((y * y).sum())
    return float((x * y).sum()) / math.sqrt(variance) if variance else math.nan


def average_ranks(values: Values) -> npt.NDArray[np.float64]:
    """Rank of each value, 1 for the smallest; equal values share their mean rank.

    Raises: ValueError for NaN.
    """
    array = np.asarray(values, dtype=float)
    if np.isnan(array).any():
        raise ValueError("a value to rank is NaN.")
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse.reshape(-1)], dtype=float)


def best_share_found(estimates: Values, truth: Values, share: float = 0.1) -> float:
    """Share of the true best that are among the estimated best.

    Both are the best ``share`` of the networks, rounded, at least one. Where ties leave open which are best, the mean
    over all ways to break them. At random it is ``share``.
    """
    count = max(1, round(share * len(truth)))
    return float((_among_best(estimates, count) * _among_best(truth, count)).sum()) / count


def budget_regret(estimates: Values, truth: Values, costs: Values, budgets: Iterable[float]) -> float:
    """Accuracy lost by choosing the best estimate under a budget of cost.

    Mean over ``budgets``; of each, the best accuracy among networks that cost at most as much, minus that of the
    network with the highest estimate (of several, their mean). Budgets that no network meets are left out; NaN if none
    remains.
    """
    estimate, accuracy, cost = (np.asarray(values, dtype=float) for values in (estimates, truth, costs))
    losses = []
    for budget in budgets:
        feasible = cost <= budget
        if feasible.any():
            chosen = feasible & (estimate == estimate[feasible].max())
            losses.append(float(accuracy[feasible].max() - accuracy[chosen].mean()))
    return float(np.mean(losses)) if losses else math.nan


def _among_best(values: Values, count: int) -> npt.NDArray[np.float64]:
    """Probability (N,) of each to be among the best ``count``, ties broken at random."""
    array = np.asarray(values, dtype=float)
    threshold = np.sort(array)[-count]
    above, tied = array > threshold, array == threshold
    return np.asarray(above + tied * ((count - above.sum()) / tied.sum()), dtype=float)
