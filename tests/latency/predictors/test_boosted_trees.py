"""Trees read from LightGBM's text beside LightGBM itself."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest

from nas.latency.predictors.boosted_trees import BoostedTrees


def trained(rows: int = 400, leaves: int = 15, **settings: object) -> lightgbm.Booster:
    """A model of five columns, one of whole numbers and one that is always zero."""
    draw = np.random.default_rng(0)
    features = np.column_stack([draw.normal(size=(rows, 3)), draw.integers(0, 5, rows), np.zeros(rows)])
    target = features[:, 0] * features[:, 1] + np.sin(3 * features[:, 2]) + features[:, 3]
    given = {"num_leaves": leaves, "min_data_in_leaf": 8, "verbosity": -1, "num_threads": 1, **settings}
    return lightgbm.train(given, lightgbm.Dataset(features, target), 40)


def unseen(rows: int) -> np.ndarray:
    draw = np.random.default_rng(1)
    return np.column_stack([2 * draw.normal(size=(rows, 3)), draw.integers(-2, 9, rows), draw.normal(size=rows)])


@pytest.mark.parametrize("objective", ["huber", "regression"])
@pytest.mark.parametrize("leaves", [2, 15, 16, 17, 60])
@pytest.mark.parametrize("rows", [1, 500, 1500])
def test_predictions_are_lightgbms(objective: str, leaves: int, rows: int) -> None:
    booster = trained(leaves=leaves, objective=objective)
    expected = booster.predict(unseen(rows), num_threads=1)
    assert BoostedTrees.parse(booster.model_to_string()).predict(unseen(rows)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("leaves", [3, 15, 16, 17])
def test_rows_that_share_columns_are_predicted_as_merged_rows(leaves: int) -> None:
    booster = trained(leaves=leaves)
    own, shared = unseen(300), unseen(7)[::-1].copy()
    own[:, [1, 3]], shared[:, [0, 2, 4]] = -np.inf, -np.inf
    draw = np.random.default_rng(2)
    rows, columns = draw.integers(0, 300, 900), draw.integers(0, 7, 900)
    merged = np.where(np.isinf(own[rows]), shared[columns], own[rows])
    found = BoostedTrees.parse(booster.model_to_string()).predict_merged(own, shared, rows, columns)
    assert found == pytest.approx(booster.predict(merged, num_threads=1), rel=1e-12)


def test_trees_without_a_split() -> None:
    booster = trained(rows=10)  # too few for two leaves
    found = BoostedTrees.parse(booster.model_to_string()).predict(unseen(3))
    assert found == pytest.approx(booster.predict(unseen(3)))


def test_the_text_is_kept() -> None:
    text = trained().model_to_string()
    assert BoostedTrees.parse(text).text == text


def test_what_is_not_supported_is_refused() -> None:
    draw = np.random.default_rng(0)
    features = draw.integers(0, 8, size=(400, 2)).astype(float)
    given = {"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5, "min_data_per_group": 5, "cat_smooth": 1}
    table = lightgbm.Dataset(features, features[:, 0] % 3 + features[:, 1], categorical_feature=[0])
    with pytest.raises(ValueError, match="categorical splits"):
        BoostedTrees.parse(lightgbm.train(given, table, 5).model_to_string())
    features[::7, 1] = np.nan
    table = lightgbm.Dataset(features, np.nan_to_num(features).sum(axis=1))
    with pytest.raises(ValueError, match="missing values"):
        BoostedTrees.parse(lightgbm.train(given, table, 5).model_to_string())


@pytest.mark.parametrize(
    ("line", "instead"),
    [("left_child=1", "left_child=0"), ("left_child=1", "left_child=99"), ("leaf_value=", "leaf_value=1 ")],
)
def test_a_damaged_tree_is_refused(line: str, instead: str) -> None:
    text = trained().model_to_string()
    assert line in text
    with pytest.raises(ValueError, match="a tree "):
        BoostedTrees.parse(text.replace(line, instead))


@pytest.mark.parametrize("text", ["", "tree", "num_tree_per_iteration=3\nTree=0\nnum_leaves=2"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises((KeyError, ValueError)):
        BoostedTrees.parse(text)
