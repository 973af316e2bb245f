"""Training SSDLite on real images: this project's loop and torchvision's reference loop, in turns.

Run from the project's root: OMP_NUM_THREADS=1 python tests/benchmarks/detection_training.py [--rounds 12]

Data: ../shared/data/bccd (205 train images of 640x480 px). Network: torchvision's ssdlite320_mobilenet_v3_large with
its reduced tail, and this project's mobilenetv3_large_100 with halved C5 and SSDLite's head, both at 256 px from random
weights; the numbers of parameters are printed. torchvision's side is references/detection/train.py: images and XML read
from files, the augmentation ``ssdlite`` (RandomIoUCrop and a flip, torchvision.transforms.v2 on PIL), a DataLoader of 0
workers, GeneralizedRCNNTransform at 256 px, SGD with momentum, all as they come. This side is ``train_network``'s step
with the batches of ``DetectionSource``: the same augmentation, images decoded once, AdamW.

Each side is a process of its own with one thread, and they alternate batch by batch, since the speed of a shared
machine changes within seconds. A figure is CPU time of the process, from asking for the batch to the end of the
optimizer's step. The ratio is the median over rounds of the ratios within a round, with its quartiles. Loading and
decoding, which this side does once per training, is given apart, and with it the ratio of a whole training of
``--epochs``.

Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import torch

ROOT: Final = Path(__file__).resolve().parents[2]
BCCD: Final = ROOT.parent / "shared" / "data" / "bccd"
SIDE_PX: Final = 256
CLASSES: Final = ("Platelets", "RBC", "WBC")
WARM_UP: Final = 2  # batches


def ours(batch_size: int) -> Iterator[Any]:
    """Yield facts of the set-up, then once per training step of this project's loop."""
    from nas.arch import zoo
    from nas.arch.heads import detector
    from nas.data.dense import DenseDataSettings, load_detection_data
    from nas.model.build import build
    from nas.training.recipe import RecipeSettings
    from nas.training.run import TrainingRun
    from nas.training.runtime import fast_training
    from nas.training.tasks import Detection, DetectionSource

    start, device = time.process_time(), torch.device("cpu")
    data = load_detection_data(DenseDataSettings(root=str(BCCD), repair=True))
    loading_s = time.process_time() - start
    settings = RecipeSettings(
        epochs=1000, batch_size=batch_size, lr=0.01, label_smoothing=0.0, crop_scale=0.3**2, loader_workers=0
    )
    spec = detector(zoo.get("mobilenetv3_large_100"), len(CLASSES), resolution_px=SIDE_PX, halve=True)
    model = build(spec)
    source = DetectionSource(data, settings, resolution_px=SIDE_PX, seed=0, device=device)
    with fast_training(model, device, 1):
        run = TrainingRun(model, source, settings, device, task=Detection(spec, source, settings, device))
        run.model.train()
        yield {"params": sum(weight.numel() for weight in model.parameters()), "loading_s": loading_s}
        epoch = 0
        while True:
            epoch += 1
            for batch in source.train_batches(epoch):
                run._train_step(batch)
                yield len(batch.rows)


class VocFolder(torch.utils.data.Dataset[Any]):
    """Images and boxes of BCCD as torchvision's reference reads such files, for its v2 transforms."""

    def __init__(self, transforms: Any) -> None:
        self._transforms = transforms
        self._names = (BCCD / "ImageSets" / "Main" / "train.txt").read_text().split()

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, row: int) -> Any:
        from PIL import Image
        from torchvision.tv_tensors import BoundingBoxes

        image = Image.open(BCCD / "JPEGImages" / f"{self._names[row]}.jpg").convert("RGB")
        boxes, labels = [], []
        for item in ElementTree.parse(BCCD / "Annotations" / f"{self._names[row]}.xml").findall("object"):
            box: Any = item.find("bndbox")
            left, top, right, bottom = (float(box.findtext(edge)) for edge in ("xmin", "ymin", "xmax", "ymax"))
            if left < right and top < bottom:
                boxes.append([left, top, right, bottom])
                labels.append(1 + CLASSES.index(str(item.findtext("name"))))
        target = {
            "boxes": BoundingBoxes(boxes, format="XYXY", canvas_size=(image.height, image.width)),
            "labels": torch.tensor(labels),
        }
        return self._transforms(image, target)


