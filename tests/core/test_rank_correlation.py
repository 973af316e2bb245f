"""Kendall's tau beside SciPy's."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from nas.core.rank_correlation import kendall_tau

FEW_VALUES = st.integers(0, 4).map(float)  # many ties
ANY_VALUES = st.floats(-1e6, 1e6)


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
