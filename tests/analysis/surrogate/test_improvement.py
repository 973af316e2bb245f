"""Tests of the hypervolume improvement against areas counted on a grid."""

from __future__ import annotations

import numpy as np

from nas.analysis.bayesian_regression import FloatArray
from nas.analysis.surrogate import front_levels, hypervolume_improvement


def area_on_a_grid(values: FloatArray, costs: FloatArray, cells: int = 200) -> float:
    """Area of [0, 1] x [0, 1] that some point covers: at least its cost, at most its value."""
    centers = (np.arange(cells) + 0.5) / cells
    height = np.array([values[costs <= cost].max(initial=0.0) for cost in centers])
    return float(height.mean())


def test_it_is_the_area_that_a_point_adds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        values, costs = rng.integers(0, 20, (2, 12)) / 20  # on edges of the grid's cells
        new_values, new_costs = rng.integers(0, 20, (2, 8)) / 20
        front = front_levels(values, costs, reference_value=0.0, reference_cost=1.0)
        found = hypervolume_improvement(front, new_values, new_costs)
        before = area_on_a_grid(values, costs)
        after = [
            area_on_a_grid(np.append(values, value), np.append(costs, cost))
            for value, cost in zip(new_values, new_costs, strict=True)
        ]
        np.testing.assert_allclose(found, np.array(after) - before, atol=1e-9)


def test_an_empty_front_is_its_reference() -> None:
    front = front_levels(np.zeros(0), np.zeros(0), reference_value=0.2, reference_cost=4.0)
    np.testing.assert_allclose(hypervolume_improvement(front, np.array([0.7, 0.1]), np.array([3.0, 1.0])), [0.5, 0.0])
    assert front.at(np.array([0.0, 9.0])).tolist() == [0.2, 0.2]


def test_several_samples_at_once() -> None:
    front = front_levels(np.array([0.5]), np.array([1.0]), reference_value=0.0, reference_cost=2.0)
    values = np.array([[0.6, 0.4], [0.5, 0.9]])
    costs = np.array([1.0, 0.5])
    np.testing.assert_allclose(
        hypervolume_improvement(front, values, costs),
        [hypervolume_improvement(front, row, costs) for row in values],
    )
