"""Latency predicted from whole networks measured on a device, by method.

    python tests/benchmarks/measurements.py [seeds]

Data: once-for-all's MobileNetV3 sub-networks on two GPUs at batch 1, 32 and 64 (tests/latency/ofa.py), read in place.
Every method learns from the same 100 random networks and is judged on 1000 others; means over seeds of the share
within 10% of the measurement, the root mean square of predicted / measured - 1, Spearman's and Kendall's rank
correlation, and for ours the share inside of the 90% interval. Then from 10 and 20 networks, alone and with a predictor
of another device to learn from. The last line is one JSON object.

Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau, spearmanr
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from nas.arch.complexity import complexity
from nas.arch.ops.network import network_ops
from nas.arch.spec import ArchSpec
from nas.latency.device import Device
from nas.latency.predictors.queue_model import QueuePredictor, fit_queue_predictor
from tests.latency import ofa

TRAIN, TEST = 100, 1000
FEW = (10, 20)
# Whose predictor, of a hundred other networks, the few are given: the other GPU at this batch, this one at another.
OTHERS = {
    "2080ti_1": ("titan_xp_1",), "2080ti_32": ("titan_xp_32", "2080ti_1"), "2080ti_64": ("titan_xp_64", "2080ti_32"),
    "titan_xp_1": ("2080ti_1",), "titan_xp_32": ("2080ti_32", "titan_xp_64"), "titan_xp_64": ("2080ti_64",),
}  # fmt: skip
Array = np.ndarray[Any, Any]
Scores = dict[str, float]


@cache
def spec(index: int) -> ArchSpec:
    return ofa.spec(index)


def measured_ms(target: str, indices: Sequence[int]) -> Array:
    return ofa.data()[f"lat_{target}"][list(indices)]


@cache
def counts(index: int) -> tuple[float, ...]:
    """Multiply-adds, depth, resolution, and operations by kind, kernel and activation."""
    arch = spec(index)
    found = dict.fromkeys(("conv", "add", "scale", "relu", "hard_swish", "depthwise3", "depthwise5", "depthwise7"), 0)
    for op in network_ops(arch):
        for name in (op.kind, str(op.activation), f"{op.kind}{op.kernel}"):
            if name in found:
                found[name] += 1
    return (complexity(arch).macs * 1e-6, arch.depth, arch.resolution_px, *found.values())


def macs(indices: Sequence[int]) -> Array:
    return np.array([counts(index)[:1] for index in indices])


def depth_and_resolution(indices: Sequence[int]) -> Array:
    """Blocks of each stage, and the input's side and area."""
    arrays = ofa.data()
    px = arrays["r"][list(indices)][:, None].astype(float)
    return np.hstack([arrays["d"][list(indices)], px, px**2])


def one_hot(indices: Sequence[int], area: bool) -> Array:
    """One column per layer and choice, each with its area where ``area``: a block table fitted to whole networks."""
    arrays = ofa.data()
    rows = list(indices)
    used = (np.arange(ofa.LAYERS) < arrays["d"][rows][:, :, None]).reshape(len(rows), -1, 1)
    kernels = used & (arrays["ks"][rows][:, :, None] == (3, 5, 7))
    expansions = used & (arrays["e"][rows][:, :, None] == (3, 4, 6))
    columns = np.concatenate([kernels, expansions], axis=2).reshape(len(rows), -1).astype(float)
    size = arrays["r"][rows][:, None].astype(float) ** 2 * 1e-4
    return np.hstack([columns, columns * size, size]) if area else np.hstack([columns, size])


def ridge() -> Any:
    return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-4, 4, 17)))


