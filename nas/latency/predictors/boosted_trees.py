"""LightGBM regression trees evaluated from their text, without LightGBM.

The package takes 1.5 seconds of CPU to load, with pandas and scikit-learn. A fit needs it, and thousands of rows at
once are worth it: it predicts them in a sixth of the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nas.latency.arrays import FloatArray

Indices = npt.NDArray[np.int64]

_MAX_NODES: Final = 1_000_000  # of all trees together, padded to the largest
_MAX_LEAF: Final = 100.0
_MANY_ROWS: Final = 1000
_CATEGORICAL: Final = 1  # bit of a decision type
_MISSING: Final = 0b1100  # bits of a decision type: how missing values are treated, 0 if there were none


@dataclass(frozen=True, slots=True, kw_only=True)
class BoostedTrees:
    """A sum of regression trees with numerical splits.

    ``text``: of LightGBM's ``Booster.model_to_string``. ``columns``: number of features. The rest are arrays of shape
    (trees * nodes,), padded to the nodes of the largest tree: a row goes left if its ``features`` column is at most the
    ``thresholds`` entry. ``left`` and ``right`` are node numbers in the whole array; ``~number`` is the number of a
    leaf, whose value is in ``leaves``. ``roots``: node numbers of shape (trees,).
    """

    text: str
    columns: int
    features: Indices
    thresholds: FloatArray
    left: Indices
    right: Indices
    leaves: FloatArray
    roots: Indices

    @classmethod
    def parse(cls, text: str) -> BoostedTrees:
        """Trees of a model's text.

        Raises: KeyError or ValueError for other text, and for models with splits that are not supported.
        """
        head, *blocks = text.partition("\nend of trees")[0].split("\nTree=")
        header = _fields(head)
        if header.get("num_tree_per_iteration") != "1" or not blocks:
            raise ValueError("not one regression tree per iteration")
        trees = [_fields(block) for block in blocks]
        width = max(len(tree["leaf_value"].split()) for tree in trees)
        if width * len(trees) > _MAX_NODES:
            raise ValueError(f"more than {_MAX_NODES:,} nodes")
        parts = [_tree(tree, width, number * width) for number, tree in enumerate(trees)]
        features, thresholds, left, right, leaves = (np.concatenate(part) for part in zip(*parts, strict=True))
        # LightGBM reads as many characters as these say, without a check; a block lacks its "\nTree=".
        if header["tree_sizes"].split() != [str(len(block) + 6) for block in blocks]:
            raise ValueError("trees of other sizes than the header has")
        return cls(
            text=text,
            columns=int(header["max_feature_idx"]) + 1,
            features=features.astype(np.int64),
            thresholds=thresholds,
            left=left.astype(np.int64),
            right=right.astype(np.int64),
            leaves=leaves,
            roots=np.arange(len(trees)) * width,
        )

    def predict(self, rows: FloatArray) -> FloatArray:
        """Predictions of shape (rows,) for features of shape (rows, columns)."""
        if len(rows) >= _MANY_ROWS:
            return np.asarray(_booster(self.text).predict(rows, num_threads=1))
        nodes = np.broadcast_to(self.roots, (len(rows), len(self.roots)))
        offsets = np.arange(len(rows))[:, None] * rows.shape[1]
        values = np.ascontiguousarray(rows, dtype=np.float64).ravel()
        while (inner := nodes >= 0).any():
            at = np.maximum(nodes, 0)
            goes_left = values[offsets + self.features[at]] <= self.thresholds[at]
            nodes = np.where(inner, np.where(goes_left, self.left[at], self.right[at]), nodes)
        # In LightGBM's order of addition, whose rounding is then the same.
        return np.asarray(np.add.accumulate(self.leaves[~nodes], axis=1)[:, -1])


@lru_cache(maxsize=64)
def _booster(text: str) -> Any:
    """LightGBM's model of ``text``."""
    import lightgbm

    return lightgbm.Booster(model_str=text)


def _fields(block: str) -> dict[str, str]:
    """Values by name of the ``name=value`` lines of ``block``."""
    return {name: value for name, mark, value in (line.partition("=") for line in block.splitlines()) if mark}


def _tree(
    fields: Mapping[str, str], width: int, first: int
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Node and leaf arrays of a tree, each of shape ``(width,)``, padded.

    Split features, thresholds, left and right children, and leaf values.

    ``first``: number of its first node and of its first leaf in the arrays of all trees.
    """
    leaves = _numbers(fields["leaf_value"])
    if (np.abs(leaves) > _MAX_LEAF).any():
        raise ValueError(f"a leaf beyond {_MAX_LEAF:g}, the logarithm of a correction")
    if fields["num_leaves"] != str(len(leaves)) or not len(leaves):
        raise ValueError("a tree whose number of leaves does not match")
    if len(leaves) == 1:  # no split: everything goes to the only leaf
        never = np.full(width, float(~first))
        return np.zeros(width), np.zeros(width), never, never, _padded(leaves, width)
    kinds = _numbers(fields["decision_type"]).astype(int)
    if (kinds & (_CATEGORICAL | _MISSING)).any() or fields.get("is_linear", "0") != "0":
        raise ValueError("categorical splits, missing values and linear leaves are not supported")
    children = [_numbers(fields[name]) for name in ("left_child", "right_child")]
    split, threshold = _numbers(fields["split_feature"]), _numbers(fields["threshold"])
    if {len(part) for part in (kinds, *children, split, threshold)} != {len(leaves) - 1}:
        raise ValueError("a tree whose numbers of nodes and of leaves do not match")
    order = np.arange(len(leaves) - 1)
    if not all((part == np.floor(part)).all() for part in (split, *children)):
        raise ValueError("a feature or a child that is no whole number")
    for child in children:  # LightGBM numbers a node after its parent: no path comes back
        if not np.where(child >= 0, (child > order) & (child < len(order)), ~child.astype(int) < len(leaves)).all():
            raise ValueError("a tree with a child that it does not have")
    left, right = (np.where(child >= 0, child + first, child - first) for child in children)  # ~(leaf + first)
    return (
        _padded(split, width), _padded(threshold, width), _padded(left, width), _padded(right, width),
        _padded(leaves, width),
    )  # fmt: skip


def _numbers(text: str) -> FloatArray:
    numbers = np.array(text.split(), dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("a number that is not finite")
    return numbers


def _padded(values: Sequence[Any] | FloatArray, width: int) -> FloatArray:
    padded = np.zeros(width)
    padded[: len(values)] = values
    return padded
