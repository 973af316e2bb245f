"""Tests of accuracy estimated from scores and counts, against scikit-learn's Gaussian process and simulations."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import replace

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import DotProduct

from nas.analysis.accuracy_estimate import AccuracyEstimator, TrainedNetwork, leave_one_out
from nas.analysis.bayesian_regression import linear_posterior
from nas.arch.complexity import complexity
from nas.arch.spec import ArchSpec
from nas.core.statistics import kendall_tau
from tests.study.fakes import small_space


def test_the_posterior_is_that_of_a_gaussian_process_with_a_linear_kernel() -> None:
    """A linear model with independent normal weights is a GP with the kernel x . diag(variance) . x'."""
    rng = np.random.default_rng(3)
    design, targets = rng.normal(size=(9, 4)), rng.normal(size=9)
    noise, variance, mean = rng.uniform(0.2, 2.0, 9), np.array([0.5, 0.0, 2.0, 0.1]), rng.normal(size=4)
    found = linear_posterior(design, targets, noise, mean, variance)
    scaled, new = design * np.sqrt(variance), rng.normal(size=(5, 4))
    process = GaussianProcessRegressor(DotProduct(0.0, sigma_0_bounds="fixed"), alpha=noise, optimizer=None)
    process.fit(scaled, targets - design @ mean)
    expected, deviation = process.predict(new * np.sqrt(variance), return_std=True)
    values, variances = found.predict(new)
    np.testing.assert_allclose(values, expected + new @ mean, rtol=1e-9)
    np.testing.assert_allclose(variances, deviation**2, rtol=1e-6)
    assert found.log_evidence == pytest.approx(process.log_marginal_likelihood_value_, rel=1e-9)


def test_without_targets_of_worth_the_posterior_is_the_prior() -> None:
    mean, variance = np.array([1.0, -2.0]), np.array([0.3, 0.7])
    found = linear_posterior(np.eye(2), np.array([5.0, 5.0]), np.array([1e12, 1e12]), mean, variance)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(found.covariance, np.diag(variance), rtol=1e-9)


def networks(count: int, seed: int) -> list[ArchSpec]:
    """Different networks of the small space."""
    space, rng, found = small_space(), random.Random(seed), dict[str, ArchSpec]()
    while len(found) < count:
        arch = space.decode(space.sample(rng))
        found.setdefault(arch.arch_id, arch)
    return list(found.values())


def trained(archs: list[ArchSpec], seed: int, *, worth: float, images: int = 1000) -> list[TrainedNetwork]:
    """Networks whose accuracy depends on nothing but what their score says by the share ``worth``."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=len(archs))
    scores = worth * truth + math.sqrt(1 - worth**2) * rng.normal(size=len(archs))
    accuracies = rng.binomial(images, 1 / (1 + np.exp(-0.5 - 0.4 * truth))) / images
    rows = zip(archs, scores, accuracies, strict=True)
    return [
        TrainedNetwork(arch=arch, scores={"score": float(score)}, accuracy=float(accuracy), images=images)
        for arch, score, accuracy in rows
    ]


ARCHS = networks(40, seed=0)


def mean_tau(worth: float, *, left_out: bool) -> tuple[float, float]:
    """Kendall's tau of estimates with accuracies, and the standard error of the mean over 40 draws."""
    taus = []
    for seed in range(40):
        known = trained(random.Random(seed).sample(ARCHS, 24), seed, worth=worth)
        anchors, others = known[:8], known[8:]
        if left_out:
            estimates, others = leave_one_out(anchors, ["score"]), anchors
        else:
            estimator = AccuracyEstimator.fit(anchors, ["score"])
            estimates = [estimator.estimate(one.arch, one.scores) for one in others]
        taus.append(kendall_tau([one.accuracy for one in estimates], [one.accuracy for one in others]))
    return statistics.fmean(taus), statistics.stdev(taus) / math.sqrt(len(taus))


def test_a_score_of_worth_orders_networks_and_one_of_none_does_not() -> None:
    high, _ = mean_tau(0.9, left_out=False)
    none, error = mean_tau(0.0, left_out=False)
    assert abs(none) < 3 * error
    # tau of two normal variables with correlation r is 2 / pi * asin(r): 0.71; binomial noise lowers r to 0.9 * 0.985.
    assert 0.55 < high < 0.72


def test_an_estimate_that_leaves_a_network_out_is_hardly_biased() -> None:
    """With the mean left to the others it would be -0.28 on average, 3 standard errors beyond what is allowed here."""
    tau, error = mean_tau(0.0, left_out=True)
    assert tau > -0.05 - 2 * error


