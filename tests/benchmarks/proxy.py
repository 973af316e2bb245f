"""Proxy training against a plain timm loop, in images per CPU-second.

Run from the project's root: OMP_NUM_THREADS=1 python tests/benchmarks/proxy.py [--root FOLDER] [--rounds 3]

The plain loop is what one would write with timm alone: ``create_model``, ``create_dataset``, ``create_loader`` with its
transforms, DataLoader in this process (workers=0, so that all CPU time is counted), timm's AdamW, default layout.
Both sides train timm's mixnet_s at 32 px (its own strides) in batches of 64 on a folder of images, in interleaved
rounds, each in its own process, because memory settings of one side would otherwise help the other. A round is one
epoch after a warm-up of a few steps. Both are charged CPU time of the whole process (all threads). Decoding once into
memory is charged to ours as ``decode_cpu_s``, beside the ratio: it is paid once per study, not per trial.

Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

BATCH = 64
SIDE_PX = 32
WARM_UP_IMAGES = 2 * BATCH

# What each variant switches on, one after the other.
VARIANTS = {
    "timm": "plain timm loop: files, loader, default layout",
    "default_layout": "ours, images in memory, batched augmentation, default layout, memory given back, in-place SiLU",
    "channels_last": "the same with channels_last",
    "keep_memory": "the same with freed memory kept",
    "out_of_place": "the same with SiLU out of place",
    "ours": "nas.training.trainer as it ships: the same with fast layers and the fused optimizer update",
    "ours_bfloat16": "as it ships, with bfloat16 autocast",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Images trained and CPU-seconds of one round."""

    images: int
    cpu_s: float
    decode_cpu_s: float

    @property
    def rate(self) -> float:
        """Images per CPU-second."""
        return self.images / self.cpu_s


def make_network(name: str, classes: int) -> nn.Module:
    """timm's network ``name``, or with the prefix ``proxy-`` the proxy that ``nas`` makes of it, both untrained."""
    import timm

    torch.manual_seed(0)
    if not name.startswith("proxy-"):
        model: nn.Module = timm.create_model(name, num_classes=classes)
        return model
    from nas.arch import zoo
    from nas.estimators.proxy.reduce import reduce_arch
    from nas.estimators.proxy.settings import ProxySettings
    from nas.model.build import build

    settings = ProxySettings(resolution_px=SIDE_PX, width_multiplier=0.25, min_map_px="auto")
    return build(reduce_arch(zoo.get(name.removeprefix("proxy-")), settings, classes=classes, largest_kernel=9).spec)


def plain_timm(root: Path, network: str, images: int) -> Round:
    """One epoch over ``images`` files as a plain timm script does it."""
    from timm.data import create_dataset, create_loader
    from timm.optim import create_optimizer_v2

    dataset = create_dataset("", root=str(root), split="train", is_training=True)
    model = make_network(network, len(dataset.reader.class_to_idx)).train()
    loader = create_loader(
        dataset,
        input_size=(3, SIDE_PX, SIDE_PX),
        batch_size=BATCH,
        is_training=True,
        num_workers=0,
        device=torch.device("cpu"),
        use_prefetcher=False,
        persistent_workers=False,
    )
    optimizer = create_optimizer_v2(model, opt="adamw", lr=0.01, weight_decay=0.05)
    loss_function = nn.CrossEntropyLoss(label_smoothing=0.1)
    done, start = 0, 0.0
    for inputs, targets in loader:
        if done == WARM_UP_IMAGES:
            start = time.process_time()
        optimizer.zero_grad()
        loss = loss_function(model(inputs), targets)
        loss.backward()
        optimizer.step()
        loss.item()
        done += len(targets)
        if done >= images + WARM_UP_IMAGES:
            break
    return Round(images=done - WARM_UP_IMAGES, cpu_s=time.process_time() - start, decode_cpu_s=0.0)


