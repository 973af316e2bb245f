"""Hypervolume improvement of a front by one more network of known cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas.analysis.bayesian_regression import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontLevels:
    """The best value that a front has at each cost, as a step function.

    ``levels``: (K,), from ``edges[k]`` to ``edges[k + 1]`` of the cost; ``edges``: (K + 1,), ascending, of which the
    first is minus infinity and the last the reference cost.
    """

    edges: FloatArray
    levels: FloatArray

    def at(self, costs: FloatArray) -> FloatArray:
        """The level at ``costs``; beyond the reference cost the last."""
        places = np.searchsorted(self.edges, costs, side="right") - 1
        return self.levels[np.minimum(places, len(self.levels) - 1)]


def front_levels(
    values: FloatArray, costs: FloatArray, *, reference_value: float, reference_cost: float
) -> FrontLevels:
    """Step function of the front of points.

    ``values``: (N,), to be high; ``costs``: (N,), to be low.
    """
    edges, levels = [-np.inf], [reference_value]
    for place in np.lexsort((-values, costs)):
        if values[place] > levels[-1] and costs[place] < reference_cost:
            edges.append(float(costs[place]))
            levels.append(float(values[place]))
    return FrontLevels(edges=np.array([*edges, reference_cost]), levels=np.array(levels))


def hypervolume_improvement(front: FrontLevels, values: FloatArray, costs: FloatArray) -> FloatArray:
    """Hypervolume (..., M) that each point would add to ``front`` alone.

    ``values``: (..., M); ``costs``: (M,). Each interval of the front is as high as the point is above its level, and
    as wide as what lies beyond the point's cost.
    """
    gains = np.zeros(np.shape(values))
    for low, high, level in zip(front.edges[:-1], front.edges[1:], front.levels, strict=True):
        width = np.clip(high - np.maximum(low, costs), 0.0, None)
        gains += width * np.clip(values - level, 0.0, None)
    return gains
