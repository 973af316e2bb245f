"""Which accuracies differ by more than their noise, when each network was trained with few seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nas.methods.scaling.ranking.studentized_range import studentized_range_sf

SIGNIFICANCE_LEVEL: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Standard deviation of one training's accuracy between seeds, pooled over all networks trained more than once.

    With two or three seeds a network's own deviation is worth nothing; pooled over a dozen it is. ``freedom``: its
    degrees of freedom, repeats minus networks; at 0 nothing is known. ``networks``: how many are compared.
    """

    deviation: float
    freedom: int
    networks: int

    def standard_error(self, seeds: int) -> float | None:
        """Of a mean over ``seeds`` trainings; None if the noise is not known."""
        return self.deviation / math.sqrt(seeds) if self.freedom else None

    def p_value(self, first: Sequence[float], second: Sequence[float]) -> float | None:
        """Probability of means so far apart if all networks were equally good; None if the noise is not known.

        Tukey and Kramer's test: it holds for every pair at once, so that it may be asked of the best of many, which
        was picked for its accuracy. A test of the one pair (Welch's) would call too many differences real.
        """
        apart = sum(first) / len(first) - sum(second) / len(second)
        return self.p_of_difference(apart, 1 / len(first) + 1 / len(second), self.networks)

    def p_of_difference(self, apart: float, variance: float, compared: int) -> float | None:
        """The same of any two of ``compared`` estimates that are ``apart``.

        ``variance``: of the difference, in units of one training's.
        """
        if not self.freedom or compared < 2:
            return None
        spread = self.deviation * math.sqrt(variance / 2)
        if spread == 0:
            return 1.0 if apart == 0 else 0.0
        return studentized_range_sf(abs(apart) / spread, compared, self.freedom)


def pooled_noise(accuracies: Mapping[str, Sequence[float]]) -> Noise:
    """The noise in ``accuracies``, network by network."""
    groups = [values for values in accuracies.values() if values]
    freedom = sum(len(values) - 1 for values in groups)
    squares = sum((value - sum(values) / len(values)) ** 2 for values in groups for value in values)
    deviation = math.sqrt(squares / freedom) if freedom else math.nan
    return Noise(deviation=deviation, freedom=freedom, networks=len(groups))


def is_significant(noise: Noise, first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether two networks differ by more than the noise, at the 5% level; False where the noise is not known."""
    p = noise.p_value(first, second)
    return p is not None and p < SIGNIFICANCE_LEVEL
