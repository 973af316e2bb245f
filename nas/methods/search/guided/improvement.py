"""Improvement of a search's result by one more network, in terms of its objective."""

from __future__ import annotations

import numpy as np

from nas.analysis.bayesian_regression import FloatArray
from nas.analysis.surrogate import Improvement, hypervolume_gain, reward_gain
from nas.study.objective import ObjectiveSettings


def improvement_by(
    objective: ObjectiveSettings, accuracies: FloatArray, latencies_ms: FloatArray, candidates_ms: FloatArray
) -> Improvement:
    """Improvement of the hypervolume or of the highest reward by one candidate.

    ``accuracies``, ``latencies_ms``: (N,), of the networks that have a result; ``candidates_ms``: (M,).
    """
    if objective.kind == "pareto":
        return hypervolume_gain(accuracies, latencies_ms, candidates_ms)
    rewards = [objective.reward(*pair) for pair in zip(accuracies, latencies_ms, strict=True)]
    return reward_gain(max(rewards), np.array([objective.reward(1.0, float(one)) for one in candidates_ms]))
