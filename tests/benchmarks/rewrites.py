"""What the rewrites of MobileNetV3 save in ONNX Runtime, measured and predicted.

    python -m nas.calibrate device=cpu
    OMP_NUM_THREADS=1 python tests/benchmarks/rewrites.py [runs_dir]

Networks before and after a rewrite run in turns, one thread, batch 1, by the CPU time of the thread. The saving is 1 -
the median of the ratios of adjacent runs, averaged over several sessions, with the standard error of that mean; beside
it that of the predictions of this machine's calibration. ``large_original`` is MobileNetV3-Large with the last stage
that the paper's figure 5 starts from. About 30 CPU-seconds. The last line is one JSON object.

Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.parts import HeadSpec
from nas.arch.rewrites import Rewrites
from nas.arch.spec import ArchSpec, StageSpec
from nas.latency.measure.backends import runner
from nas.latency.settings import LatencySettings
from nas.latency.store import load_or_calibrate

SESSIONS = 5  # of ONNX Runtime: they differ by more than the pairs of one session
PAIRS = 30
WARM_UP = 5
CASES = (
    ("large_original", {"head": "pool_conv"}),
    ("mobilenetv2_100", {"head": "pool_conv"}),
    ("mixnet_s", {"head": "pool_conv"}),
    ("efficientnet_b0", {"head": "pool_conv"}),
    ("mobilenetv2_100", {"hswish_from": 0.5}),
    ("mobilenetv2_100", {"hswish_from": 0.0}),
    ("efficientnet_b0", {"hswish_from": 0.5}),
    ("efficientnet_b0", {"hswish_from": 0.0}),
)


def main(runs_dir: str) -> None:
    predictor = load_or_calibrate(LatencySettings(rewrite="none"), Path(runs_dir))  # as the networks are measured
    rows: list[dict[str, Any]] = []
    for name, settings in CASES:
        before = network(name)
        after = Rewrites(**settings).steps(before)[-1].after
        saving, error = measured_saving(before, after)
        ms = [predictor.predict(arch).latency_ms for arch in (before, after)]
        macs = [complexity(arch).macs for arch in (before, after)]
        row = {"network": name, **settings, "macs": 1 - macs[1] / macs[0], "predicted": 1 - ms[1] / ms[0]}
        rows.append({**row, "measured": saving, "error": error})
        shown = f"MACs {row['macs']:.1%}, latency {saving:.1%} +- {error:.1%}, predicted {row['predicted']:.1%}"
        print(f"{name} {settings}: saves {shown}", flush=True)
    print(json.dumps({"device": str(predictor.device), "sessions": SESSIONS, "pairs": PAIRS, "rows": rows}))


def network(name: str) -> ArchSpec:
    if name != "large_original":
        return zoo.get(name)
    large = zoo.get("mobilenetv3_large_100")
    stages = (*large.stages[:-1], StageSpec.parse(["ir_r1_k3_s1_e6_c320"]))
    return replace(large, name=name, stages=stages, head=HeadSpec(channels=1280))


def measured_saving(before: ArchSpec, after: ArchSpec) -> tuple[float, float]:
    """Share of the latency that ``after`` saves, and its standard error over sessions."""
    savings = [1 - session_ratio(before, after, seed) for seed in range(SESSIONS)]
    return statistics.mean(savings), statistics.stdev(savings) / SESSIONS**0.5


def session_ratio(before: ArchSpec, after: ArchSpec, seed: int) -> float:
    """Median ratio of the latencies in one session each, with weights from ``seed``."""
    first, second = (runner(arch, backend="onnxruntime", seed=seed) for arch in (before, after))
    for run in (first, second) * WARM_UP:
        run()
    ratios = []
    for pair in range(PAIRS):
        if pair % 2:
            late = cpu_s(second)
            ratios.append(late / cpu_s(first))
        else:
            early = cpu_s(first)
            ratios.append(cpu_s(second) / early)
    return statistics.median(ratios)


def cpu_s(run: Callable[[], object]) -> float:
    start = time.thread_time()
    run()
    return time.thread_time() - start


if __name__ == "__main__":
    main(*sys.argv[1:2] or ["runs"])
