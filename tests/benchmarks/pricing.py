"""CPU time per network of pricing random MixNets in batches: decoding, counting, predicting.

    python tests/benchmarks/pricing.py [--calibration runs/latency/DEVICE.json] [--baseline CHECKOUT] [--rounds 3]

With ``--baseline`` another commit's checkout prices the same genotypes in turns with this one, so that a busy machine
slows both alike, and its predictions are compared. ``--baseline-python`` is its interpreter, where that is another than
this one. Without ``--calibration`` the predictor is fitted to a made-up device (as many trees as a real one's, 5 s).
Takes about 20 CPU-seconds per round with a baseline of before ``price_many``, 10 of them for imports.

Every run is a process of its own, whose caches are empty: ``decode``, ``count`` and ``predict`` are the stages of the
first 1,000 networks, ``batch`` is all of that as a search does it, in another process; ``next batch`` are 1,000 other
networks after these; ``neighbours`` are 500 networks that differ from one of 20 in a single choice; ``known`` are the
first 1,000 again. LightGBM, which earlier versions load to predict, is loaded before the clock starts; with ``--torch``
torch and Optuna are, too, as in the workers of a study: Python's garbage collection then takes longer. It is paused
while the stages are timed, because it would fall on any of them; the other rows contain it.

Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

ROOT: Final = Path(__file__).parents[2]
NETWORKS: Final = 1000
NEIGHBOURS_OF: Final = 20
NEIGHBOURS: Final = 25  # of each
STAGES: Final = ("decode", "count", "predict")
ROWS: Final = (*STAGES, "decode and count", "batch", "next batch", "neighbours", "known")
MIXNET: Final = ROOT / "conf" / "space" / "mixnet.yaml"

Result = TypeVar("Result")


def timed(call: Callable[[], Result], networks: int) -> tuple[Result, float]:
    """Result of ``call``, and its CPU time in ms per network, with the garbage collection that follows."""
    start = time.process_time_ns()
    result = call()
    _ = [[] for _ in range(2000)]  # new objects, so that a collection that has become due takes place now
    return result, (time.process_time_ns() - start) / networks / 1e6


def random_genotypes(space: Any, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [space.sample(rng) for _ in range(NETWORKS)]


def neighbours(space: Any, genotypes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Genotypes that differ in one choice from the first of ``genotypes``."""
    rng, found = random.Random(3), []
    for genotype in genotypes[:NEIGHBOURS_OF]:
        for name in rng.sample(sorted(space.parameters), NEIGHBOURS):
            others = [value for value in space.parameters[name] if value != genotype[name]]
            found.append({**genotype, name: rng.choice(others)})
    return found


def child(calibration: Path, *, by_stage: bool) -> dict[str, Any]:
    """What one process measures: CPU time in ms per network, by row, and predicted latencies in ms."""
    import lightgbm  # noqa: F401

    from nas.arch.complexity import complexity
    from nas.latency.store import read_predictor
    from nas.study.candidates import Pricer
    from nas.study.constraints import Constraints
    from search_spaces.mixnet import MixNetSpace

    config = yaml.safe_load(MIXNET.read_text(encoding="utf-8"))
    space = MixNetSpace(**{key: value for key, value in config.items() if not key.startswith("_")})
    predictor = read_predictor(calibration)
    pricer = Pricer(space=space, predictor=predictor, constraints=Constraints(), classes=10, in_channels=3)
    first, second = random_genotypes(space, 1), random_genotypes(space, 2)

    def price_many(genotypes: list[dict[str, Any]]) -> list[float]:
        if hasattr(pricer, "price_many"):
            return [candidate.latency.latency_ms for candidate in pricer.price_many(genotypes)]
        archs = [pricer.decode(genotype) for genotype in genotypes]
        _ = [complexity(arch) for arch in archs]
        return [latency.latency_ms for latency in predictor.predict_many(archs)]

    gc.collect()
    ms: dict[str, float] = {}
    if by_stage:
        gc.disable()
        archs, ms["decode"] = timed(lambda: [pricer.decode(genotype) for genotype in first], NETWORKS)
        _, ms["count"] = timed(lambda: [complexity(arch) for arch in archs], NETWORKS)
        estimates, ms["predict"] = timed(lambda: predictor.predict_many(archs), NETWORKS)
        ms["decode and count"] = ms["decode"] + ms["count"]
        return {"ms": ms, "latencies_ms": [estimate.latency_ms for estimate in estimates]}
    latencies_ms, ms["batch"] = timed(lambda: price_many(first), NETWORKS)
    _, ms["known"] = timed(lambda: price_many(first), NETWORKS)
    near = neighbours(space, first)
    near_ms, ms["neighbours"] = timed(lambda: price_many(near), len(near))
    next_ms, ms["next batch"] = timed(lambda: price_many(second), NETWORKS)
    return {"ms": ms, "latencies_ms": [*latencies_ms, *near_ms, *next_ms]}


