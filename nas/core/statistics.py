"""Binomial shares and rank correlation, without loading SciPy."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence


def binomial_error(share: float, trials: int) -> float:
    """Standard error of a ``share`` of ``trials``: sqrt(p (1 - p) / n).

    A share of 0 or 1 counts as half a trial away from it: no finite sample makes it certain.
    """
    clipped = min(max(share, 0.5 / trials), 1 - 0.5 / trials)
    return math.sqrt(clipped * (1 - clipped) / trials)


def paired_difference_error(first_only: int, second_only: int, trials: int) -> float:
    """Standard error of the difference of two shares of the same ``trials``.

    ``first_only``, ``second_only``: trials that only one of the two succeeds in. With half a trial added to each cell
    of the 2 x 2 table (Agresti and Min, Statistics in Medicine 24, 2005, "Simple improved confidence intervals for
    comparing matched proportions"): no finite sample makes the difference certain.
    """
    total, difference = trials + 2, first_only - second_only
    return math.sqrt(first_only + second_only + 1 - difference**2 / total) / total


def binomial_tail(successes: int, trials: int, share: float) -> float:
    """Upper tail of a binomial: the probability of at least ``successes``.

    Of ``trials`` independent trials, each with success probability ``share``, in (0, 1).
    """
    if successes <= 0:
        return 1.0
    log_all = math.lgamma(trials + 1)
    return math.fsum(
        math.exp(
            log_all
            - math.lgamma(count + 1)
            - math.lgamma(trials - count + 1)
            + count * math.log(share)
            + (trials - count) * math.log1p(-share)
        )
        for count in range(successes, trials + 1)
    )


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's tau-b of two series of equal length ``(N,)``; 1 is the same order.

    NaN if it is undefined: with fewer than two values, or if all values of one series are equal. Computed by counting
    inversions (Knight, 1966); agrees with ``scipy.stats.kendalltau``, whose import takes a second.
    """
    ordered = sorted(zip(first, second, strict=True))
    pairs = math.comb(len(ordered), 2)
    tied_first, tied_second = _tied_pairs(first), _tied_pairs(second)
    if tied_first == pairs or tied_second == pairs:
        return math.nan
    discordant = 0
    seen: list[float] = []
    for _, value in ordered:
        discordant += len(seen) - bisect_right(seen, value)
        insort(seen, value)
    difference = pairs - tied_first - tied_second + _tied_pairs(ordered) - 2 * discordant
    tau = difference / math.sqrt(pairs - tied_first) / math.sqrt(pairs - tied_second)
    return min(1.0, max(-1.0, tau))


def _tied_pairs(values: Iterable[Hashable]) -> int:
    return sum(math.comb(count, 2) for count in Counter(values).values())