def ours(root: Path, network: str, images: int, variant: str) -> Round:
    """One epoch over ``images`` images of ``nas.training``, scoring excluded, with what ``variant`` leaves on."""
    from nas.data.images import load_images
    from nas.data.sources import DataSettings
    from nas.training import optimization, runtime
    from nas.training.settings import TrainSettings
    from nas.training.trainer import train

    if variant in ("default_layout", "channels_last"):
        runtime.retain_freed_memory = lambda: False  # type: ignore[assignment]
    if variant in ("default_layout", "channels_last", "keep_memory"):
        runtime._COPYING_IN_PLACE = ()  # type: ignore[assignment]
    if not variant.startswith("ours"):
        runtime.fast_layers = lambda model: nullcontext()  # type: ignore[assignment]
        optimization.fused_update = lambda *_: {}  # type: ignore[assignment]
    start = time.process_time()
    data = load_images(DataSettings(name="imagefolder", root=str(root), resolution_px=SIDE_PX, subset=images))
    decode_cpu_s = time.process_time() - start
    settings = TrainSettings(
        epochs=1,
        batch_size=BATCH,
        lr=0.01,
        device="cpu",
        channels_last=variant != "default_layout",
        amp="bfloat16" if variant == "ours_bfloat16" else "none",
    )
    model = make_network(network, data.classes)
    few = load_images(DataSettings(name="imagefolder", root=str(root), resolution_px=SIDE_PX, subset=WARM_UP_IMAGES))
    train(model, few, settings, seed=0)
    result = train(model, data, settings, seed=0)
    return Round(images=images, cpu_s=images / result.images_per_cpu_s, decode_cpu_s=decode_cpu_s)


def write_digits(folder: Path) -> Path:
    """Write scikit-learn's digits as 32 px PNG files, for where no folder of images is at hand."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    for index, (grey, label) in enumerate(zip(bunch.images, bunch.target, strict=True)):
        target = folder / ("val" if index % 5 == 0 else "train") / str(label)
        target.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((grey * 15.9).astype(np.uint8)).convert("RGB").resize((SIDE_PX, SIDE_PX))
        image.save(target / f"{index}.png")
    return folder


def rounds(root: Path, network: str, images: int, count: int) -> Iterator[tuple[str, Round]]:
    """Run every variant in turn, ``count`` times over, each in a process of its own."""
    for _ in range(count):
        for variant in VARIANTS:
            command = [sys.executable, __file__, "--root", str(root), "--network", network]
            done = subprocess.run(
                [*command, "--images", str(images), "--variant", variant], capture_output=True, text=True, check=True
            )
            yield variant, Round(**json.loads(done.stdout.splitlines()[-1]))


def report(found: dict[str, list[Round]], network: str, images: int) -> None:
    """Print one line per variant, and all figures as JSON at the end."""
    medians = {name: statistics.median(part.rate for part in parts) for name, parts in found.items()}
    for name, meaning in VARIANTS.items():
        rates = sorted(part.rate for part in found[name])
        print(
            f"{name:15} {medians[name]:7.1f} images/CPU-s ({rates[0]:.1f} to {rates[-1]:.1f}) "
            f"{medians[name] / medians['timm']:5.2f} x timm  {meaning}"
        )
    figures = {
        "network": network,
        "resolution_px": SIDE_PX,
        "batch_size": BATCH,
        "images": images,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "images_per_cpu_s": {name: round(value, 2) for name, value in medians.items()},
        "all_rounds": {name: [round(part.rate, 2) for part in parts] for name, parts in found.items()},
        "ratio": round(medians["ours"] / medians["timm"], 3),
        "decode_cpu_s": round(statistics.median(part.decode_cpu_s for part in found["ours"]), 3),
    }
    print(json.dumps(figures))


def main() -> None:
    """Compare all variants, or run one round of one variant when told which."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--root", type=Path, help="folder with train/ and val/ (default: digits, written as files)")
    parser.add_argument("--network", default="mixnet_s", help="a timm network, or proxy-NAME")
    parser.add_argument("--images", type=int, default=512, help="train images per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.variant is not None:
        run = plain_timm(args.root, args.network, args.images) if args.variant == "timm" else None
        run = run or ours(args.root, args.network, args.images, args.variant)
        print(json.dumps({"images": run.images, "cpu_s": run.cpu_s, "decode_cpu_s": run.decode_cpu_s}))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = args.root or write_digits(Path(folder))
        found: dict[str, list[Round]] = {name: [] for name in VARIANTS}
        for name, part in rounds(root, args.network, args.images, args.rounds):
            found[name].append(part)
            print(f"{name}: {part.rate:.1f} images/CPU-s", file=sys.stderr)
    report(found, args.network, args.images)


if __name__ == "__main__":
    main()