def run_child(checkout: Path, python: Path, calibration: Path, way: str, *, torch: bool) -> dict[str, Any]:
    """Result of ``child`` in a process that imports from ``checkout``. Raises: RuntimeError where it fails."""
    loaded = "import torch, optuna; " if torch else ""
    code = f"{loaded}import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python, "-c", code, __file__, "--child", way, "--calibration", calibration],
        cwd=checkout, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{checkout}: exit code {done.returncode}:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def made_up_calibration(folder: Path) -> Path:
    """A file with a predictor of a made-up device, fitted to kernels of random networks."""
    sys.path.insert(0, str(ROOT))
    from nas.latency.kernels.kernel import contextual_kernels
    from nas.latency.predictors.kernel_sum import KernelPredictor
    from nas.latency.predictors.kernel_times import fit_kernel_times
    from nas.latency.random_networks import random_specs
    from nas.latency.store import save_predictor
    from tests.latency.synthetic_device import KERNEL_DEVICE, LANE, true_kernel_us

    kernels = [kernel for spec in random_specs(60, 1) for kernel in contextual_kernels(spec, LANE)]
    times = fit_kernel_times(kernels, [true_kernel_us(kernel) for kernel, _ in kernels], LANE)
    predictor = KernelPredictor(device=KERNEL_DEVICE, times=times, factors={"pool": 1.0}, checks=(), spent_s=1.0)
    save_predictor(predictor, folder / "made_up.json")
    return folder / "made_up.json"


def measure(
    checkouts: Mapping[str, tuple[Path, Path]], calibration: Path, rounds: int, *, torch: bool
) -> tuple[dict[str, dict[str, list[float]]], float]:
    """CPU time in ms per network by checkout, row and round, and the largest relative difference of predictions."""
    samples: dict[str, dict[str, list[float]]] = {which: {row: [] for row in ROWS} for which in checkouts}
    difference = 0.0
    for _ in range(rounds):
        for way in ("stages", "batches"):
            found = {
                which: run_child(root, python, calibration, way, torch=torch)
                for which, (root, python) in checkouts.items()
            }
            for which, result in found.items():
                for row, ms in result["ms"].items():
                    samples[which][row].append(ms)
            before, after = (found[which]["latencies_ms"] for which in (next(iter(checkouts)), "now"))
            difference = max(difference, *(abs(a / b - 1) for a, b in zip(after, before, strict=True)))
    return samples, difference


def main() -> None:
    """Print the table, and everything as JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calibration", type=Path, help="file of a calibrated predictor; without it a made-up one")
    parser.add_argument("--baseline", type=Path, help="checkout of the commit to compare with")
    parser.add_argument("--baseline-python", type=Path, default=Path(sys.executable), help="its interpreter")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torch", action="store_true", help="load torch and Optuna first")
    parser.add_argument("--child", choices=("stages", "batches"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(args.calibration, by_stage=args.child == "stages")))
        return
    checkouts = {"now": (ROOT, Path(sys.executable))}
    if args.baseline:
        checkouts = {"baseline": (args.baseline.resolve(), args.baseline_python.absolute()), **checkouts}
    with tempfile.TemporaryDirectory() as folder:
        calibration = args.calibration.resolve() if args.calibration else made_up_calibration(Path(folder))
        samples, difference = measure(checkouts, calibration, args.rounds, torch=args.torch)
    ms = {which: {row: statistics.median(found[row]) for row in ROWS} for which, found in samples.items()}
    rounds = [row_values for row_values in zip(*(samples[which]["batch"] for which in checkouts), strict=True)]
    ratios = {row: round(ms["baseline"][row] / ms["now"][row], 1) for row in ROWS} if args.baseline else {}
    print(f"{'CPU ms per network':20s}" + "".join(f"{which:>10s}" for which in checkouts) + "  ratio" * bool(ratios))
    for row in ROWS:
        print(f"{row:20s}" + "".join(f"{ms[which][row]:10.3f}" for which in checkouts) + f"{ratios.get(row, ''):>7}")
    spread = ", ".join("/".join(f"{value:.3f}" for value in values) for values in rounds)
    print(f"medians of {args.rounds} rounds; batch by round ({'/'.join(checkouts)}): {spread}")
    if args.baseline:
        print(f"largest relative difference of predictions: {difference:.1e}")
    load = [round(value, 1) for value in os.getloadavg()]
    print(f"load of the last 1, 5 and 15 minutes {load}, {os.cpu_count()} cores")
    rounded = {which: {row: round(value, 4) for row, value in rows.items()} for which, rows in ms.items()}
    print(json.dumps({"cpu_ms": rounded, "times_faster": ratios, "difference": difference, "load": load}))


if __name__ == "__main__":
    main()
