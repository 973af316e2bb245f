"""Agreement with the truth, against brute force over pairs, SciPy and known distributions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from nas.analysis.rank_agreement import (
    average_ranks,
    best_share_found,
    bootstrap,
    bootstrap_tau,
    budget_regret,
    comparable_pairs,
    pairwise_tau,
    spearman_rho,
)

SERIES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 30)), min_size=2, max_size=12)


def tau_by_counting(pairs: list[tuple[float, float, float, float]]) -> float:
    """Tau-b of pairs (x, x', y, y'): (concordant - discordant) / sqrt(untied in x * untied in y)."""
    concordant = sum((a - b) * (c - d) > 0 for a, b, c, d in pairs)
    discordant = sum((a - b) * (c - d) < 0 for a, b, c, d in pairs)
    untied = sum(a != b for a, b, _, _ in pairs) * sum(c != d for _, _, c, d in pairs)
    return (concordant - discordant) / math.sqrt(untied) if untied else math.nan


@settings(max_examples=50)
@given(SERIES)
def test_correlations_are_those_of_scipy_and_of_counting_pairs(rows: list[tuple[int, int, int]]) -> None:
    first, second, costs = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    if len(set(first)) > 1 and len(set(second)) > 1:
        assert pairwise_tau(first, second) == pytest.approx(kendalltau(first, second).statistic)
        assert spearman_rho(first, second) == pytest.approx(spearmanr(first, second).statistic)
    else:
        assert math.isnan(pairwise_tau(first, second)) and math.isnan(spearman_rho(first, second))
    near = [
        (first[i], first[j], second[i], second[j])
        for i, j in itertools.combinations(range(len(rows)), 2)
        if max(costs[i], costs[j]) <= 1.15 * min(costs[i], costs[j])
    ]
    assert pairwise_tau(first, second, comparable_pairs(costs)) == pytest.approx(tau_by_counting(near), nan_ok=True)


@settings(max_examples=50)
@given(SERIES, st.sampled_from([0.1, 0.34, 0.5]))
def test_the_share_of_the_best_found_is_the_mean_over_all_ways_to_break_ties(
    rows: list[tuple[int, int, int]], share: float
) -> None:
    estimates, truth, _ = zip(*rows[:6], strict=True)
    count = max(1, round(share * len(truth)))

    def best_sets(values: tuple[int, ...]) -> list[set[int]]:
        """Every set of ``count`` rows of which none outside is better than one inside, each as often as any other."""
        sets = [set(chosen) for chosen in itertools.combinations(range(len(values)), count)]
        highest = max(sum(values[row] for row in chosen) for chosen in sets)
        return [chosen for chosen in sets if sum(values[row] for row in chosen) == highest]

    overlaps = [len(a & b) / count for a in best_sets(estimates) for b in best_sets(truth)]
    assert best_share_found(estimates, truth, share) == pytest.approx(sum(overlaps) / len(overlaps))


def test_regret_is_what_the_choice_loses_under_each_budget() -> None:
    truth, costs = [0.7, 0.8, 0.9, 0.85], [1.0, 2.0, 3.0, 4.0]
    assert budget_regret(truth, truth, costs, [1, 2, 3, 4]) == 0
    assert budget_regret([4, 3, 2, 1], truth, costs, [2]) == pytest.approx(0.1)  # takes .7 where .8 is possible
    assert budget_regret([4, 3, 2, 1], truth, costs, [2, 3]) == pytest.approx((0.1 + 0.2) / 2)
    assert budget_regret([1, 1, 1, 1], truth, costs, [3]) == pytest.approx(0.9 - (0.7 + 0.8 + 0.9) / 3)
    assert budget_regret([4, 3, 2, 1], truth, costs, [0.5, 2]) == pytest.approx(0.1)  # nothing costs at most .5
    assert math.isnan(budget_regret(truth, truth, costs, [0.5]))


def test_the_bootstrap_error_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=50)
    found = bootstrap(lambda rows: float(values[rows].mean()), 50, resamples=2000)
    expected = values.std() / math.sqrt(50)  # of the plug-in distribution
    # 2,000 resamples know a standard deviation to 1 / sqrt(2 * 2000), 1.6%: four of these.
    assert found.std_error == pytest.approx(expected, rel=0.064)
    assert found.value == values.mean()
    assert found.low == pytest.approx(found.value - 1.96 * expected, abs=0.5 * expected)
    assert found.high == pytest.approx(found.value + 1.96 * expected, abs=0.5 * expected)


def test_the_bootstrap_error_of_tau_is_that_of_independent_series() -> None:
    """Under independence the variance of tau is 2 (2n + 5) / (9 n (n - 1)) (Kendall, 1938)."""
    n = 60
    rng = np.random.default_rng(1)
    errors = [bootstrap_tau(rng.normal(size=n), rng.normal(size=n), resamples=200).std_error for _ in range(10)]
    expected = math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1)))
    assert np.mean(errors) == pytest.approx(expected, rel=0.1)


def test_a_statistic_without_enough_resamples_has_no_error() -> None:
    assert math.isnan(bootstrap_tau([1.0, 2.0], [1.0, 2.0], resamples=1).std_error)
    undefined = bootstrap_tau([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])
    assert math.isnan(undefined.value) and math.isnan(undefined.low)


def test_infinite_values_are_ranked_and_nan_is_refused() -> None:
    assert average_ranks([-math.inf, 3.0, 3.0, math.inf]).tolist() == [1, 2.5, 2.5, 4]
    with pytest.raises(ValueError, match="NaN"):
        average_ranks([1.0, math.nan])
