"""Expected gain: what one more network is expected to add to a search's result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from nas.analysis.bayesian_regression import FloatArray
from nas.analysis.history import ReferencePoint, hypervolume
from nas.analysis.surrogate.accuracy_model import AccuracyModel
from nas.analysis.surrogate.improvement import front_levels, hypervolume_improvement

Improvement = Callable[[FloatArray], FloatArray]  # of accuracies (draws, M), in [0, 1]: gains (draws, M), at least 0

_DRAWS: Final = 200
_TAIL: Final = 0.05  # on each side of a 90% interval


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedGain:
    """Gain by one more network, in the unit of the ``Improvement``.

    ``best``: expected gain by the best untried network, if it were known which that is; ``low`` to ``high``: its 90%
    interval. An upper bound of what a search's next trial is expected to gain. ``next``: expected gain by the one
    network of which most is expected, with the scatter of a single training's result.
    """

    best: float
    low: float
    high: float
    next: float


def expected_gain(
    model: AccuracyModel,
    design: FloatArray,
    improvement: Improvement,
    *,
    rng: np.random.Generator,
    draws: int = _DRAWS,
) -> ExpectedGain:
    """Expected gain by one of the untried networks.

    ``design``: their standardised features (M, P). ``model``: with a noise that was chosen by its likelihood
    (``AccuracyModel.fit(..., noise=None)``): with less, gains are over-estimated. ``improvement``: see
    ``hypervolume_gain`` and ``reward_gain``. All gains are 0 without candidates.

    ``best`` is the mean over ``draws`` samples of the posterior of the largest improvement, without the noise of single
    results, of which nothing can be known before a training.
    """
    if not len(design):
        return ExpectedGain(best=0.0, low=0.0, high=0.0, next=0.0)
    scores = model.sample(design, rng, draws)
    best = improvement(model.accuracy_of(scores)).max(axis=1)
    noisy = scores + np.sqrt(model.noise) * rng.standard_normal(scores.shape)
    low, high = np.quantile(best, [_TAIL, 1 - _TAIL]).tolist()
    following = improvement(model.accuracy_of(noisy)).mean(axis=0).max()
    return ExpectedGain(best=float(best.mean()), low=low, high=high, next=float(following))


def hypervolume_gain(accuracies: FloatArray, costs: FloatArray, candidate_costs: FloatArray) -> Improvement:
    """Improvement of the hypervolume as a share of what it is.

    ``accuracies``, ``costs``: (N,), of the networks that were tried, at least one; ``candidate_costs``: (M,). The
    reference point is the lowest accuracy that was found, and the highest cost of all. A share of 0 area is 0.
    """
    lowest, highest = float(accuracies.min()), float(max(costs.max(), candidate_costs.max(initial=0.0)))
    front = front_levels(accuracies, costs, reference_value=lowest, reference_cost=highest)
    area = hypervolume(zip(accuracies, costs, strict=True), ReferencePoint(lowest, highest))
    if area <= 0:
        return np.zeros_like
    return lambda found: hypervolume_improvement(front, found, candidate_costs) / area


def reward_gain(best: float, factors: FloatArray) -> Improvement:
    """Improvement of the ``best`` reward.

    ``factors``: (M,), of accuracy in the reward of each candidate.
    """
    return lambda found: np.clip(found * factors - best, 0.0, None)
