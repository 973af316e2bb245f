"""Tests of the expected gain: closed formulas, and hypervolumes computed anew."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from nas.analysis.history import ReferencePoint, hypervolume
from nas.analysis.surrogate import ExpectedGain, expected_gain, hypervolume_gain, reward_gain
from tests.analysis.surrogate.linear_truth import LinearTruth


def test_the_gain_of_the_hypervolume_is_that_of_the_hypervolume_with_the_network() -> None:
    rng = np.random.default_rng(0)
    found = np.column_stack([rng.uniform(0.4, 0.9, 12), rng.uniform(5, 20, 12)])
    candidates = np.column_stack([rng.uniform(0.3, 1.0, 40), rng.uniform(3, 25, 40)])
    reference = ReferencePoint(float(found[:, 0].min()), float(max(found[:, 1].max(), candidates[:, 1].max())))
    before = hypervolume(map(tuple, found), reference)
    gains = hypervolume_gain(found[:, 0], found[:, 1], candidates[:, 1])(candidates[None, :, 0])[0]
    for candidate, gain in zip(candidates, gains, strict=True):
        after = hypervolume(map(tuple, np.vstack([found, candidate])), reference)
        assert gain == pytest.approx(after / before - 1, abs=1e-12)


def test_networks_that_span_no_area_gain_nothing() -> None:
    improvement = hypervolume_gain(np.array([0.5, 0.5]), np.array([1.0, 2.0]), np.array([1.0]))
    assert improvement(np.array([[0.9]])).tolist() == [[0.0]]


def test_the_next_gain_of_one_candidate_is_its_expected_improvement() -> None:
    model, results = LinearTruth.drawn(3).fitted(60, 3)
    mean, deviation = model.predict(model.scale.transform([results[0].features]))
    best = float(model.accuracy_of(mean)[0])
    gain = expected_gain(
        model,
        model.scale.transform([results[0].features]),
        reward_gain(best, np.ones(1)),
        rng=np.random.default_rng(0),
        draws=20_000,
    )
    # Integrated over the normal distribution of the score.
    certain = math.sqrt(deviation[0] ** 2 - model.noise)
    for found, sigma in ((gain.next, deviation[0]), (gain.best, certain)):
        z = np.linspace(-8, 8, 4001)
        improved = np.clip(model.accuracy_of(mean + sigma * z) - best, 0, None)
        assert found == pytest.approx(np.trapezoid(improved * norm.pdf(z), z), rel=0.03)
    assert gain.low == 0.0 < gain.best < gain.high


def test_the_best_of_more_candidates_gains_more() -> None:
    truth = LinearTruth.drawn(4)
    model, results = truth.fitted(20, 4)
    design = truth.scale.transform([truth.features(one) for one in truth.networks])
    best = max(one.accuracy for one in results)
    few, many = (
        expected_gain(model, design[:count], reward_gain(best, np.ones(count)), rng=np.random.default_rng(0))
        for count in (20, 400)
    )
    assert few.best < many.best and few.next < many.next and 0 <= many.low <= many.best <= many.high


def test_without_candidates_nothing_is_gained() -> None:
    model, _ = LinearTruth.drawn(0).fitted(12, 0)
    none = expected_gain(
        model, np.empty((0, len(model.scale.names))), reward_gain(0.5, np.empty(0)), rng=np.random.default_rng(0)
    )
    assert none == ExpectedGain(best=0.0, low=0.0, high=0.0, next=0.0)