# Name: features, and what is fitted to them.
BASELINES: Mapping[str, tuple[Callable[[Sequence[int]], Array], Callable[[], Any]]] = {
    "multiply-adds": (macs, LinearRegression),
    "macs, depth, px, counts": (lambda indices: np.array([counts(index) for index in indices]), ridge),
    "one-hot table": (lambda indices: one_hot(indices, False), ridge),
    "one-hot table x area": (lambda indices: one_hot(indices, True), ridge),
    "depth": (lambda indices: np.array([counts(index)[1:2] for index in indices]), LinearRegression),
    "depths and px": (depth_and_resolution, ridge),
}


def scores(predicted: Array, measured: Array) -> Scores:
    off = predicted / measured - 1
    return {
        "within_10": float(np.mean(np.abs(off) < 0.1)),
        "rmspe": float(np.sqrt(np.mean(off**2))),
        "spearman": float(spearmanr(predicted, measured).statistic),
        "kendall": float(kendalltau(predicted, measured).statistic),
    }


def ours(target: str, train: Sequence[int], bases: Sequence[QueuePredictor] = ()) -> QueuePredictor:
    device, batch = target.rsplit("_", 1)
    named = Device(processor=device, cores=1, backend="torch", backend_version="", batch=int(batch), os="elsewhere")
    pairs = zip([spec(index) for index in train], measured_ms(target, train).tolist(), strict=True)
    return fit_queue_predictor(named, list(pairs), bases=bases)


def judged(predictor: QueuePredictor, target: str, test: Sequence[int]) -> Scores:
    estimates = predictor.predict_many([spec(index) for index in test])
    measured = measured_ms(target, test)
    inside = [one.low_ms <= ms <= one.high_ms for one, ms in zip(estimates, measured, strict=True)]
    return {**scores(np.array([one.latency_ms for one in estimates]), measured), "covered": float(np.mean(inside))}


def compare(target: str, train: Sequence[int], test: Sequence[int]) -> dict[str, Scores]:
    """Every method from the same networks."""
    found = {}
    for name, (features, model) in BASELINES.items():
        predicted = model().fit(features(train), measured_ms(target, train)).predict(features(test))
        found[name] = scores(np.maximum(predicted, 0.1), measured_ms(target, test))
    return {**found, "queue law": judged(ours(target, train), target, test)}


def transfer(target: str, order: Sequence[int], test: Sequence[int]) -> dict[str, Scores]:
    """From few networks; what others were calibrated with is disjoint from all of them."""
    found = {}
    others = {name: ours(name, order[-TRAIN:]) for name in OTHERS[target]}
    for few in FEW:
        train = order[:few]
        found[f"{few} alone"] = judged(ours(target, train), target, test)
        for name, other in others.items():
            guess = np.array([one.latency_ms for one in other.predict_many([spec(i) for i in (*train, *test)])])
            factor = np.median(measured_ms(target, train) / guess[:few])
            found[f"{few} {name} scaled"] = scores(factor * guess[few:], measured_ms(target, test))
        found[f"{few} with {' and '.join(others)}"] = judged(ours(target, train, list(others.values())), target, test)
    return found


def mean(found: Sequence[Mapping[str, Scores]]) -> dict[str, Scores]:
    return {
        name: {key: round(float(np.mean([one[name][key] for one in found])), 3) for key in found[0][name]}
        for name in found[0]
    }


def main(seeds: int) -> None:
    if not ofa.FILE.is_file():
        print(json.dumps({"skipped": f"{ofa.FILE.name} is not here"}))
        return
    figures: dict[str, Any] = {}
    print(f"{'':36} within 10%  rmspe  spearman  kendall  in 90% interval")
    for target in ofa.TARGETS:
        found: list[dict[str, Scores]] = []
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(len(ofa.data()["r"])).tolist()
            test = order[TRAIN : TRAIN + TEST]
            found.append({**compare(target, order[:TRAIN], test), **transfer(target, order, test)})
        figures[target] = mean(found)
        print(target)
        for name, values in figures[target].items():
            print(f"  {name:36} " + "  ".join(f"{value:8.3f}" for value in values.values()))
    print(json.dumps(figures))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
