"""Tests of binomial statistics against SciPy and closed formulas."""

from __future__ import annotations

import pytest
from scipy.stats import binom

from nas.core.binomial import binomial_error, binomial_tail


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
