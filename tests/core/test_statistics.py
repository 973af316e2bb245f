"""Tests of binomial statistics and Kendall's tau against SciPy and closed formulas."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, kendalltau

from nas.core.statistics import binomial_error, binomial_tail, kendall_tau

FEW_VALUES = st.integers(0, 4).map(float)  # many ties
ANY_VALUES = st.floats(-1e6, 1e6)


def test_standard_error_is_that_of_a_binomial_share() -> None:
    for share, trials in ((0.5, 100), (0.9, 360), (0.25, 10_000)):
        assert binomial_error(share, trials) == pytest.approx(binom.std(trials, share) / trials)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_no_finite_sample_makes_a_share_certain(share: float) -> None:
    assert binomial_error(share, 50) == pytest.approx(binom.std(50, 0.01) / 50)  # half an image of 50
    assert binomial_error(share, 5_000) < binomial_error(share, 50)


@pytest.mark.parametrize(("successes", "trials", "share"), [(0, 10, 0.1), (3, 10, 0.1), (44, 360, 0.1028), (9, 9, 0.3)])
def test_upper_tail_is_that_of_scipy(successes: int, trials: int, share: float) -> None:
    assert binomial_tail(successes, trials, share) == pytest.approx(binom.sf(successes - 1, trials, share))


@given(st.lists(st.tuples(FEW_VALUES, ANY_VALUES) | st.tuples(FEW_VALUES, FEW_VALUES), min_size=2, max_size=40))
def test_it_is_scipys(pairs: list[tuple[float, float]]) -> None:
    first, second = zip(*pairs, strict=True)
    expected = float(kendalltau(first, second).statistic)
    found = kendall_tau(first, second)
    assert math.isnan(found) if math.isnan(expected) else found == pytest.approx(expected, abs=1e-14)


def test_orders_that_are_the_same_reversed_and_none() -> None:
    assert kendall_tau([1, 2, 3], [10, 20, 30]) == 1.0
    assert kendall_tau([1, 2, 3], [3, 2, 1]) == -1.0
    assert kendall_tau([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(4 / 6)  # five pairs agree, one does not
    assert all(map(math.isnan, (kendall_tau([], []), kendall_tau([1], [1]), kendall_tau([1, 1], [1, 2]))))
