"""Noise of a compound grid's estimates between seeds, over what the networks differ by.

    OMP_NUM_THREADS=1 python tests/benchmarks/grid_noise.py [--seeds 4] [OVERRIDE ...]

Trains every network of a small grid with several seeds and compares what a training may be judged by: accuracy or
validation loss, after the last epoch or as the mean over the last ones. For each it prints the standard deviation
between seeds (pooled over networks), that of the networks' true means (by analysis of variance), and F, the variance
of the means over what the seeds alone give them: the higher, the fewer seeds separate the networks. The errors of
log F are by jackknife over the networks. Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from rich.console import Console

from nas.compound_grid import make_plan
from nas.methods.scaling.session import prepare_scaling
from nas.training.results import EpochResult

Array = npt.NDArray[np.float64]
GRID = (
    "phi=1", "baseline='ds_r1_k3_s1_c16 | ir_r2_k3_s2_e3_c32 | ir_r2_k3_s2_e3_c64'", "latency=macs",
    "grid.alpha=[1.0,1.4,2.0]", "grid.beta=[1.0,1.2,1.4]", "grid.gamma=[1.0,1.2,1.4]", "grid.realised_tolerance=0.5",
    "proxy.resolution_px=12", "proxy.width_multiplier=0.3", "proxy.epochs=6", "data.subset=800", "study.name=noise",
)  # fmt: skip


def train_all(overrides: list[str], seeds: int) -> Array:
    """Accuracy and validation loss by network, seed and epoch, (N, S, E, 2)."""
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan([*GRID, f"runs_dir={folder}", *overrides])
        session = prepare_scaling(plan, Console(stderr=True))
        design = session.design_at(())
        found = []
        for entry in (design.baseline, *design.trained):
            runs = []
            for repeat in range(seeds):
                epochs: list[EpochResult] = []
                session.evaluator.evaluate(entry.arch, repeat=repeat, on_epoch=epochs.append)
                runs.append([(one.accuracy, one.val_loss) for one in epochs])
            found.append(runs)
    return np.array(found)


def variances(values: Array) -> tuple[float, float, float]:
    """Variance between seeds and of the true means, and F, of ``values`` (N, S)."""
    within = float(values.var(axis=1, ddof=1).mean())
    means = float(values.mean(axis=1).var(ddof=1))
    return within, max(0.0, means - within / values.shape[1]), means * values.shape[1] / within


def jackknife_error(values: Array, other: Array) -> float:
    """Standard error of log F of ``values`` minus that of ``other``, (N, S) both."""
    count = len(values)
    left = [np.log(variances(np.delete(values, k, 0))[2] / variances(np.delete(other, k, 0))[2]) for k in range(count)]
    return float(np.sqrt((count - 1) / count * np.sum((np.array(left) - np.mean(left)) ** 2)))


def main() -> None:
    """Command-line entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    arguments, overrides = parser.parse_known_args()
    start = time.process_time()
    runs = train_all(overrides, arguments.seeds)
    networks, seeds, epochs, _ = runs.shape
    signals: dict[str, Callable[[int], Array]] = {
        "accuracy": lambda last: runs[:, :, -last:, 0].mean(axis=2),
        "loss": lambda last: runs[:, :, -last:, 1].mean(axis=2),
    }
    print(f"{networks} networks, {seeds} seeds, {epochs} epochs, {time.process_time() - start:.0f} CPU-s")
    print(f"{'signal':14s} mean    between seeds     between networks  F      log F over accuracy's")
    rows = []
    for name, values_of in signals.items():
        for last in sorted({1, 2, max(1, epochs // 3), max(1, epochs // 2)}):
            values, base = values_of(last), signals["accuracy"](1)
            within, between, ratio = variances(values)
            gain, error = float(np.log(ratio / variances(base)[2])), jackknife_error(values, base)
            deviation, spread = within**0.5, within**0.5 / (2 * networks * (seeds - 1)) ** 0.5
            rows.append({"signal": name, "last": last, "between_seeds": deviation, "between_networks": between**0.5,
                         "f": ratio, "gain": gain, "error": error})  # fmt: skip
            print(f"{name:8s} last {last} {values.mean():.4f}  {deviation:.4f} ± {spread:.4f}   {between**0.5:.4f}"
                  f"            {ratio:5.2f}  {gain:+.2f} ± {error:.2f}")  # fmt: skip
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
