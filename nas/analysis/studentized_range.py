"""Studentized range distribution, without loading ``scipy.stats``."""

from __future__ import annotations

import math
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_NODES: Final = 128
_WIDEST: Final = 12.0  # standard deviations: a wider range of normal deviates has a probability below 1e-15
_FARTHEST: Final = 8.5  # standard deviations: the same for a deviate's distance from its mean
_SMALLEST: Final = 1e-300  # positive, for logarithms
_QUANTILE_ERROR: Final = 1e-6  # relative
_MOST_STEPS: Final = 100  # of a root search that takes about ten
_DEVIATIONS: Final = 10.0  # standard errors of the estimated standard deviation, around 1


def studentized_range_sf(q: float, groups: int, freedom: float) -> float:
    """Probability that the studentized range of ``groups`` means exceeds ``q``.

    Tukey's distribution with ``freedom`` degrees of freedom: the range of ``groups`` standard normal deviates over an
    independent estimate ``s`` of their standard deviation, integrated over ``s`` by Gauss-Legendre quadrature. Within
    1e-10 of ``scipy.stats.studentized_range.sf``, whose import takes a second of CPU. Infinite ``freedom``: the
    deviation is known.
    """
    if q <= 0:
        return 1.0
    if math.isinf(freedom):
        return min(1.0, max(0.0, 1 - float(_range_cdf(np.array([q]), groups)[0])))
    reach = _DEVIATIONS / math.sqrt(2 * freedom)
    low, high = max(0.0, 1 - reach), min(1 + reach, _WIDEST / q)
    if high <= low:
        return 0.0
    s, weights = _rule(low, high)
    log_constant = math.log(2) + freedom / 2 * math.log(freedom / 2) - math.lgamma(freedom / 2)
    density = np.exp(log_constant + (freedom - 1) * np.log(s) - freedom * s**2 / 2)
    return min(1.0, max(0.0, float(weights @ (density * (1 - _range_cdf(q * s, groups))))))


@cache
def studentized_range_quantile(level: float, groups: int, freedom: float = math.inf) -> float:
    """The ``q`` that the studentized range exceeds with probability ``level``.

    Its root is found by false position on a logarithmic scale, with the Illinois modification (Dowell and Jarratt
    1971): about ten evaluations, of some milliseconds each.
    """

    def excess(q: float) -> float:
        return math.log(max(studentized_range_sf(q, groups, freedom), _SMALLEST) / level)

    other, last = 0.0, 1.0
    at_other, at_last = -math.log(level), excess(1.0)  # the range is positive with probability 1
    while at_last > 0:
        other, at_other, last = last, at_last, 2 * last
        at_last = excess(last)
    for _ in range(_MOST_STEPS):
        q = last - at_last * (last - other) / (at_last - at_other)
        value, step = excess(q), abs(q - last)
        if value * at_last < 0:
            other, at_other = last, at_last
        else:
            at_other /= 2
        last, at_last = q, value
        if step <= _QUANTILE_ERROR * q or value == 0:
            break
    return last


def _range_cdf(widths: Array, groups: int) -> Array:
    """CDF of the range of ``groups`` standard normal deviates at ``widths`` (W,).

    float64 probabilities (W,).
    """
    lowest, weights = _rule(-_FARTHEST, _FARTHEST)
    density = np.exp(-(lowest**2) / 2) / math.sqrt(2 * math.pi)
    between = _normal_cdf(lowest + widths[:, None]) - _normal_cdf(lowest)
    cdf: Array = groups * between ** (groups - 1) @ (weights * density)
    return cdf


def _normal_cdf(values: Array) -> Array:
    halves = (0.5 * math.erfc(-value / math.sqrt(2)) for value in values.flat)
    return np.fromiter(halves, float, values.size).reshape(values.shape)


def _rule(low: float, high: float) -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights, each (128,), from ``low`` to ``high``."""
    nodes, weights = _unit_rule()
    half = (high - low) / 2
    return low + half * (nodes + 1), half * weights


@cache
def _unit_rule() -> tuple[Array, Array]:
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return nodes, weights
