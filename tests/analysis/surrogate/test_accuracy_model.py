"""Tests of the model of accuracy: scores of ranks, a known linear truth, other sources."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau, norm

from nas.analysis.bayesian_regression import FloatArray, linear_posterior
from nas.analysis.surrogate import OWN, AccuracyModel, Evaluated, FeatureScale, rank_scores

NAMES = ("depth", "log_macs", "s0.depth", "s1.depth", "s1.kernel_px")


def networks(count: int, seed: int) -> list[dict[str, float]]:
    table = np.random.default_rng(seed).normal(size=(count, len(NAMES)))
    return [dict(zip(NAMES, row, strict=True)) for row in table]


def truth(rows: list[dict[str, float]], weights: FloatArray) -> FloatArray:
    table = np.array([list(row.values()) for row in rows]).reshape(-1, len(NAMES))
    return 1 / (1 + np.exp(-0.3 * table @ weights))


def evaluated(rows: list[dict[str, float]], accuracies: FloatArray, source: str = OWN) -> list[Evaluated]:
    return [
        Evaluated(features=row, accuracy=float(one), source=source) for row, one in zip(rows, accuracies, strict=True)
    ]


WEIGHTS = np.array([1.0, 2.0, 0.0, -1.0, 0.5])


def test_scores_are_quantiles_and_ties_share_one() -> None:
    found = rank_scores(np.array([0.1, 0.5, 0.3]))
    expected = norm.ppf([1 / 6, 5 / 6, 3 / 6])
    np.testing.assert_allclose(found, expected / expected.std())
    assert len(set(rank_scores(np.array([0.2, 0.2, 0.9])).tolist())) == 2
    top = np.sort(rank_scores(np.arange(20.0), "exponential"))
    assert top[-1] - top[-2] > 3 * (top[1] - top[0])
    assert rank_scores(np.array([0.4, 0.4])).tolist() == [0.0, 0.0]


def test_the_order_of_new_networks_is_learned() -> None:
    rows = networks(300, 0)
    scale = FeatureScale.fit(rows)
    model = AccuracyModel.fit(scale, evaluated(rows[:60], truth(rows[:60], WEIGHTS)))
    mean, deviation = model.predict(scale.transform(rows[60:]))
    assert kendalltau(mean, truth(rows[60:], WEIGHTS)).statistic > 0.9
    assert (deviation > 0).all()


@pytest.mark.parametrize("results", [0, 1, 2])
def test_few_results_leave_the_prior(results: int) -> None:
    rows = networks(50, 1)
    scale = FeatureScale.fit(rows)
    model = AccuracyModel.fit(scale, evaluated(rows[:results], truth(rows[:results], WEIGHTS)), noise=None)
    sampled = model.sample(scale.transform(rows), np.random.default_rng(0), 500)
    assert 0.4 < sampled.std(axis=0).mean() < 2.6
    assert ((model.accuracy_of(sampled) >= 0) & (model.accuracy_of(sampled) <= 1)).all()


def test_samples_have_the_posteriors_moments() -> None:
    rows = networks(80, 2)
    scale = FeatureScale.fit(rows)
    model = AccuracyModel.fit(scale, evaluated(rows[:15], truth(rows[:15], WEIGHTS)), noise=0.1)
    design = scale.transform(rows)
    sampled = model.sample(design, np.random.default_rng(0), 20_000)
    mean, deviation = model.predict(design)
    np.testing.assert_allclose(sampled.mean(axis=0), mean, atol=0.03)
    np.testing.assert_allclose(sampled.var(axis=0) + model.noise, deviation**2, rtol=0.05)


def test_scores_and_accuracies_of_results_convert_both_ways() -> None:
    rows = networks(30, 3)
    accuracies = truth(rows, WEIGHTS)
    model = AccuracyModel.fit(FeatureScale.fit(rows), evaluated(rows, accuracies))
    np.testing.assert_allclose(model.accuracy_of(model.score_of(accuracies)), accuracies)
    beyond = model.accuracy_of(np.array([model.knots[-1] + 0.5, model.knots[0] - 0.5]))
    assert beyond[0] > accuracies.max() and beyond[1] < accuracies.min()


def test_another_source_helps_as_far_as_it_agrees() -> None:
    rows = networks(200, 4)
    scale, new = FeatureScale.fit(rows), rows[100:]
    own = evaluated(rows[:4], truth(rows[:4], WEIGHTS))
    # Another data set: other accuracies in the same order.
    agrees = evaluated(rows[4:100], 0.5 * truth(rows[4:100], WEIGHTS) ** 2, "other data")
    alone, helped = (
        AccuracyModel.fit(scale, results).predict(scale.transform(new))[0] for results in (own, own + agrees)
    )
    actual = truth(new, WEIGHTS)
    assert kendalltau(helped, actual).statistic > 0.85 > kendalltau(alone, actual).statistic


def test_a_source_that_contradicts_is_not_believed() -> None:
    rows = networks(200, 5)
    own = evaluated(rows[:40], truth(rows[:40], WEIGHTS))
    against = evaluated(rows[40:100], truth(rows[40:100], -WEIGHTS), "other data")
    model = AccuracyModel.fit(FeatureScale.fit(rows), own + against)
    assert model.correlations == {"other data": 0.0}
    mean, _ = model.predict(model.scale.transform(rows[100:]))
    assert kendalltau(mean, truth(rows[100:], WEIGHTS)).statistic > 0.85


def test_sources_are_believed_each_by_itself() -> None:
    rows = networks(200, 6)
    own = evaluated(rows[:40], truth(rows[:40], WEIGHTS))
    good = evaluated(rows[40:80], truth(rows[40:80], WEIGHTS), "good")
    bad = evaluated(rows[80:120], truth(rows[80:120], -WEIGHTS), "bad")
    found = AccuracyModel.fit(FeatureScale.fit(rows), own + good + bad).correlations
    assert found["good"] > 0.9 and found["bad"] == 0.0


def test_both_forms_of_the_regression_agree() -> None:
    rng = np.random.default_rng(7)
    design, targets = rng.normal(size=(40, 6)), rng.normal(size=40)
    noise, variance = rng.uniform(0.1, 1, 40), rng.uniform(0.5, 2, 6)
    of_weights = linear_posterior(design, targets, noise, np.full(6, 0.3), variance)
    # A weight without variance and without data is nothing: the form of targets is taken for it.
    of_targets = linear_posterior(
        np.hstack([design, np.zeros((40, 1))]), targets, noise, np.full(7, 0.3), np.append(variance, 0.0)
    )
    np.testing.assert_allclose(of_weights.mean, of_targets.mean[:6])
    np.testing.assert_allclose(of_weights.covariance, of_targets.covariance[:6, :6], atol=1e-12)
    assert of_weights.log_evidence == pytest.approx(of_targets.log_evidence)


def test_results_far_from_the_average_network_are_fitted() -> None:
    # A search has moved: all of its networks are deep and large, and what counts among them is known without noise.
    rows = networks(300, 8)
    scale = FeatureScale.fit(rows)
    searched = [{**row, "depth": row["depth"] / 5 + 3, "log_macs": row["log_macs"] / 5 + 3} for row in rows]
    model = AccuracyModel.fit(scale, evaluated(searched[:80], truth(searched[:80], WEIGHTS)), noise=None)
    mean, _ = model.predict(scale.transform(searched[80:]))
    assert model.noise <= 0.03
    assert kendalltau(mean, truth(searched[80:], WEIGHTS)).statistic > 0.9
