"""How well the first predictor prices networks that it did not see, against multiply-adds times a constant.

    python tests/benchmarks/latency.py [onnxruntime|torch]

Calibrates this machine, or loads what an earlier run kept in runs/latency/, and prints the error on the held-out
networks; the last line is one JSON object.

Learned on a two-core AVX-512 server, ONNX Runtime 1.31, one thread (calibration 31 CPU-s, 320 networks fitted):

- Over three calibrations the median error was 4.8 to 6.5%, nine networks in ten within 15%, Kendall tau 0.92 to 0.94; on the
  ten published networks 4.7 to 6.8%, within 10%. Eager torch 2.15: 6.7%, within 18%, tau 0.89 (49 CPU-s).
- Multiply-adds times the best constant: see ``macs`` below; networks differ by a factor of four in ms per multiply-add.
- A depthwise convolution whose channels are no multiple of 4 is ten times as slow, plus a cost per channel: MixConv
  groups of 26 or 47 channels. Giving that path a price per channel took the 90% error from 16% to 12%.
- Filling channels up to the vector (16) matters: without it the error is a third larger. The width is chosen by
  cross-validation, not asked of the processor.
- ONNX Runtime's Softplus takes 10 ns an element: mish is written with Exp instead.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.latency.calibrate import load_or_calibrate
from nas.latency.measure import measure_many
from nas.latency.predictor import Check, HeldOutError, KernelSumPredictor
from nas.latency.samples import random_specs
from nas.latency.settings import LatencySettings

# Neither fitted nor among the held-out networks of the calibration; measured now, so on a kept calibration too.
FRESH_ZOO = (
    "mobilenetv1_075", "mobilenetv2_050", "mnasnet_small", "mobilenetv3_large_075", "mobilenetv3_large_minimal_100",
    "mixnet_l", "efficientnet_b1", "efficientnet_lite1",
)  # fmt: skip
FRESH_SEED = 12345
PREDICTIONS = 2000


def main(backend: str) -> None:
    settings = LatencySettings(backend=backend)
    start = time.process_time()
    predictor = load_or_calibrate(settings, Path("runs"), lambda done, total: print(f"\r{done}/{total}", end=""))
    calibration_s = time.process_time() - start
    if not isinstance(predictor, KernelSumPredictor):
        raise SystemExit("nothing to measure: choose onnxruntime or torch")
    specs = [zoo.get(name) for name in FRESH_ZOO] + random_specs(40, FRESH_SEED)
    measured = [result.latency_ms for result in measure_many(specs, backend=backend, rounds=4, runs=4)]
    ours = [
        Check(name=spec.name, measured_ms=ms, predicted_ms=predictor.predict(spec).latency_ms)
        for spec, ms in zip(specs, measured, strict=True)
    ]
    print(f"\n{predictor.device}\nheld out at calibration: {predictor.error}")
    for check in ours[: len(FRESH_ZOO)]:
        print(f"{check.name:32} measured {check.measured_ms:7.2f} ms, predicted {check.predicted_ms:7.2f} ms")
    macs = by_macs(specs, measured)
    zoo_count = len(FRESH_ZOO)
    figures = {
        "held_out": summary(predictor.checks),
        "zoo": summary(ours[:zoo_count]),
        "random": summary(ours[zoo_count:]),
        "macs_zoo": summary(macs[:zoo_count]),
        "macs_random": summary(macs[zoo_count:]),
        "calibration_cpu_s": round(calibration_s, 1),
        "prediction_us": prediction_us(predictor),
    }
    for name, values in figures.items():
        print(f"{name}: {values}")
    print(json.dumps(figures))


def by_macs(specs: Sequence, measured_ms: Sequence[float]) -> list[Check]:
    """Predictions proportional to multiply-adds, with the constant that suits these very networks best (median)."""
    macs = np.array([complexity(spec).macs for spec in specs])
    predicted = macs * np.median(np.asarray(measured_ms) / macs)
    return [
        Check(name=spec.name, measured_ms=ms, predicted_ms=float(guess))
        for spec, ms, guess in zip(specs, measured_ms, predicted, strict=True)
    ]


def summary(checks: Sequence[Check]) -> dict[str, float]:
    error = HeldOutError.of(checks)
    return {
        "median": round(error.median, 4),
        "p90": round(error.p90, 4),
        "bias": round(error.bias, 4),
        "tau": round(error.kendall_tau, 3),
        "n": error.networks,
    }


def prediction_us(predictor: KernelSumPredictor) -> dict[str, float]:
    """CPU time of one prediction: of networks never seen before, and of one whose blocks are known."""
    fresh = random_specs(100, FRESH_SEED + 1)
    start = time.process_time()
    predictor.predict_many(fresh)
    cold = (time.process_time() - start) / len(fresh)
    known = zoo.get("mixnet_m")
    predictor.predict(known)
    start = time.process_time()
    for _ in range(PREDICTIONS):
        predictor.predict(known)
    return {"new": round(cold * 1e6, 1), "known": round((time.process_time() - start) / PREDICTIONS * 1e6, 1)}


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "onnxruntime")
