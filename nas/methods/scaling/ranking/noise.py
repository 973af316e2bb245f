"""Significance of accuracy differences when each network has few seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas.analysis.significance import SIGNIFICANCE_LEVEL
from nas.analysis.studentized_range import studentized_range_quantile, studentized_range_sf


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Standard deviation of a training's accuracy between seeds, pooled.

    It is pooled over all networks trained more than once: with two or three seeds a network's own deviation is
    unreliable, over a dozen networks it is not. ``freedom``: its degrees of freedom, trainings minus networks; at 0 the
    noise is unknown. ``networks``: how many are compared.
    """

    deviation: float
    freedom: int
    networks: int

    def standard_error(self, seeds: int) -> float | None:
        """Standard error of a mean over ``seeds`` trainings; None if the noise is unknown."""
        return self.deviation / math.sqrt(seeds) if self.freedom else None

    def p_value(self, first: Sequence[float], second: Sequence[float]) -> float | None:
        """P-value of the difference between two means; None if the noise is unknown.

        The Tukey-Kramer test: it holds for all pairs at once, so that it may be applied to the best of many networks,
        which was selected for its accuracy. A test of the single pair (Welch's) would call too many differences
        significant.
        """
        return self.p_of_difference(_difference(first, second), _variance(first, second), self.networks)

    def critical_difference(self, level: float, variance: float) -> float | None:
        """Smallest significant difference of two means at ``level`` (Tukey-Kramer).

        ``variance``: of the difference, in units of the variance of one training. None if the noise is unknown.
        """
        if not self.freedom or self.networks < 2:
            return None
        quantile = studentized_range_quantile(level, self.networks, self.freedom)
        return quantile * self.deviation * math.sqrt(variance / 2)

    def p_of_difference(self, difference: float, variance: float, compared: int) -> float | None:
        """P-value of the ``difference`` between any two of ``compared`` estimates.

        ``variance``: of the difference, in units of the variance of one training. None if the noise is unknown.
        """
        if not self.freedom or compared < 2:
            return None
        spread = self.deviation * math.sqrt(variance / 2)
        if spread == 0:
            return 1.0 if difference == 0 else 0.0
        return studentized_range_sf(abs(difference) / spread, compared, self.freedom)


def pooled_noise(accuracies: Mapping[str, Sequence[float]]) -> Noise:
    """Pooled noise of ``accuracies``, by network."""
    groups = [values for values in accuracies.values() if values]
    freedom = sum(len(values) - 1 for values in groups)
    squares = sum((value - sum(values) / len(values)) ** 2 for values in groups for value in values)
    deviation = math.sqrt(squares / freedom) if freedom else math.nan
    return Noise(deviation=deviation, freedom=freedom, networks=len(groups))


def is_significant(
    noise: Noise, first: Sequence[float], second: Sequence[float], level: float = SIGNIFICANCE_LEVEL
) -> bool:
    """Whether two networks differ significantly at ``level``.

    False where the noise is unknown.
    """
    critical = noise.critical_difference(level, _variance(first, second))
    return critical is not None and abs(_difference(first, second)) > critical


def _difference(first: Sequence[float], second: Sequence[float]) -> float:
    return sum(first) / len(first) - sum(second) / len(second)


def _variance(first: Sequence[float], second: Sequence[float]) -> float:
    """Variance of the difference of two means, in units of that of one training."""
    return 1 / len(first) + 1 / len(second)
