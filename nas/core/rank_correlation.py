"""Rank correlation of two series, without loading SciPy."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence


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
