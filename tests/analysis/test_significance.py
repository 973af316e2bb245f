"""Tests of the significance of accuracies, against SciPy and simulated experiments."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, norm

from nas.analysis.significance import (
    ChanceLevel,
    accuracy_groups,
    chance_level,
    images_to_separate,
    indistinguishable,
)
from nas.core.statistics import binomial_error
from nas.study.trial_record import Outcome, TrialRecord

IMAGES = 360


def row(number: int, accuracy: float, latency_ms: float = 1.0, images: int = IMAGES) -> TrialRecord:
    return TrialRecord(
        number=number,
        outcome=Outcome.TRAINED,
        arch_id=f"{number}",
        accuracy=accuracy,
        standard_error=binomial_error(accuracy, images),
        latency_ms=latency_ms,
    )


@pytest.mark.parametrize(("first", "second"), [(0.95, 0.915), (0.95, 0.905), (0.6, 0.52), (0.6, 0.53)])
def test_of_two_networks_the_test_is_the_normal_one(first: float, second: float) -> None:
    """With two groups Tukey's test is the two-sided z-test of a difference of two shares."""
    deviation = math.sqrt((first * (1 - first) + second * (1 - second)) / IMAGES)
    p = 2 * norm.sf((first - second) / deviation)
    assert indistinguishable(row(0, first), row(1, second), 2) == (p >= 0.05)


def test_more_networks_need_a_larger_difference() -> None:
    first, second = row(0, 0.95), row(1, 0.905)
    assert not indistinguishable(first, second, 2) and indistinguishable(first, second, 12)


def test_groups_have_the_fastest_first_and_differ_between_each_other() -> None:
    rows = [row(0, 0.70, 1.0), row(1, 0.72, 2.0), row(2, 0.955, 3.0), row(3, 0.96, 4.0), row(4, 0.963, 5.0)]
    groups = accuracy_groups(rows, 5)
    assert [[one.number for one in group] for group in groups] == [[0, 1], [2, 3, 4]]
    unknown = [TrialRecord(number=n, outcome=Outcome.TRAINED, accuracy=0.5, latency_ms=1.0) for n in (0, 1)]
    assert [len(group) for group in accuracy_groups(unknown, 2)] == [1, 1]  # no error, no claim


def test_the_stated_number_of_images_finds_the_difference_in_four_of_five_experiments() -> None:
    first, second = 0.90, 0.87
    images = images_to_separate(row(0, first), row(1, second), 2)
    assert images is not None and 1_500 < images < 2_000
    rng, experiments = np.random.default_rng(0), 1_000
    shares = [rng.binomial(images, share, experiments) / images for share in (first, second)]
    found = sum(
        not indistinguishable(row(0, one, images=images), row(1, other, images=images), 2)
        for one, other in zip(*shares, strict=True)
    )
    # The standard deviation of the share found is sqrt(0.8 * 0.2 / 1000) = 0.013.
    assert found / experiments == pytest.approx(0.8, abs=0.05)
    assert images_to_separate(row(0, 0.9), row(1, 0.9), 2) is None


def test_chance_level_is_exceeded_where_a_binomial_test_says_so() -> None:
    chance = ChanceLevel(accuracy=37 / IMAGES, images=IMAGES)
    for compared in (1, 6, 100):
        least = next(n for n in range(IMAGES) if compared * binom.sf(n - 1, IMAGES, 37 / IMAGES) < 0.05)
        assert chance.is_exceeded(least / IMAGES, compared) and not chance.is_exceeded((least - 1) / IMAGES, compared)
    assert not ChanceLevel(accuracy=1.0, images=9).is_exceeded(1.0)


def test_chance_level_is_unknown_where_images_were_not_counted() -> None:
    assert chance_level([row(0, 0.5)]) is None
