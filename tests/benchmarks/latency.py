"""How well the first predictor prices networks that it did not see, against multiply-adds times a constant.

    python tests/benchmarks/latency.py [onnxruntime|torch]

Calibrates this machine, or loads what an earlier run kept in runs/latency/, and prints the error on the held-out
networks; the last line is one JSON object.

Learned on a two-core AVX-512 server, one thread, batch 1; relative errors as median / nine networks in ten, and Kendall
tau, of the calibration and of multiply-adds times the constant that suits the measured networks best:

    backend           calibration  held out (90, 70)  8 other published   40 other random     macs published / random
    onnxruntime 1.31  51 CPU-s     4.3% 14.4% 0.93    5.3%  7.7% 0.93     4.8% 12.9% 0.95     26% tau 0.79 / 30% 0.54
    torch 2.15 eager  58 CPU-s     4.9% 16.6% 0.89    3.1%  5.0% 1.00     5.0% 12.7% 0.90     30% tau 0.71 / 30% 0.52

- A prediction takes 25 us for a network whose blocks were seen, 140 us for a new one.
- Four earlier calibrations of onnxruntime (31 to 48 CPU-s, relu6 not priced yet) had median errors of 4.5 to 6.5%: the
  machine's other work is in that, so a difference of a point between two calibrations means nothing.
- Between published networks the time per multiply-add differs by a factor of four: 14 ms per 10^9 for mobilenetv1_100,
  57 for mixnet_m.
- A depthwise convolution whose channels are no multiple of 4 (MixConv groups of 26 or 47 channels) is ten times as
  slow, and costs something per channel. Pricing the channels took the 90% error on random networks from 16% to 12%.
- Filling channels up to the vector of 16 took the median error on random networks from 6% to 4.5%. The width is chosen
  by cross-validation, not asked of the processor.
- Relu6 is fused but not free: pricing it took the error on 21 published networks from 8.7% to 2.6% (median).
- No gain: separate prices for reading and writing, for tensors beyond 1 or 2 MB, a weaker or twice as strong ridge.
- ONNX Runtime's Softplus takes 10 ns an element: the graph writes mish with Exp instead.
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
from nas.arch.spec import ArchSpec
from nas.latency.kernel_sum import KernelSumPredictor
from nas.latency.measure import measure_many
from nas.latency.predictor import Check, HeldOutError
from nas.latency.samples import random_specs
from nas.latency.settings import LatencySettings
from nas.latency.store import load_or_calibrate

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


def by_macs(specs: Sequence[ArchSpec], measured_ms: Sequence[float]) -> list[Check]:
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
