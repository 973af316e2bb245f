"""LightGBM regression trees evaluated from their text, without LightGBM.

The package takes 1.5 seconds of CPU to load, with pandas and scikit-learn; only a fit needs it. Small trees are
evaluated as QuickScorer does (Lucchese et al. 2015, SIGIR, section 3), in NumPy: each node whose condition is false
rules out the leaves on its left, as bits of a mask, and a row falls into the leftmost leaf that is left. Masks of rows
that share features can be combined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nas.latency.arrays import FloatArray, Indices

Masks = npt.NDArray[np.uint16]

_MAX_NODES: Final = 1_000_000  # of all trees together, padded to the largest
_MAX_LEAF: Final = 100.0
_MASK_BITS: Final = 16  # most leaves of trees that are evaluated by masks
_ALL_LEAVES: Final = np.uint16(0xFFFF)
_CHUNK: Final = 65536  # conditions or leaves looked at together: half a MB, which stays in the processor's cache
_CATEGORICAL: Final = 1  # bit of a decision type
_MISSING: Final = 0b1100  # bits of a decision type: how missing values are treated, 0 if there were none
# Number of the lowest bit of a mask.
_LOWEST_BIT: Final = np.array([(mask & -mask).bit_length() - 1 for mask in range(1 << _MASK_BITS)]).astype(np.int8)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafMasks:
    """Trees of at most 16 leaves, as masks of leaves.

    ``features``, ``thresholds``: shape (nodes * trees,), the condition of each node: its column is at most the
    threshold. ``masks``: shape (nodes, trees), the leaves that remain where it is false; bits count the leaves of a
    tree from the left. ``leaves``: shape (trees * 16,), their values in this order.
    """

    features: Indices
    thresholds: FloatArray
    masks: Masks
    leaves: FloatArray

    def reachable(self, rows: FloatArray) -> Masks:
        """Leaves that no condition on ``rows`` rules out, shape (rows, trees).

        A column of minus infinity meets all conditions on it and rules out no leaf.
        """
        parts = []
        for chunk in _chunks(len(rows), len(self.features)):
            met = rows[chunk][:, self.features] <= self.thresholds
            left = np.where(met.reshape(-1, *self.masks.shape), _ALL_LEAVES, self.masks)
            parts.append(np.bitwise_and.reduce(left, axis=1))
        return np.concatenate(parts)

    def sums(self, reachable: Masks) -> FloatArray:
        """Sums over trees of the leftmost leaf of ``reachable``, shape (rows,)."""
        first = np.arange(0, len(self.leaves), _MASK_BITS)
        parts = [
            self.leaves[_LOWEST_BIT[reachable[chunk]] + first].sum(axis=1)
            for chunk in _chunks(len(reachable), len(first))
        ]
        return np.concatenate(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoostedTrees:
    """A sum of regression trees with numerical splits.

    ``text``: of LightGBM's ``Booster.model_to_string``. ``columns``: number of features. The rest are arrays of shape
    (trees * nodes,), padded to the nodes of the largest tree: a row goes left if its ``features`` column is at most the
    ``thresholds`` entry. ``left`` and ``right`` are node numbers in the whole array; ``~number`` is the number of a
    leaf, whose value is in ``leaves``. ``roots``: node numbers of shape (trees,).

    ``masks``: the same trees as masks; None if one has more leaves than those take.
    """

    text: str
    columns: int
    features: Indices
    thresholds: FloatArray
    left: Indices
    right: Indices
    leaves: FloatArray
    roots: Indices
    masks: LeafMasks | None

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
        arrays: dict[str, Any] = {
            "features": features.astype(np.int64),
            "thresholds": thresholds,
            "left": left.astype(np.int64),
            "right": right.astype(np.int64),
            "leaves": leaves,
        }
        return cls(
            text=text,
            columns=int(header["max_feature_idx"]) + 1,
            roots=np.arange(len(trees)) * width,
            masks=_leaf_masks(width=width, **arrays) if width <= _MASK_BITS else None,
            **arrays,
        )

    def predict(self, rows: FloatArray) -> FloatArray:
        """Predictions of shape (rows,) for features of shape (rows, columns)."""
        return self.masks.sums(self.masks.reachable(rows)) if self.masks else self._descend(rows)

    def predict_merged(self, own: FloatArray, shared: FloatArray, rows: Indices, columns: Indices) -> FloatArray:
        """Predictions for ``np.maximum(own[rows], shared[columns])``, shape (rows,).

        ``own``, ``shared``: features, minus infinity in the columns that the other one has. Conditions are evaluated
        once for each of their rows, however often these are merged.
        """
        if self.masks is None:
            return self._descend(np.maximum(own[rows], shared[columns]))
        return self.masks.sums(self.masks.reachable(own)[rows] & self.masks.reachable(shared)[columns])

    def _descend(self, rows: FloatArray) -> FloatArray:
        """Predictions of trees of any size, level by level."""
        nodes = np.broadcast_to(self.roots, (len(rows), len(self.roots)))
        offsets = np.arange(len(rows))[:, None] * rows.shape[1]
        values = np.ascontiguousarray(rows, dtype=np.float64).ravel()
        while (inner := nodes >= 0).any():
            at = np.maximum(nodes, 0)
            goes_left = values[offsets + self.features[at]] <= self.thresholds[at]
            nodes = np.where(inner, np.where(goes_left, self.left[at], self.right[at]), nodes)
        return np.asarray(self.leaves[~nodes].sum(axis=1))


def _chunks(rows: int, columns: int) -> list[slice]:
    """Slices of the ``rows`` of a table that are evaluated at once."""
    step = max(1, _CHUNK // columns)
    return [slice(first, first + step) for first in range(0, max(rows, 1), step)]


def _leaf_masks(
    *, features: Indices, thresholds: FloatArray, left: Indices, right: Indices, leaves: FloatArray, width: int
) -> LeafMasks:
    """Masks of the trees in arrays of ``BoostedTrees``.

    ``width``: nodes to which each is padded.
    """
    shape = len(leaves) // width, width
    trees = np.arange(shape[0])
    children = [child.reshape(shape) for child in (left, right)]
    is_node = [child >= 0 for child in children]
    # Numbers within the tree, of a node or a leaf; those of padding mean nothing and are only kept in range.
    numbers = [
        np.clip(np.where(child >= 0, child, ~child) - trees[:, None] * width, 0, width - 1) for child in children
    ]
    below = np.ones((2, *shape), dtype=np.int64)  # leaves below each child
    for node in reversed(range(width)):  # children come after their parents
        for side in (0, 1):
            child = numbers[side][:, node]
            total = below[0][trees, child] + below[1][trees, child]
            below[side][:, node] = np.where(is_node[side][:, node], total, 1)
    start = np.zeros(shape, dtype=np.int64)  # the leftmost leaf below each node
    reached = np.zeros(shape, dtype=bool)  # false for padding
    reached[:, 0] = True
    ordered = np.zeros((shape[0], _MASK_BITS))
    for node in range(width):
        places = start[:, node], start[:, node] + below[0][:, node]
        for side, place in enumerate(places):
            child, inner = numbers[side][:, node], reached[:, node] & is_node[side][:, node]
            start[trees[inner], child[inner]] = place[inner]
            reached[trees[inner], child[inner]] = True
            outer = reached[:, node] & ~is_node[side][:, node]
            ordered[trees[outer], place[outer]] = leaves.reshape(shape)[trees[outer], child[outer]]
    ruled_out = np.where(reached, ((1 << below[0]) - 1) << start, 0)
    return LeafMasks(
        features=features.reshape(shape).T.ravel(),
        thresholds=thresholds.reshape(shape).T.ravel(),
        masks=(_ALL_LEAVES & ~ruled_out).astype(np.uint16).T.copy(),
        leaves=ordered.ravel(),
    )


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
