"""Search by the price of the form that ships, against the price of plain blocks.

    python -m nas.calibrate device=cpu
    OMP_NUM_THREADS=1 python tests/benchmarks/shipped_search.py [--networks 250] [--runs-dir runs]

Random networks of the space ``mixnet`` have an estimate of accuracy, their Zen-score at 48 px (arXiv:2102.01063), and
two prices in ONNX Runtime: of plain blocks (``latency.rewrite=none``, all that earlier versions knew) and of the blocks
in the forms that are exported. Under each of several limits the search by plain prices takes the network with the best
estimate; beside it stands the fastest network in its shipped form whose estimate is at least as good. Both are measured
side by side, each as that search ships it. The last line is one JSON object. About three CPU-minutes.

Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from nas.cli.hydra_config import compose_config
from nas.cli.resolve import make_space
from nas.estimators.zero_cost.zen import zen
from nas.latency import LatencySettings, load_or_calibrate
from nas.latency.measure.backends import runner
from nas.latency.measure.side_by_side import measure_side_by_side
from nas.latency.predictors.base import PricesForms, forms_of
from nas.model.build import build

SIDE_PX = 48
LIMITS = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)  # quantiles of the plain prices
ROUNDS, RUNS = 15, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", type=int, default=250)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shipped = load_or_calibrate(LatencySettings(), arguments.runs_dir)
    if not isinstance(shipped, PricesForms) or not shipped.rewrites:
        sys.exit("the calibration of this machine knows plain blocks only: python -m nas.calibrate device=cpu")
    plain = shipped.with_rewrites(False)
    space, rng = make_space(compose_config("search", ["space=mixnet"])["space"]), random.Random(0)
    specs = [space.decode(space.sample(rng)) for _ in range(arguments.networks)]
    plain_ms = np.array([one.latency_ms for one in plain.predict_many(specs)])
    shipped_ms = np.array([one.latency_ms for one in shipped.predict_many(specs)])
    estimates = np.array([score(replace(spec, classes=10)) for spec in specs])
    rows, seen = [], set()
    for limit_ms in np.quantile(plain_ms, LIMITS):
        before = int(np.argmax(np.where(plain_ms <= limit_ms, estimates, -np.inf)))
        after = int(np.argmin(np.where(estimates >= estimates[before], shipped_ms, np.inf)))
        if (before, after) in seen:
            continue
        seen.add((before, after))
        forms = forms_of(shipped, specs[after])
        runners = [
            runner(specs[before], backend="onnxruntime"),
            runner(specs[after], backend="onnxruntime", forms=forms),
        ]
        timed = measure_side_by_side(runners, [shipped.device] * 2, rounds=ROUNDS, runs=RUNS)
        first, second = (one.latency_ms for one in timed.measurements)
        row = {
            "limit_ms": float(limit_ms),
            "predicted": plain_ms[before] / shipped_ms[after],
            "measured": first / second,
            "error": first / second * timed.ratio_errors[0][1],
            "plain_ms": first,
            "same_network": before == after,
        }
        rows.append(row)
        shown = f"predicted {row['predicted']:.2f}, measured {row['measured']:.2f} +- {row['error']:.2f} times as fast"
        print(f"limit {limit_ms:.1f} ms: {shown}, at {first:.1f} ms before", flush=True)
    result = {
        "networks": len(specs),
        "median_measured": statistics.median(row["measured"] for row in rows),
        "rows": rows,
    }
    print(json.dumps(result))


def score(spec: object) -> float:
    return zen(build(spec), (3, SIDE_PX, SIDE_PX), torch.device("cpu"), seed=0, images=4, repeats=1)


if __name__ == "__main__":
    main()
