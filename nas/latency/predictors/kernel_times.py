"""Kernel time model: a linear law per class, corrected by gradient-boosted trees."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from nas.core.errors import NasError, quoted
from nas.core.validation import check_number
from nas.latency.arrays import FloatArray, Indices
from nas.latency.device import MAX_LANE
from nas.latency.kernels.kernel import (
    FEATURES,
    Context,
    ContextualKernel,
    context_features,
    kernel_class,
    kernel_features,
    kernel_work,
    own_features,
)
from nas.latency.kernels.ort_lowering import Kernel
from nas.latency.predictors.boosted_trees import BoostedTrees

# Chosen on 600 profiled networks, with 158 random and 52 published ones held out: twice as many and larger trees gain
# nothing there. One model for all classes, linear leaves and extra-random trees were worse.
_TREES: Final = 100
_SETTINGS: Final = {
    "objective": "huber", "alpha": 0.1, "learning_rate": 0.12, "num_leaves": 15, "min_data_in_leaf": 8,
    "bagging_fraction": 0.8, "bagging_freq": 1, "feature_fraction": 0.8, "num_threads": 1, "verbosity": -1,
    "deterministic": True, "force_row_wise": True,
}  # fmt: skip
_MIN_KERNELS: Final = 60  # of a class for trees; with fewer, only its law is fitted
_LEAST_US: Final = 0.1
_COEFFICIENTS: Final = 4
_MAX_TREES: Final = 8_000_000  # bytes of the text of trees; 100 trees of 15 leaves have 150,000
ANY_CLASS: Final = "any"  # key of the law for unseen classes


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTimes:
    """Model of kernel times on one processor.

    ``laws``: by class, microseconds per 10^6 multiply-adds, per 10^6 bytes of activations and of weights, and per call.
    ``trees``: by class, the correction of the logarithm of the law's time. ``lane``: channels of one block.
    """

    lane: int
    laws: Mapping[str, tuple[float, ...]]
    trees: Mapping[str, BoostedTrees]

    def has(self, name: str) -> bool:
        """Whether kernels of the class ``name`` were measured: it has a law of its own."""
        return name in self.laws

    def microseconds(self, kernels: Sequence[ContextualKernel]) -> FloatArray:
        """Times of kernels in their contexts in microseconds, float64, shape (kernels,)."""
        numbers: dict[Kernel, int] = {}
        contexts: dict[Context, int] = {}
        rows = [numbers.setdefault(kernel, len(numbers)) for kernel, _ in kernels]
        columns = [contexts.setdefault(context, len(contexts)) for _, context in kernels]
        return self.in_contexts(list(numbers), list(contexts), np.array(rows), np.array(columns))

    def in_contexts(
        self, kernels: Sequence[Kernel], contexts: Sequence[Context], rows: Indices, columns: Indices
    ) -> FloatArray:
        """Microseconds of ``kernels[rows]`` in ``contexts[columns]``.

        Float64, shape (rows,). Features are computed once per kernel and per context, and the trees of a class are
        evaluated in one call.
        """
        surroundings = context_features(contexts)
        times = np.empty(len(rows))
        position = np.empty(len(kernels), dtype=np.int64)  # of a kernel within its class
        for name, members in _by_class(kernels).items():
            position[:] = -1
            position[members] = np.arange(len(members))
            pairs = np.flatnonzero(position[rows] >= 0)
            own = position[rows[pairs]]
            of_class = [kernels[member] for member in members]
            law = np.array(self.laws.get(name, self.laws[ANY_CLASS]))
            times[pairs] = (_terms(of_class, self.lane) * law).sum(axis=1)[own]
            if name in self.trees:
                features = own_features(of_class, self.lane)
                times[pairs] *= np.exp(self.trees[name].predict_merged(features, surroundings, own, columns[pairs]))
        return np.maximum(times, _LEAST_US)

    def to_dict(self) -> dict[str, Any]:
        """The model as plain data.

        Trees are in LightGBM's text format, compressed to a fifth of its size.
        """
        trees = {name: _packed(trees.text) for name, trees in self.trees.items()}
        return {"lane": self.lane, "laws": {name: list(law) for name, law in self.laws.items()}, "trees": trees}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> KernelTimes:
        """Model from the plain data of ``to_dict``.

        Raises: NasError, KeyError or TypeError for other data.
        """
        lane, laws, packed = data["lane"], data["laws"], data["trees"]
        check_number("times.lane", lane, low=1, high=MAX_LANE, whole=True)
        for name, entry in (("laws", laws), ("trees", packed)):
            if not isinstance(entry, Mapping):
                raise NasError(f"times.{name}: must be a mapping by class of kernels, not {quoted(entry)}.")
        if ANY_CLASS not in laws:
            raise NasError(f"times.laws.{ANY_CLASS}: missing; it is for classes without a law of their own.")
        return cls(
            lane=lane,
            laws={name: _law_of(f"times.laws.{name}", law) for name, law in laws.items()},
            trees={name: _trees_of(f"times.trees.{name}", text) for name, text in packed.items()},
        )


def fit_kernel_times(
    kernels: Sequence[ContextualKernel], times_us: Sequence[float], lane: int, seed: int = 0
) -> KernelTimes:
    """Fit laws and trees to measured kernels, minimising relative errors.

    ``kernels``: kernels in their contexts; ``times_us``: their times in microseconds, in the same order, NaN for one
    that did not run. The times of a class are multiplied by the share of its kernels that ran.
    """
    import lightgbm  # here, because it takes a second

    ran = [row for row, time_us in enumerate(times_us) if not np.isnan(time_us)]
    alone = [kernels[row][0] for row in ran]
    times = np.maximum(np.asarray(times_us)[ran], _LEAST_US)
    expected = {name: len(rows) for name, rows in _by_class([kernel for kernel, _ in kernels]).items()}
    laws = {**dict.fromkeys(expected, (0.0,) * _COEFFICIENTS), ANY_CLASS: _law(_terms(alone, lane), times)}
    trees = {}
    for name, rows in _by_class(alone).items():
        members, measured = [kernels[ran[row]] for row in rows], times[rows]
        terms = _terms([kernel for kernel, _ in members], lane)
        law = _law(terms, measured)
        laws[name] = tuple(len(rows) / expected[name] * price for price in law)
        if len(rows) >= _MIN_KERNELS:
            corrections = np.log(measured / np.maximum(terms @ law, _LEAST_US))
            table = lightgbm.Dataset(kernel_features(members, lane), corrections, free_raw_data=True)
            booster = lightgbm.train({**_SETTINGS, "seed": seed}, table, _TREES)
            trees[name] = BoostedTrees.parse(booster.model_to_string())
    return KernelTimes(lane=lane, laws=laws, trees=trees)


def _law(terms: FloatArray, times_us: FloatArray) -> tuple[float, ...]:
    """Non-negative coefficients of a law that minimise the squared relative error.

    ``terms``: shape (kernels, 4), see ``_terms``; ``times_us``: shape (kernels,).
    """
    from scipy.optimize import nnls  # for fits only: predictors are loaded more often than fitted

    solution, _ = nnls(terms / times_us[:, None], np.ones(len(times_us)))
    return tuple(solution.tolist())


def _terms(kernels: Iterable[Kernel], lane: int) -> FloatArray:
    """Terms of the laws, shape (kernels, 4): ``kernel_work``, and 1 per call."""
    return np.array([(*kernel_work(kernel, lane), 1.0) for kernel in kernels])


def _by_class(kernels: Iterable[Kernel]) -> dict[str, list[int]]:
    """Indices of the kernels of each class."""
    rows: dict[str, list[int]] = {}
    for row, kernel in enumerate(kernels):
        rows.setdefault(kernel_class(kernel), []).append(row)
    return rows


def _packed(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _law_of(where: str, law: object) -> tuple[float, ...]:
    """Coefficients of a law from a file. Raises: NasError."""
    if not isinstance(law, list) or len(law) != _COEFFICIENTS:
        raise NasError(f"{where}: must be a list of {_COEFFICIENTS} numbers, not {quoted(law)}.")
    for value in law:
        check_number(where, value, low=0)
    return tuple(law)


def _trees_of(where: str, text: str) -> BoostedTrees:
    """Trees from their compressed text in a file. Raises: NasError."""
    try:
        trees = BoostedTrees.parse(_unpacked(text))
    except (zlib.error, KeyError, TypeError, ValueError) as error:
        raise NasError(f"{where}: not readable as regression trees ({error!r}).") from None
    if trees.columns != len(FEATURES) or not 0 <= trees.features.min() <= trees.features.max() < len(FEATURES):
        raise NasError(f"{where}: its features are not the {len(FEATURES)} of kernels.")
    return trees


def _unpacked(text: str) -> str:
    unpacker = zlib.decompressobj()
    unpacked = unpacker.decompress(base64.b64decode(text, validate=True), _MAX_TREES)
    if not unpacker.eof:
        raise ValueError(f"incomplete, or more than {_MAX_TREES:,} bytes unpacked")
    return unpacked.decode()
