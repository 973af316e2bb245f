"""Tests of the studentized range against SciPy and printed tables."""

from __future__ import annotations

import math

import pytest
from scipy.stats import studentized_range

from nas.analysis.studentized_range import studentized_range_quantile, studentized_range_sf


@pytest.mark.parametrize("groups", [2, 3, 6, 25])
@pytest.mark.parametrize("freedom", [1, 2, 5, 12, 60, 500])
@pytest.mark.parametrize("q", [0.05, 1.0, 3.5, 6.0, 30.0])
def test_the_tail_equals_that_of_scipy(q: float, groups: int, freedom: int) -> None:
    assert studentized_range_sf(q, groups, freedom) == pytest.approx(studentized_range.sf(q, groups, freedom), abs=1e-9)


# Upper 5% points at 10 degrees of freedom: Pearson and Hartley, Biometrika Tables for Statisticians I, table 29.
@pytest.mark.parametrize(("q", "groups"), [(3.151, 2), (3.877, 3), (4.654, 5)])
def test_printed_points_have_their_probability(q: float, groups: int) -> None:
    assert studentized_range_sf(q, groups, 10) == pytest.approx(0.05, abs=1e-4)


def test_ends() -> None:
    assert studentized_range_sf(0.0, 3, 5) == 1.0
    assert studentized_range_sf(1e6, 3, 50) < 1e-200
    assert 0 < studentized_range_sf(1e6, 3, 1) < 1e-5


@pytest.mark.parametrize(("groups", "q"), [(2, 2.7718), (3, 3.3145), (10, 4.4741), (20, 5.0117)])
def test_with_infinite_freedom_it_has_the_published_critical_values(groups: int, q: float) -> None:
    """The last row of the tables of the studentized range, 5%."""
    assert studentized_range_quantile(0.05, groups) == pytest.approx(q, abs=2e-3)
    assert studentized_range_sf(q, groups, math.inf) == pytest.approx(0.05, abs=1e-3)
