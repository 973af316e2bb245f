"""Decoding and augmenting image files against timm's loader, in images per CPU-second.

Run from the project's root: OMP_NUM_THREADS=1 python tests/benchmarks/image_pipeline.py [--rounds 9]

Both sides open the same files, draw random resized crops and the same augmentations, and return normalised batches of
32 in this process, without loader processes, so that all CPU time is counted: timm's ``create_loader`` with its
prefetcher on the CPU, ours ``nas.training.streaming``. A round is one epoch; the sides take turns after a warm-up. Ours
also turns images upright, checks them in the first epoch, and seeds every image. Reads ``../shared/data``; without it,
or with ``--synthetic``, images of noise are made, on which absolute figures differ.

Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timm.data import create_loader
from torch.utils.data import Dataset

from nas.data.sources import DataSettings
from nas.data.streaming import ImageFiles, list_images
from nas.training.augmentation_settings import AugmentationSettings
from nas.training.streaming.batches import StreamedSource

BATCH = 32
CPU = torch.device("cpu")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Files, the side of the result in px, and the augmentation."""

    files: str
    count: int
    side_px: int
    crop_scale: float
    auto_augment: str | None = None
    color_jitter: float = 0.0

    @property
    def name(self) -> str:
        """The case in words."""
        extra = [self.auto_augment or "", f"jitter {self.color_jitter:g}" if self.color_jitter else ""]
        return " ".join([self.files, f"to {self.side_px} px, crops from {self.crop_scale:g}", *filter(None, extra)])


CASES = (
    Case(files="photos", count=64, side_px=224, crop_scale=0.08, color_jitter=0.4),
    Case(files="photos", count=64, side_px=224, crop_scale=0.08, auto_augment="rand-m9-mstd0.5"),
    Case(files="photos", count=64, side_px=128, crop_scale=0.35),
    Case(files="photos", count=64, side_px=64, crop_scale=0.35, auto_augment="rand-m9-mstd0.5"),
    Case(files="icons", count=320, side_px=32, crop_scale=0.35, auto_augment="rand-m9-mstd0.5"),
    Case(files="icons", count=320, side_px=64, crop_scale=0.35),
)


class TimmImages(Dataset[tuple[object, int]]):
    """The train files as timm's ``ImageDataset`` opens them."""

    def __init__(self, images: ImageFiles) -> None:
        self.files, self.labels = list(images.train_files), images.train_labels.tolist()
        self.transform: Callable[[Image.Image], object] | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[object, int]:
        with self.files[row].open("rb") as stream:
            image = Image.open(stream).convert("RGB")
        assert self.transform is not None
        return self.transform(image), self.labels[row]


def make_folder(root: Path, kind: str, synthetic: bool) -> Path:
    """Link or make a class folder of photos (JPEG, 640 x 480) or icons (PNG, 32 x 32)."""
    source = {"photos": SHARED / "bccd" / "JPEGImages", "icons": SHARED / "cifar10_mini" / "val"}[kind]
    files = [] if synthetic else sorted(source.rglob("*.jpg" if kind == "photos" else "*.png"))[:700]
    noise = np.random.default_rng(0)
    for index in range(len(files) or 700):
        folder = root / kind / "ab"[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        if files:
            (folder / f"{index}-{files[index].name}").symlink_to(files[index])
        else:
            coarse = Image.fromarray(noise.integers(0, 256, (15, 20, 3), dtype=np.uint8))
            size = (640, 480) if kind == "photos" else (32, 32)
            coarse.resize(size).save(folder / f"{index}.{'jpg' if kind == 'photos' else 'png'}")
    return root / kind


def measure(case: Case, root: Path, rounds: int) -> dict[str, object]:
    """Images per CPU-second of both sides, and their ratio by round."""
    images = list_images(DataSettings(name="imagefolder", root=str(root), subset=case.count), case.side_px)
    settings = AugmentationSettings(
        batch_size=BATCH,
        crop_scale=case.crop_scale,
        auto_augment=case.auto_augment,
        color_jitter=case.color_jitter,
        loader_workers=0,
    )
    source = StreamedSource(images, settings, seed=0, device=CPU)
    loader = create_loader(
        TimmImages(images),
        (3, case.side_px, case.side_px),
        BATCH,
        is_training=True,
        scale=(case.crop_scale, 1.0),
        auto_augment=case.auto_augment,
        color_jitter=case.color_jitter or None,
        mean=images.mean,
        std=images.std,
        num_workers=0,
        device=CPU,
        persistent_workers=False,
    )

    def rate(epoch: int, *, is_ours: bool) -> float:
        start = time.process_time()
        if is_ours:
            done = sum(len(batch.images) for batch in source.train_batches(epoch))
        else:
            done = sum(len(batch) for batch, _ in loader)
        return done / (time.process_time() - start)

    pairs: list[tuple[float, float]] = []
    for epoch in range(1, rounds + 2):
        order = (True, False) if epoch % 2 else (False, True)
        found = {is_ours: rate(epoch, is_ours=is_ours) for is_ours in order}
        pairs.append((found[True], found[False]))
    ours, theirs = zip(*pairs[1:], strict=True)  # the first round warms up
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return {
        "case": case.name,
        "ours": round(statistics.median(ours), 1),
        "timm": round(statistics.median(theirs), 1),
        "ratio": round(statistics.median(ratios), 3),
        "standard_error": round(1.25 * statistics.stdev(ratios) / len(ratios) ** 0.5, 3),  # of a median
    }


def main() -> None:
    """Print a line per case, then all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--synthetic", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    with tempfile.TemporaryDirectory() as name:
        roots = {kind: make_folder(Path(name), kind, given.synthetic) for kind in ("photos", "icons")}
        for case in CASES:
            result = measure(case, roots[case.files], given.rounds)
            results.append(result)
            print("{case}: {ours} images per CPU-s, timm {timm}: {ratio} ± {standard_error} times".format(**result))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
