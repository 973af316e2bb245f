"""Learn the times of kernels: a law of work for each class, bent by gradient-boosted trees where it does not hold."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.optimize import nnls

from nas.latency.arrays import FloatArray
from nas.latency.kernels.kernel import Placed, kernel_class, kernel_features, kernel_work

if TYPE_CHECKING:
    import lightgbm


# Chosen on 600 profiled networks, with 158 random and 52 published ones held out: twice as many and larger trees gain
# nothing there. One model for all classes, linear leaves and extra-random trees were worse.
_TREES: Final = 100
_SETTINGS: Final = {
    "objective": "huber", "alpha": 0.1, "learning_rate": 0.12, "num_leaves": 15, "min_data_in_leaf": 8,
    "bagging_fraction": 0.8, "bagging_freq": 1, "feature_fraction": 0.8, "num_threads": 1, "verbosity": -1,
    "deterministic": True, "force_row_wise": True,
}  # fmt: skip
_FEWEST: Final = 60  # kernels of a class; with fewer its law stands alone
_LEAST_US: Final = 0.1
ANY_CLASS: Final = "any"  # the law of classes that were never seen


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTimes:
    """Times of kernels on one processor.

    ``laws``: by class, microseconds per 10^6 multiply-adds, per 10^6 bytes of activations and of weights, and per call.
    ``trees``: by class, what corrects the logarithm of the law's time. ``lane``: channels of one block.
    """

    lane: int
    laws: Mapping[str, tuple[float, ...]]
    trees: Mapping[str, lightgbm.Booster]

    def microseconds(self, placed: Sequence[Placed]) -> FloatArray:
        """Times [kernels] in microseconds of kernels in their contexts, class by class at once."""
        times = np.empty(len(placed))
        for name, rows in _by_class(placed).items():
            members = [placed[row] for row in rows]
            law = np.array(self.laws.get(name, self.laws[ANY_CLASS]))
            times[rows] = _terms(members, self.lane) @ law
            if name in self.trees:
                bends = self.trees[name].predict(kernel_features(members, self.lane), num_threads=1)
                times[rows] *= np.exp(np.asarray(bends))
        return np.maximum(times, _LEAST_US)

    def to_dict(self) -> dict[str, Any]:
        """As plain data; trees in LightGBM's text format, which packed takes a fifth of the room."""
        trees = {name: _packed(booster.model_to_string()) for name, booster in self.trees.items()}
        return {"lane": self.lane, "laws": {name: list(law) for name, law in self.laws.items()}, "trees": trees}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> KernelTimes:
        """What ``to_dict`` wrote. Raises: KeyError, TypeError or ValueError for other data."""
        import lightgbm  # a second

        try:
            trees = {name: lightgbm.Booster(model_str=_unpacked(text)) for name, text in data["trees"].items()}
        except (lightgbm.basic.LightGBMError, zlib.error) as error:
            raise ValueError(str(error)) from None
        return cls(lane=data["lane"], laws={name: tuple(law) for name, law in data["laws"].items()}, trees=trees)


def fit_kernel_times(placed: Sequence[Placed], times_us: Sequence[float], lane: int, seed: int = 0) -> KernelTimes:
    """Laws and trees for kernels in their contexts and times in microseconds, minimising relative errors."""
    import lightgbm

    times = np.maximum(np.asarray(times_us), _LEAST_US)
    laws, trees = {ANY_CLASS: _law(_terms(placed, lane), times)}, {}
    for name, rows in _by_class(placed).items():
        members, measured = [placed[row] for row in rows], times[rows]
        terms = _terms(members, lane)
        laws[name] = _law(terms, measured)
        if len(rows) >= _FEWEST:
            bends = np.log(measured / np.maximum(terms @ laws[name], _LEAST_US))
            table = lightgbm.Dataset(kernel_features(members, lane), bends, free_raw_data=True)
            trees[name] = lightgbm.train({**_SETTINGS, "seed": seed}, table, _TREES)
    return KernelTimes(lane=lane, laws=laws, trees=trees)


def _law(terms: FloatArray, times_us: FloatArray) -> tuple[float, ...]:
    """Non-negative prices of ``terms`` [kernels, 4] that minimise the squared relative error."""
    solution, _ = nnls(terms / times_us[:, None], np.ones(len(times_us)))
    return tuple(solution.tolist())


def _terms(placed: Iterable[Placed], lane: int) -> FloatArray:
    return np.array([(*kernel_work(kernel, lane), 1.0) for kernel, _ in placed])


def _by_class(placed: Iterable[Placed]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, (kernel, _) in enumerate(placed):
        rows.setdefault(kernel_class(kernel), []).append(row)
    return rows


def _packed(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _unpacked(text: str) -> str:
    return zlib.decompress(base64.b64decode(text, validate=True)).decode()
