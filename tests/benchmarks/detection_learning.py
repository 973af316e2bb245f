"""What a small detector learns on real images within ten CPU-minutes, against a constant predictor.

Run from the project's root:
OMP_NUM_THREADS=1 python tests/benchmarks/detection_learning.py [--seeds 0 1] [--c3-scale 0.075]

Data: ../shared/data/bccd, 205 train and 87 validation images of blood cells, 3 classes. Network: mobilenetv3_small_050
with SSDLite's head at 256 px, random weights, trained by conf/recipe/detection.yaml with ``--epochs``. The constant
predictor finds the same boxes in every image: of SSD's default boxes those that match most train images. AP is COCO's,
with its standard error by the jackknife over 20 groups of validation images. CPU time of one thread, with validation.

Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

import torch
import yaml

from nas.arch import zoo
from nas.arch.heads import detector
from nas.data.dense import DenseDataSettings, load_detection_data
from nas.model.build import build
from nas.training.recipe import RecipeSettings
from nas.training.run import TrainingRun
from nas.training.tasks import Detection, DetectionSource
from nas.training.trainer import TrainingHooks, train_network

ROOT: Final = Path(__file__).resolve().parents[2]
BCCD: Final = ROOT.parent / "shared" / "data" / "bccd"
ARCH: Final = "mobilenetv3_small_050"


def recipe(**changes: Any) -> RecipeSettings:
    """Return the recipe of detection with ``changes``."""
    files = (ROOT / "conf" / "recipe" / f"{name}.yaml" for name in ("default", "detection"))
    fields = {key: value for file in files for key, value in yaml.safe_load(file.read_text()).items()}
    del fields["defaults"]
    return RecipeSettings(**{**fields, "loader_workers": 0, "device": "cpu", **changes})


def train(seed: int, args: argparse.Namespace, data: Any) -> dict[str, Any]:
    """Train with ``seed`` and print a line per epoch; returns its figures."""
    settings = recipe(epochs=args.epochs)
    spec = detector(zoo.get(ARCH), len(data.class_names), resolution_px=args.px, c3_scale=args.c3_scale)
    device = torch.device("cpu")
    torch.manual_seed(seed)
    model = build(spec)
    source = DetectionSource(data, settings, resolution_px=args.px, seed=seed, device=device)
    task = Detection(spec, source, settings, device)
    constant = task.constant_precision()
    curve: list[dict[str, float]] = []

    def on_epoch(run: TrainingRun) -> None:
        last = run.results[-1]
        spent = sum(result.cpu_s for result in run.results)
        curve.append({"map50": last.metrics["map50"], "map": last.accuracy, "cpu_s": round(spent, 1)})
        print(
            f"seed {seed}, epoch {last.epoch}: AP@.5 {last.metrics['map50']:.3f} +- {last.metrics['map50_error']:.3f}, "
            f"AP {last.accuracy:.3f} +- {last.standard_error:.3f}, loss {last.train_loss:.2f}, {spent:.0f} CPU-s",
            flush=True,
        )

    result = train_network(model, source, settings, seed=seed, hooks=TrainingHooks(on_epoch=on_epoch), task=task)
    return {
        "seed": seed,
        "constant_map50": round(constant.at_50, 4),
        "constant_map": round(constant.mean, 4),
        "map50": round(result.metrics["map50"], 4),
        "map50_error": round(result.metrics["map50_error"], 4),
        "map": round(result.accuracy, 4),
        "classes": dict(zip(data.class_names, result.epochs[-1].class_scores, strict=True)),
        "class_errors": dict(zip(data.class_names, result.epochs[-1].class_errors, strict=True)),
        "train_images_per_cpu_s": round(result.images_per_cpu_s, 1),
        "curve": curve[:: max(1, len(curve) // 8)],
    }


def main() -> None:
    """Train with every seed; print the curves, then all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--px", type=int, default=256)
    parser.add_argument("--c3-scale", type=float, help="of the default boxes of a further map, for small objects")
    args = parser.parse_args()
    if not BCCD.is_dir():
        sys.exit(f"{BCCD} is not there: this benchmark needs its images.")
    torch.set_num_threads(1)
    data = load_detection_data(DenseDataSettings(root=str(BCCD), repair=True))
    found = [train(seed, args, data) for seed in args.seeds]
    print(json.dumps({"arch": ARCH, **vars(args), "seeds": found}))


if __name__ == "__main__":
    main()
