"""Accuracy of latency predictions for networks that no calibration has seen.

    python -m nas.calibrate device=cpu
    python tests/benchmarks/latency_accuracy.py [runs_dir]

Loads this machine's calibration, reads networks of timm, measures them twice with plain blocks, each time all in turns,
and sets the mean, at the typical speed of the machine during the calibration, beside three predictions: multiply-adds
times the constant that suits these very networks best, a block table whose every entry was measured here for them, and
ours. The two measurements set beside each other are the noise floor. (A predictor is compared with their mean, which
errs half as much as their difference, in RMS.) The last line is one JSON object.

Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nas.arch.complexity import complexity
from nas.arch.spec import ArchSpec
from nas.cli.resolve.networks import resolve_arch
from nas.latency.calibration.collect import HELD_OUT_ZOO
from nas.latency.measure.block_timing import table_of
from nas.latency.measure.system_load import SystemLoad
from nas.latency.measure.timer import at_common_speed, measure_many
from nas.latency.predictors.held_out import HeldOutCheck, HeldOutError
from nas.latency.predictors.kernel_sum import KernelPredictor
from nas.latency.random_networks import random_specs
from nas.latency.settings import LatencySettings
from nas.latency.store import load_or_calibrate

FAMILIES = {
    "mobilenetv1": ("mobilenetv1_100", "mobilenetv1_125"),
    "mobilenetv2": ("mobilenetv2_050", "mobilenetv2_110d", "mobilenetv2_140"),
    "mnasnet": ("mnasnet_small", "mnasnet_140", "semnasnet_075"),
    "mobilenetv3": ("mobilenetv3_small_050", "mobilenetv3_small_075", "mobilenetv3_large_075", "mobilenetv3_rw"),
    "mixnet": ("mixnet_l", "mixnet_xl"),
    "efficientnet": ("efficientnet_b1", "efficientnet_b2", "efficientnet_lite1", "efficientnet_lite2"),
    "fbnet": ("fbnetc_100", "fbnetv3_b", "fbnetv3_d"),
    "spnasnet": ("spnasnet_100",),
    "tinynet": ("tinynet_a", "tinynet_b", "tinynet_c", "tinynet_e"),
    "lcnet": ("lcnet_050", "lcnet_075", "lcnet_100"),
    "hardcorenas": ("hardcorenas_a", "hardcorenas_c", "hardcorenas_f"),
    "edgetpu": ("mobilenet_edgetpu_100", "mobilenet_edgetpu_v2_xs", "efficientnet_es", "efficientnet_em"),
    "efficientnetv2": ("tf_efficientnetv2_b0", "tf_efficientnetv2_b1", "efficientnetv2_rw_t"),
    "mobilenetv4": ("mobilenetv4_conv_small", "mobilenetv4_conv_small_050", "mobilenetv4_conv_medium"),
}
ROUNDS = 20
FRESH_SEED = 12345  # networks to time predictions with


def main(runs_dir: str) -> None:
    predictor = load_or_calibrate(LatencySettings(rewrite="none"), Path(runs_dir))  # as the networks are measured
    if not isinstance(predictor, KernelPredictor):
        raise SystemExit("no calibration of kernels here: python -m nas.calibrate device=cpu")
    specs = [resolve_arch(f"timm/{name}") for names in FAMILIES.values() for name in names]
    seen = sorted({spec.name for spec in specs} & set(HELD_OUT_ZOO))
    if seen:
        raise SystemExit(f"{seen}: used in the calibration")
    if predictor.speed is None:
        raise SystemExit("a calibration of an older version, which does not know its speed: calibrate again")
    typical_ms, before = predictor.speed.typical_ms, SystemLoad.now()
    start = time.process_time()
    passes = [measured(specs, typical_ms), measured(specs, typical_ms)]
    others = SystemLoad.now().others_since(before)
    print(f"measured twice in {time.process_time() - start:.0f} CPU-s; {predictor.device}")
    latencies = np.mean([one.latencies_ms for one in passes], axis=0)
    start = time.process_time()
    table = table_of(specs, rounds=4, runs=2)
    table_s = time.process_time() - start
    ours = predictor.predict_many(specs)
    macs = np.array([complexity(spec).macs for spec in specs], dtype=float)
    guesses = {
        "macs": (macs * np.median(latencies / macs)).tolist(),
        "block table": [table.predict(spec).latency_ms for spec in specs],
        "ours": [estimate.latency_ms for estimate in ours],
    }
    covered = [estimate.low_ms <= ms <= estimate.high_ms for estimate, ms in zip(ours, latencies, strict=True)]
    rows = {name: figures(specs, guess, latencies) for name, guess in guesses.items()}
    rows["noise floor"] = figures(specs, passes[0].latencies_ms.tolist(), passes[1].latencies_ms)
    rows["ours"]["coverage_90"] = float(np.mean(covered))
    report(specs, latencies, guesses, rows)
    result = {
        "networks": len(specs),
        "families": len(FAMILIES),
        "speed_probe_ms": {"calibration": predictor.speed.to_dict(), "now": [one.probe_ms for one in passes]},
        "stated_error": [one.stated_error for one in passes],
        "calibration_noise": predictor.noise,
        "held_out": predictor.error and asdict(predictor.error),
        "others": {"calibration": predictor.others, "now": others},
        "calibration_cpu_s": predictor.spent_s,
        "block_table_cpu_s": round(table_s, 1),
        "block_table_entries": len(table.entries),
        "prediction_us": prediction_us(predictor),
        **rows,
    }
    print(json.dumps(result))


class Pass(NamedTuple):
    """One measurement of all networks.

    ``latencies_ms``: at the typical speed of the calibration. ``probe_ms``: duration of the speed probe meanwhile;
    ``stated_error``: median of the networks' relative standard errors.
    """

    latencies_ms: np.ndarray
    probe_ms: float
    stated_error: float


def measured(specs: Sequence[ArchSpec], typical_ms: float) -> Pass:
    """Measure ``specs``, all in turns, and scale them to the speed at which the probe takes ``typical_ms``."""
    raw = measure_many(specs, rounds=ROUNDS)
    latencies_ms = np.array([one.latency_ms for one in at_common_speed(raw, typical_ms)])
    stated = float(np.median([one.error_ms / one.latency_ms for one in raw]))
    return Pass(latencies_ms, raw[0].probe_ms, stated)


def figures(specs: Sequence[ArchSpec], predicted_ms: Sequence[float], latencies_ms: np.ndarray) -> dict[str, Any]:
    """How far ``predicted_ms`` are off."""
    checks = [
        HeldOutCheck(name=spec.name, measured_ms=float(ms), predicted_ms=guess)
        for spec, ms, guess in zip(specs, latencies_ms, predicted_ms, strict=True)
    ]
    error = HeldOutError.of(checks)
    relative = np.array(predicted_ms) / latencies_ms - 1
    return {
        "within_5": error.within_5,
        "within_10": error.within_10,
        "rmspe": float(np.sqrt(np.mean(relative**2))),
        "bias": error.bias,
        "median": error.median,
        "kendall_tau": error.kendall_tau,
    }


def report(
    specs: Sequence[ArchSpec],
    latencies_ms: np.ndarray,
    guesses: dict[str, list[float]],
    rows: dict[str, dict[str, Any]],
) -> None:
    """Two tables: networks, and predictors."""
    print(f"{'network':28}{'measured':>10}" + "".join(f"{name:>18}" for name in guesses))
    for index, spec in enumerate(specs):
        cells = (f"{guess[index]:9.2f} {guess[index] / latencies_ms[index] - 1:+7.1%}" for guess in guesses.values())
        print(f"{spec.name:28}{latencies_ms[index]:10.2f}" + "".join(f"{cell:>18}" for cell in cells))
    names = ("within_5", "within_10", "rmspe", "bias", "median", "kendall_tau", "coverage_90")
    print(f"\n{'':14}" + "".join(f"{name:>13}" for name in names))
    for name, row in rows.items():
        print(f"{name:14}" + "".join(f"{row[key]:13.3f}" if key in row else f"{'':13}" for key in names))


def prediction_us(predictor: KernelPredictor) -> dict[str, float]:
    """CPU time of one prediction: of new networks one by one and all at once, and of one whose blocks are known."""
    single, many = random_specs(100, FRESH_SEED), random_specs(1000, FRESH_SEED + 1)
    times = {}
    start = time.process_time()
    for spec in single:
        predictor.predict(spec)
    times["new"] = (time.process_time() - start) / len(single)
    start = time.process_time()
    predictor.predict_many(many)
    times["new, 1000 at once"] = (time.process_time() - start) / len(many)
    start = time.process_time()
    for spec in many:
        predictor.predict(spec)
    times["known"] = (time.process_time() - start) / len(many)
    return {name: round(value * 1e6, 1) for name, value in times.items()}


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs")
