"""A common factor of measured and predicted latencies, where all are off alike."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from nas.core.formatting import plural

# With four networks chance alone, without a common factor, meets ``_LARGEST_SPREAD`` in 2.8% of cases (Student's t of
# 4 with 3 degrees of freedom, two-sided), with eight in 0.1%.
LEAST_NETWORKS: Final = 4
_LARGEST_SPREAD: Final = 0.5  # standard deviation of the logarithms, as a share of their mean
_LEAST_CORRECTION: Final = 0.05  # what 95% of networks stay within after a calibration on a quiet machine


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyScale:
    """How far the predictions of a calibration are off, from networks measured since.

    ``factor``: geometric mean of measured / predicted; ``low`` and ``high``: the smallest and the largest of these
    ratios; ``spread``: standard deviation of their logarithms; ``networks``: their number.
    """

    factor: float
    low: float
    high: float
    spread: float
    networks: int

    @classmethod
    def of(cls, ratios: Sequence[float]) -> Self:
        """Scale over ``ratios``: measured / predicted, one per network; 1 without any."""
        logs = [math.log(ratio) for ratio in ratios]
        return cls(
            factor=math.exp(statistics.fmean(logs)) if logs else 1.0,
            low=min(ratios, default=1.0),
            high=max(ratios, default=1.0),
            spread=statistics.stdev(logs) if len(logs) > 1 else 0.0,
            networks=len(logs),
        )

    @property
    def is_known(self) -> bool:
        """Whether there are enough networks to tell a common factor from chance."""
        return self.networks >= LEAST_NETWORKS

    @property
    def is_off(self) -> bool:
        """Whether the predictions are off by more than a quiet calibration's error."""
        return self.is_known and abs(math.log(self.factor)) >= math.log1p(_LEAST_CORRECTION)

    @property
    def is_common(self) -> bool:
        """Whether all are off alike: the spread is small beside the deviation from 1."""
        return self.is_off and self.spread <= _LARGEST_SPREAD * abs(math.log(self.factor))

    def __str__(self) -> str:
        ends = "" if self.networks < 2 else f" ({self.low:.2f} to {self.high:.2f})"
        return f"{plural(self.networks, 'network')} measured {self.factor:.2f} times the prediction{ends}"
