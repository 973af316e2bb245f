"""Tests of the check of an estimator, against SciPy's tau and bootstrap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import bootstrap, kendalltau

from nas.analysis.estimator_check import EstimatorCheck
from nas.study.trial_record import Outcome, Role, TrialRecord

ROLES = [*[Role.ANCHOR] * 8, *[Role.FINALIST] * 6, *[Role.CHECK] * 6]


def rows(estimates: list[float], macs: list[float], accuracies: list[float]) -> list[TrialRecord]:
    values = zip(ROLES, estimates, macs, accuracies, strict=False)
    trained = [
        TrialRecord(
            number=number,
            outcome=Outcome.TRAINED,
            arch_id=f"id{number}",
            role=role,
            accuracy=accuracy,
            estimated_accuracy=estimate,
            estimate_error=0.02,
            macs_m=cost,
            latency_ms=1.0,
        )
        for number, (role, estimate, cost, accuracy) in enumerate(values)
    ]
    scored = TrialRecord(
        number=99, outcome=Outcome.SCORED, arch_id="scored", estimated_accuracy=0.1, macs_m=1.0, latency_ms=1.0
    )
    return [*trained, scored]


def drawn(seed: int, worth: float, worth_of_macs: float) -> tuple[list[float], list[float], list[float]]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=20)

    def like(share: float) -> list[float]:
        values = share * truth + np.sqrt(1 - share**2) * rng.normal(size=20)
        return [float(value) for value in 0.6 + 0.05 * values]

    return like(worth), like(worth_of_macs), [float(value) for value in 0.6 + 0.05 * truth]


def test_tau_and_its_interval_are_those_of_scipy() -> None:
    estimates, macs, accuracies = drawn(1, 0.8, 0.4)
    check = EstimatorCheck.of(rows(estimates, macs, accuracies))
    assert check and check.comparison
    compared = check.comparison
    assert compared.estimate.tau == pytest.approx(kendalltau(estimates, accuracies).statistic)
    assert compared.macs.tau == pytest.approx(kendalltau(macs, accuracies).statistic)
    assert compared.advantage.tau == pytest.approx(compared.estimate.tau - compared.macs.tau)
    found = bootstrap(
        (estimates, accuracies),
        lambda first, second: kendalltau(first, second).statistic,
        paired=True,
        vectorized=False,
        n_resamples=1000,
        method="percentile",
        rng=0,
    ).confidence_interval
    # The ends of two intervals of 1,000 resamples differ: the density of tau is about 0.5 there, so that the standard
    # error of each end is sqrt(0.025 * 0.975 / 1000) / 0.5 = 0.01.
    assert compared.estimate.low == pytest.approx(found.low, abs=0.06)
    assert compared.estimate.high == pytest.approx(found.high, abs=0.06)


def test_losses_are_compared_where_all_networks_have_one() -> None:
    estimates, macs, accuracies = drawn(1, 0.8, 0.4)
    losses = [float(value) for value in np.random.default_rng(7).uniform(size=20)]
    known = [replace(row, val_loss=loss) for row, loss in zip(rows(estimates, macs, accuracies), losses, strict=False)]
    check = EstimatorCheck.of(known)
    assert check and check.comparison and check.uses_loss
    assert check.comparison.estimate.tau == pytest.approx(-kendalltau(estimates, losses).statistic)
    assert "between the accuracy as estimated before and minus the validation loss after training, of 20" in str(check)
    assert (partly := EstimatorCheck.of([replace(known[0], val_loss=None), *known[1:]])) and not partly.uses_loss


def test_an_estimate_that_orders_networks_better_than_macs_is_said_to() -> None:
    check = EstimatorCheck.of(rows(*drawn(1, 0.98, 0.0)))
    assert check and check.is_ordered
    assert str(check).startswith("The estimator ordered the networks: Kendall's tau 0.")
    assert "of 20 trained networks (8 anchors, 6 finalists, 6 drawn at random)" in str(check)
    assert "It did better than MACs alone (" in str(check)


def test_one_that_is_no_better_than_macs_is_not_said_to_be() -> None:
    check = EstimatorCheck.of(rows(*drawn(2, 0.9, 0.9)))
    assert check and check.is_ordered
    assert "It is not shown to be better than counting: MACs alone have 0." in str(check)


def test_one_of_no_worth_is_said_to_be_of_none() -> None:
    check = EstimatorCheck.of(rows(*drawn(5, 0.0, 0.5)))
    assert check and check.comparison and not check.is_ordered
    assert check.comparison.estimate.low < 0 < check.comparison.estimate.high
    assert str(check).startswith("The estimator is not shown to order networks: Kendall's tau ")
    assert "Take the choice among networks that were only scored as no better than by cost (MACs alone: 0." in str(
        check
    )


def test_one_that_reverses_the_order_is_said_to() -> None:
    estimates, macs, accuracies = drawn(1, 0.98, 0.0)
    check = EstimatorCheck.of(rows([1 - value for value in estimates], macs, accuracies))
    assert check and str(check).startswith("The estimator orders networks the wrong way round: Kendall's tau -0.")


def test_a_few_or_equal_networks_say_nothing() -> None:
    few = EstimatorCheck.of(rows([0.5, 0.6, 0.7], [1.0, 2.0, 3.0], [0.5, 0.6, 0.7]))
    equal = EstimatorCheck.of(rows([0.5] * 20, [float(n) for n in range(20)], [0.01 * n for n in range(20)]))
    for check in (few, equal):
        assert check and check.comparison is None and not check.is_ordered
        assert str(check).startswith("Whether the estimator orders networks is not known: of ")
    assert EstimatorCheck.of([TrialRecord(number=0, outcome=Outcome.TRAINED, accuracy=0.5, latency_ms=1.0)]) is None
