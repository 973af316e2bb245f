"""Cross-validation of a model of accuracy: each network predicted from the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from nas.analysis.bayesian_regression import FloatArray
from nas.analysis.rank_agreement import pairwise_tau
from nas.analysis.rank_comparison import RankComparison
from nas.analysis.surrogate.accuracy_model import OWN, AccuracyModel, Evaluated, rank_scores, scores_by_source

MIN_TRAINED: Final = 12
_MOST_PREDICTED: Final = 300  # networks: the others of more are learned from, and not predicted
_PERMUTATIONS: Final = 100
_SIGNIFICANT: Final = 1.96  # standard deviations
_REACH: Final = 1.6449  # standard deviations of a 90% interval on each side


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Prediction of each network by a model that learned from all others.

    ``places``: (n,), of the networks among the results. ``scores`` and ``deviations``: (n,), mean and standard
    deviation of the scores that their results would have; ``targets``: the scores that they have. ``by_chance``:
    standard deviation of Kendall's tau between predictions and results with permuted results.
    """

    places: tuple[int, ...]
    scores: FloatArray
    deviations: FloatArray
    targets: FloatArray
    by_chance: float

    @property
    def covered(self) -> int:
        """How many results lie in the 90% interval of their prediction."""
        return int((abs(self.scores - self.targets) <= _REACH * self.deviations).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossValidation:
    """How well a model predicts networks that it did not learn from.

    ``predicted``, ``low``, ``high``: (n,), accuracies with the ends of their 90% intervals; ``found``: (n,), trained.
    ``comparison``: rank correlations with what was found, of the predictions and of MACs alone; None where all are
    equal. ``covered``: networks inside their interval. ``by_chance``: see ``LeftOut``.
    """

    predicted: FloatArray
    low: FloatArray
    high: FloatArray
    found: FloatArray
    comparison: RankComparison | None
    covered: int
    by_chance: float

    @classmethod
    def of(cls, model: AccuracyModel, results: Sequence[Evaluated], macs: Sequence[float]) -> CrossValidation:
        """Cross-validate ``model`` of ``results``.

        ``macs``: of each result's network.
        """
        left = leave_one_out_scores(model, results)
        low, high = (model.accuracy_of(left.scores + sign * _REACH * left.deviations) for sign in (-1, 1))
        found = np.array([results[place].accuracy for place in left.places])
        # Ranks are those of scores: accuracies are equal where the curve is flat.
        comparison = RankComparison.of(left.scores.tolist(), [macs[place] for place in left.places], found.tolist())
        return cls(
            predicted=model.accuracy_of(left.scores),
            low=low,
            high=high,
            found=found,
            comparison=comparison,
            covered=left.covered,
            by_chance=left.by_chance,
        )

    @property
    def is_ordered(self) -> bool:
        """Whether the model is shown to order networks as their trainings do.

        The bootstrap alone takes predictions for independent of each other, which they are not: models of permuted
        accuracies would be shown to order networks in 10% of all cases instead of 2.5%.
        """
        if self.comparison is None:
            return False
        return self.comparison.estimate.is_positive and self.comparison.estimate.tau > _SIGNIFICANT * self.by_chance

    def __str__(self) -> str:
        count = len(self.found)
        if self.comparison is None:
            return f"Whether the model orders networks is not known: all {count} trained networks are equal."
        verb = "orders" if self.is_ordered else "is not shown to order"
        return (
            f"The model {verb} networks that it did not learn from: Kendall's tau {self.comparison.estimate} between "
            f"the accuracy as predicted from the other networks and as trained, of {count} networks "
            f"(with permuted accuracies: 0 ± {self.by_chance:.2f}). "
            f"{self.comparison.against_macs} {self.covered} of {count} results "
            f"({100 * self.covered / count:.0f}%) are inside their 90% intervals."
        )


def leave_one_out_scores(model: AccuracyModel, results: Sequence[Evaluated]) -> LeftOut:
    """Predict each of the study's own ``results`` from all others, in closed form.

    As ``AccuracyModel.fit`` of the others would, with the noise and the correlations of ``model``. The others are
    ranked anew, so that their scores tell nothing of the one left out: with scores of ranks among all, their mean moves
    away from it, and predictions of no worth would be in reverse order. Of more than 300 networks an evenly spaced
    sample is predicted. Leave-one-out formula: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006,
    equation 5.12, for scores that differ between folds.
    """
    own = [place for place, one in enumerate(results) if one.source == OWN]
    predicted = [own[int(place)] for place in np.linspace(0, len(own) - 1, min(len(own), _MOST_PREDICTED))]
    design, variances = model.design_of(results), model.noise + np.array([one.variance for one in results])
    targets = scores_by_source(results)
    gains = design[predicted] @ model.posterior.covariance @ design.T / variances  # of each result on each prediction
    expected = design @ model.prior_mean
    scores, shares = np.empty(len(predicted)), np.empty(len(predicted))
    for row, place in enumerate(predicted):
        others = [one for one in own if one != place]
        left = targets.copy()
        left[others] = rank_scores(np.array([results[one].accuracy for one in others]))
        shares[row] = 1 - gains[row, place]
        left -= expected
        left[place] = 0.0
        scores[row] = expected[place] + gains[row] @ left / shares[row]
    return LeftOut(
        places=tuple(predicted),
        scores=scores,
        deviations=np.sqrt(variances[predicted] / shares),
        targets=targets[predicted],
        by_chance=_tau_by_chance(
            gains[:, own], targets[own], expected[own], [own.index(place) for place in predicted], shares
        ),
    )


def _tau_by_chance(
    gains: FloatArray, targets: FloatArray, expected: FloatArray, predicted: Sequence[int], shares: FloatArray
) -> float:
    """Standard deviation of tau over permutations of ``targets`` (N,).

    ``gains``: (n, N), and ``expected``: scores before any result (N,), which do not depend on them.
    """
    rng = np.random.default_rng(0)
    permuted = np.array([rng.permutation(targets) for _ in range(_PERMUTATIONS)])
    own = permuted[:, predicted]
    before = expected[predicted]
    found = (permuted - expected) @ gains.T - (own - before) * gains[np.arange(len(predicted)), predicted]
    scores = before + found / shares
    taus = [pairwise_tau(one, truth) for one, truth in zip(scores, own, strict=True)]
    return float(np.nan_to_num(np.std(taus)))