def theirs(batch_size: int) -> Iterator[Any]:
    """Yield facts of the set-up, then once per training step of torchvision's reference loop."""
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large
    from torchvision.models.detection.transform import GeneralizedRCNNTransform
    from torchvision.transforms import v2

    transforms = v2.Compose(
        [
            v2.RandomIoUCrop(),
            v2.RandomHorizontalFlip(p=0.5),
            v2.PILToTensor(),
            v2.ToDtype(torch.float, scale=True),
            v2.SanitizeBoundingBoxes(),
            v2.ToPureTensor(),
        ]
    )
    loader = torch.utils.data.DataLoader(
        VocFolder(transforms), batch_size, shuffle=True, num_workers=0, drop_last=True, collate_fn=_unzipped
    )
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=1 + len(CLASSES))
    model.transform = GeneralizedRCNNTransform(
        SIDE_PX, SIDE_PX, [0.5] * 3, [0.5] * 3, size_divisible=1, fixed_size=(SIDE_PX, SIDE_PX)
    )
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    yield {"params": sum(weight.numel() for weight in model.parameters()), "loading_s": 0.0}
    while True:
        for images, targets in loader:
            losses = model(list(images), [dict(target) for target in targets])
            loss = sum(losses.values())
            loss.item()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield len(images)


def _unzipped(batch: list[Any]) -> tuple[Any, ...]:
    return tuple(zip(*batch, strict=True))


def work(side: str, batch_size: int, link: Connection) -> None:
    """Process of a side: a step, and its CPU time and images, each time that it is asked."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    steps = {"ours": ours, "torchvision": theirs}[side](batch_size)
    link.send(next(steps))
    while link.recv():
        start = time.process_time()
        images = next(steps)
        link.send((time.process_time() - start, images))


def compare(rounds: int, batch_size: int) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Facts of both sides, and their CPU-seconds per image, one value per round."""
    context, links, processes = multiprocessing.get_context("spawn"), {}, []
    for side in ("ours", "torchvision"):
        links[side], end = context.Pipe()
        process = context.Process(target=work, args=(side, batch_size, end), daemon=True)
        process.start()
        processes.append(process)
    facts = {side: link.recv() for side, link in links.items()}
    times: dict[str, list[float]] = {side: [] for side in links}
    for number in range(WARM_UP + rounds):
        for side, link in links.items():
            link.send(True)
            spent, images = link.recv()
            if number >= WARM_UP:
                times[side].append(spent / images)
    for link, process in zip(links.values(), processes, strict=True):
        link.send(False)
        process.join()
    return facts, times


def main() -> None:
    """Compare both sides; print images per CPU-second and their ratio, then all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=40, help="of a training, over which loading is spread")
    args = parser.parse_args()
    if not BCCD.is_dir():
        sys.exit(f"{BCCD} is not there: this benchmark needs its images.")
    facts, times = compare(args.rounds, args.batch_size)
    low, ratio, high = statistics.quantiles(
        [b / a for a, b in zip(times["ours"], times["torchvision"], strict=True)], n=4
    )
    images = 205 * args.epochs
    loading_s = facts["ours"]["loading_s"] / images
    whole = statistics.median(times["torchvision"]) / (statistics.median(times["ours"]) + loading_s)
    report = {
        "data": "bccd",
        "side_px": SIDE_PX,
        "batch_size": args.batch_size,
        "rounds": args.rounds,
        "torch": torch.__version__,
        "params": {side: one["params"] for side, one in facts.items()},
        "images_per_cpu_s": {side: round(1 / statistics.median(values), 2) for side, values in times.items()},
        "ratio": round(ratio, 3),
        "quartiles": [round(low, 3), round(high, 3)],
        "loading_cpu_s": round(facts["ours"]["loading_s"], 2),
        "ratio_with_loading": round(whole, 3),
    }
    rates = report["images_per_cpu_s"]
    print(
        f"{rates['ours']} images/CPU-s, {ratio:.2f} ({low:.2f} to {high:.2f}) x torchvision's reference loop "
        f"({rates['torchvision']}); with loading over {args.epochs} epochs {whole:.2f}"
    )
    print(json.dumps(report))


if __name__ == "__main__":
    main()
