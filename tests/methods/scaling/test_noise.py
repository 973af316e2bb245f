"""Tests of the noise between seeds against SciPy's Tukey test and figures by hand."""

from __future__ import annotations

import math
import random

import pytest
from scipy.stats import tukey_hsd

from nas.methods.scaling.ranking.noise import is_significant, pooled_noise


def test_p_values_are_those_of_tukey_s_test_where_every_network_has_as_many_seeds() -> None:
    rng = random.Random(0)
    means = {"a": 0.9, "b": 0.91, "c": 0.93, "d": 0.9}
    groups = {name: [rng.gauss(mean, 0.01) for _ in range(4)] for name, mean in means.items()}
    noise, expected = pooled_noise(groups), tukey_hsd(*groups.values()).pvalue
    for row, first in enumerate(groups.values()):
        for column, second in enumerate(groups.values()):
            if row != column:
                assert noise.p_value(first, second) == pytest.approx(expected[row][column], rel=1e-6, abs=1e-9)


def test_unequal_numbers_of_seeds_follow_kramer() -> None:
    groups = {"a": [0.90, 0.92, 0.91], "b": [0.95, 0.96, 0.94, 0.93], "c": [0.93, 0.94]}
    expected = tukey_hsd(*groups.values()).pvalue
    noise = pooled_noise(groups)
    assert noise.p_value(groups["a"], groups["b"]) == pytest.approx(expected[0][1], rel=1e-6)
    assert noise.p_value(groups["b"], groups["c"]) == pytest.approx(expected[1][2], rel=1e-6)


def test_the_deviation_is_pooled_over_networks() -> None:
    noise = pooled_noise({"a": [0.8, 0.9], "b": [0.5], "c": [0.7, 0.7, 0.7]})
    assert noise.freedom == 3 and noise.networks == 3
    # Squares about the means: 2 * 0.05^2 of a, none of b and c.
    assert noise.deviation == pytest.approx(math.sqrt(0.005 / 3))
    assert noise.standard_error(4) == pytest.approx(noise.deviation / 2)


def test_one_seed_each_says_nothing_about_noise() -> None:
    noise = pooled_noise({"a": [0.8], "b": [0.1]})
    assert noise.standard_error(1) is None and noise.p_value([0.8], [0.1]) is None
    assert not is_significant(noise, [0.8], [0.1])


def test_without_any_noise_every_difference_counts() -> None:
    noise = pooled_noise({"a": [0.8, 0.8], "b": [0.7, 0.7]})
    assert is_significant(noise, [0.8, 0.8], [0.7, 0.7]) and not is_significant(noise, [0.8, 0.8], [0.8, 0.8])
