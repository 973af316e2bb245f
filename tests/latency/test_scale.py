"""Tests of the common factor of measured and predicted latencies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from nas.latency.scale import LEAST_NETWORKS, LatencyScale


@pytest.mark.parametrize(
    ("ratios", "is_known", "is_off", "is_common"),
    [
        ([], False, False, False),
        ([0.8, 0.8, 0.8], False, False, False),  # three may be chance
        ([0.87, 0.86, 0.88, 0.85, 0.9, 0.87], True, True, True),
        ([1.3, 1.2, 1.25, 1.35], True, True, True),
        ([0.97, 0.97, 0.98, 0.96, 0.97], True, False, False),  # within the error of a quiet calibration
        ([0.6, 1.1, 0.7, 1.0, 0.8], True, True, False),  # off on average, by different factors
        ([0.8, 1.25, 0.8, 1.25], True, False, False),
    ],
)
def test_a_factor_is_common_where_all_are_off_alike(
    ratios: list[float], is_known: bool, is_off: bool, is_common: bool
) -> None:
    scale = LatencyScale.of(ratios)
    assert (scale.is_known, scale.is_off, scale.is_common) == (is_known, is_off, is_common)
    assert scale.factor == pytest.approx(math.prod(ratios) ** (1 / max(len(ratios), 1)))
    assert (scale.low, scale.high) == (min(ratios, default=1.0), max(ratios, default=1.0))


@pytest.mark.parametrize("networks", [LEAST_NETWORKS, 8])
def test_errors_without_a_common_factor_rarely_look_common(networks: int) -> None:
    """The spread is at most half of the mean exactly if |t| >= 2 sqrt(n), of Student's t with n - 1 degrees."""
    chance = 2 * stats.t.sf(2 * math.sqrt(networks), networks - 1)
    assert chance < 0.03
    draws = np.random.default_rng(0).normal(size=(4000, networks))  # far beyond the smallest correction
    found = sum(LatencyScale.of(np.exp(row).tolist()).is_common for row in draws)
    assert abs(found - 4000 * chance) <= 4 * math.sqrt(4000 * chance) + 1  # four standard deviations of a count