@pytest.mark.parametrize("with_losses", [False, True])
def test_the_error_covers_the_accuracy_of_other_networks(with_losses: bool) -> None:
    """Between a half and 1.3 of what is said, as eight networks can tell; the noise of the images comes on top."""
    deviations = []
    for seed in range(20):
        known = trained(ARCHS[:24], seed, worth=0.8)
        if with_losses:  # those of the expected accuracy, without noise
            truth = np.random.default_rng(seed).normal(size=24)
            known = [replace(one, loss=math.exp(-0.2 * value)) for one, value in zip(known, truth, strict=True)]
        estimator = AccuracyEstimator.fit(known[:8], ["score"])
        for one in known[8:]:
            accuracy, error = estimator.estimate(one.arch, one.scores)
            binomial = math.sqrt(accuracy * (1 - accuracy) / 1000)
            deviations.append((one.accuracy - accuracy) / math.hypot(error, binomial))
    assert 0.5 < math.sqrt(statistics.fmean(value**2 for value in deviations)) < 1.3


def test_estimates_do_not_depend_on_the_unit_of_a_score() -> None:
    known = trained(ARCHS[:12], 1, worth=0.7)
    other = [replace(one, scores={"score": 1e6 + 250 * one.scores["score"]}) for one in known]
    first, second = (AccuracyEstimator.fit(rows[:8], ["score"]) for rows in (known, other))
    for one, same in zip(known, other, strict=True):
        assert first.estimate(one.arch, one.scores) == pytest.approx(second.estimate(same.arch, same.scores), rel=1e-6)


def test_counts_are_learned_where_scores_say_nothing() -> None:
    """Accuracy grows with MACs alone, the score is the same for all: with 24 trained networks it is found."""

    def accuracy_of(arch: ArchSpec) -> float:
        return 1 / (1 + math.exp(-0.8 * math.log(complexity(arch).macs / 1e6)))

    known = [
        TrainedNetwork(arch=arch, scores={"score": 1.0}, accuracy=accuracy_of(arch), images=1000) for arch in ARCHS
    ]
    estimator = AccuracyEstimator.fit(known[:24], ["score"])
    estimates = [estimator.estimate(one.arch, one.scores).accuracy for one in known[24:]]
    assert kendall_tau(estimates, [one.accuracy for one in known[24:]]) > 0.8


@pytest.mark.parametrize("losses", [(None,) * 6, (0.3, 0.2, 0.25, 0.35, 0.22, 0.31)], ids=["accuracies", "losses"])
@pytest.mark.parametrize("others", [0.0, 0.1, 0.94, 1.0])
def test_equal_accuracies_and_those_of_0_and_1_give_finite_estimates(
    others: float, losses: tuple[float | None, ...]
) -> None:
    drawn = trained(ARCHS[:6], 1, worth=0.5)
    for first in (others, 0.999):
        accuracies = [first, *[others] * 5]
        known = [
            replace(one, accuracy=accuracy, images=None, loss=loss)
            for one, accuracy, loss in zip(drawn, accuracies, losses, strict=True)
        ]
        found = AccuracyEstimator.fit(known, ["score"]).estimate(known[1].arch, known[1].scores)
        for one in (found, *leave_one_out(known, ["score"])):
            assert 0 < one.accuracy < 1 and 0 < one.error < math.inf
        if first == others:
            assert abs(found.accuracy - others) < 0.05 and found.error < 0.1


def test_losses_help_where_few_images_tell_the_accuracy() -> None:
    """Accuracy grows with MACs alone, the score says nothing: 12 networks tell it better by loss than by 400 images."""
    size = np.log([complexity(arch).macs for arch in ARCHS])
    truth = (size - size.mean()) / size.std()
    gains = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        counted = rng.binomial(400, 1 / (1 + np.exp(-1 - 0.2 * truth))) / 400
        known = [
            TrainedNetwork(arch=arch, scores={"score": 1.0}, accuracy=float(accuracy), images=400)
            for arch, accuracy in zip(ARCHS[:12], counted, strict=False)
        ]
        helped = [replace(one, loss=float(np.exp(-0.2 * value))) for one, value in zip(known, truth, strict=False)]
        taus = []
        for rows in (known, helped):
            found = AccuracyEstimator.fit(rows, ["score"])
            estimates = [found.estimate(arch, {"score": 1.0}).accuracy for arch in ARCHS[12:]]
            taus.append(kendall_tau(estimates, list(truth[12:])))
        gains.append(taus[1] - taus[0])
    assert statistics.fmean(gains) > 3 * statistics.stdev(gains) / math.sqrt(len(gains))


def test_losses_that_rise_with_accuracy_are_left_out() -> None:
    known = trained(ARCHS[:8], 3, worth=0.9)
    reverse = [replace(one, loss=one.accuracy) for one in known]
    first, second = (AccuracyEstimator.fit(rows, ["score"]) for rows in (known, reverse))
    assert first.estimate(known[0].arch, known[0].scores) == second.estimate(known[0].arch, known[0].scores)
