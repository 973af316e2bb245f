"""Standard errors by the jackknife against that of a mean."""

from __future__ import annotations

import numpy as np
import pytest

from nas.training.tasks.jackknife import jackknife_deviations, jackknife_error, jackknife_groups


@pytest.mark.parametrize("size", [1, 5])
def test_of_a_mean_it_is_the_deviation_by_the_root_of_the_number(size: int) -> None:
    values = np.random.default_rng(0).normal(size=20 * size)
    groups = jackknife_groups(len(values))
    error = jackknife_error([float(np.delete(values, rows).mean()) for rows in groups])
    group_means = values.reshape(20, size).mean(1)
    assert error == pytest.approx(group_means.std(ddof=1) / np.sqrt(20))


def test_groups_hold_every_image_once_and_neighbours_together() -> None:
    groups = jackknife_groups(47, 20)
    assert [row for rows in groups for row in rows] == list(range(47))
    assert {len(rows) for rows in groups} == {2, 3}
    assert jackknife_groups(3) == [[0], [1], [2]]
    assert jackknife_groups(0) == []


def test_no_error_of_a_single_group_or_where_nothing_is_left_to_score() -> None:
    assert jackknife_error([0.5]) is None
    assert jackknife_error([0.5, None, 0.7]) is None
    assert jackknife_deviations([0.5]) == jackknife_deviations([0.5, None, 0.7]) == ()


def test_deviations_give_the_error_of_a_paired_difference() -> None:
    """Of two means over the same values it is that of the mean of the differences, however alike the two are."""
    generator = np.random.default_rng(1)
    first = generator.normal(size=20)
    second = first + 0.1 * generator.normal(size=20)
    deviations = [
        np.array(jackknife_deviations([float(np.delete(values, row).mean()) for row in range(20)]))
        for values in (first, second)
    ]
    assert np.linalg.norm(deviations[0]) == pytest.approx(first.std(ddof=1) / np.sqrt(20))
    expected = (first - second).std(ddof=1) / np.sqrt(20)
    assert np.linalg.norm(deviations[0] - deviations[1]) == pytest.approx(expected)
