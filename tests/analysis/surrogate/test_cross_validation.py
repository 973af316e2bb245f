"""Tests of cross-validation: refits by brute force, known truths, and results without any."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nas.analysis.surrogate import AccuracyModel, CrossValidation, Evaluated, leave_one_out_scores
from nas.core.statistics import kendall_tau
from tests.analysis.surrogate.linear_truth import LinearTruth


@pytest.mark.parametrize("count", [12, 40], ids=["fewer networks than features", "more"])
@pytest.mark.parametrize("has_other", [False, True], ids=["the study alone", "with another source"])
def test_the_closed_form_equals_refits_of_the_others(count: int, has_other: bool) -> None:
    truth = LinearTruth.drawn(1)
    results = truth.results(count, 1)
    results[3] = replace(results[3], accuracy=results[4].accuracy)  # ties share a rank
    if has_other:
        results += [replace(one, source="earlier", variance=0.2) for one in truth.results(count, 2)]
    model = AccuracyModel.fit(truth.scale, results, noise=0.1)
    left = leave_one_out_scores(model, results)
    assert left.places == tuple(range(count))
    for place in left.places:
        others = [one for index, one in enumerate(results) if index != place]
        refitted = AccuracyModel.fit(truth.scale, others, noise=0.1)
        if refitted.correlations == model.correlations:
            score, deviation = refitted.predict(truth.scale.transform([results[place].features]))
            assert left.scores[place] == pytest.approx(score[0], abs=1e-9)
            assert left.deviations[place] == pytest.approx(deviation[0], abs=1e-9)


def test_most_results_of_a_linear_truth_are_inside_their_intervals() -> None:
    checks = []
    for seed in range(8):
        model, results = LinearTruth.drawn(seed).fitted(50, seed)
        checks.append(CrossValidation.of(model, results, [1.0 + place % 7 for place in range(50)]))
    covered = sum(check.covered for check in checks) / (8 * 50)
    # The standard error of a share of 0.9 among 400 independent ones is 0.015; four of them.
    assert covered == pytest.approx(0.9, abs=0.06)
    assert all(check.is_ordered for check in checks)
    assert str(checks[0]).startswith("The model orders networks that it did not learn from: Kendall's tau 0.")
    assert "of 50 networks (with permuted accuracies: 0 ± 0." in str(checks[0])
    assert "It did better than MACs alone (" in str(checks[0])
    assert f"{checks[0].covered} of 50 results" in str(checks[0])


def test_permuted_results_are_not_predicted_either_way() -> None:
    taus, shown = [], 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        truth = LinearTruth.drawn(seed, count=60)
        # Networks that are alike, as at the end of a search: where a mean is learned with the rest, it betrays the one
        # left out, and predictions of no worth are in reverse order.
        chosen = sorted(truth.networks, key=truth.of)[-16:]
        accuracies = rng.permutation(16) / 100
        results = [
            Evaluated(features=truth.features(one), accuracy=float(accuracy))
            for one, accuracy in zip(chosen, accuracies, strict=True)
        ]
        model = AccuracyModel.fit(truth.scale, results, noise=None)
        check = CrossValidation.of(model, results, [float(place) for place in range(16)])
        taus.append(kendall_tau(leave_one_out_scores(model, results).scores.tolist(), accuracies.tolist()))
        shown += check.is_ordered
        if not check.is_ordered:
            assert str(check).startswith("The model is not shown to order networks")
    # The deviation of tau is 0.25 or so with 16 networks; of the mean of 30 it is 0.046, and three of them are 0.14.
    assert float(np.mean(taus)) == pytest.approx(0.0, abs=0.14)
    # At a level of 2.5% the chance of more than four among 30 is 0.1%.
    assert shown <= 4


def test_equal_networks_have_no_order() -> None:
    truth = LinearTruth.drawn(0)
    results = [replace(one, accuracy=0.5) for one in truth.results(12, 0)]
    check = CrossValidation.of(AccuracyModel.fit(truth.scale, results, noise=None), results, [1.0] * 12)
    assert check.comparison is None and not check.is_ordered
    assert str(check) == "Whether the model orders networks is not known: all 12 trained networks are equal."


def test_of_many_networks_a_sample_is_predicted_from_all_others() -> None:
    model, results = LinearTruth.drawn(0, count=700).fitted(650, 0)
    left = leave_one_out_scores(model, results)
    assert len(left.places) == 300 and left.places[0] == 0 and left.places[-1] == 649
    refitted = AccuracyModel.fit(model.scale, results[:-1], noise=model.noise)
    score, _ = refitted.predict(model.scale.transform([results[-1].features]))
    assert left.scores[-1] == pytest.approx(score[0], abs=1e-9)
