"""A small data set of drawn rectangles with boxes, in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nas.data.dense import DenseDataSettings

COLOURS = ((220, 40, 40), (40, 60, 220))


@dataclass
class BoxedSplit:
    """Images with bright rectangles of two colours, the classes, on grey noise, and their boxes."""

    seed: int
    count: int
    pixels: tuple[int, int] = (96, 64)
    ignored: bool = False
    images: list[Any] = field(default_factory=list)
    truth: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        draw, (width, height) = np.random.default_rng(self.seed), self.pixels
        for _ in range(self.count):
            image = draw.integers(90, 130, (height, width, 3)).astype(np.uint8)
            boxes, labels = [], []
            for _ in range(int(draw.integers(1, 4))):
                across, down = draw.integers(14, 40, 2)
                left, top = draw.integers(0, width - across), draw.integers(0, height - down)
                label = int(draw.integers(0, 2))
                image[top : top + down, left : left + across] = COLOURS[label]
                boxes.append([left, top, left + across, top + down])
                labels.append(label)
            self.images.append(image)
            is_ignored = np.array([self.ignored] + [False] * (len(boxes) - 1))
            self.truth.append((np.array(boxes, dtype=np.float32), np.array(labels, dtype=np.int64), is_ignored))

    def __len__(self) -> int:
        return self.count

    def size(self, row: int) -> tuple[int, int]:
        return self.pixels

    def image(self, row: int) -> Any:
        return self.images[row]

    def boxes(self, row: int) -> Any:
        return self.truth[row][0]

    def labels(self, row: int) -> Any:
        return self.truth[row][1]

    def is_ignored(self, row: int) -> Any:
        return self.truth[row][2]


@dataclass(eq=False)
class BoxedData:
    """Stands for a ``DetectionData``."""

    train: Any
    val: Any
    settings: DenseDataSettings
    class_names: tuple[str, ...] = ("red", "blue")
    mean: tuple[float, float, float] = (0.45, 0.42, 0.45)
    std: tuple[float, float, float] = (0.15, 0.12, 0.15)

    def identity(self) -> list[Any]:
        return [self.train.seed, self.train.count, self.val.count]


def boxed_data(train: int = 10, val: int = 6, *, ignored: bool = False, **settings: Any) -> Any:
    """Return a small data set; ``ignored``: the first box of each image is."""
    return BoxedData(
        BoxedSplit(1, train, ignored=ignored), BoxedSplit(2, val, ignored=ignored), DenseDataSettings(**settings)
    )


def write_boxed_images(folder: Path, *, train: int = 10, val: int = 6) -> Path:
    """Write such images with their boxes in YOLO's layout."""
    (folder / "data.yaml").parent.mkdir(parents=True, exist_ok=True)
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [red, blue]\n")
    for name, split in (("train", BoxedSplit(1, train)), ("val", BoxedSplit(2, val))):
        for kind in ("images", "labels"):
            (folder / kind / name).mkdir(parents=True, exist_ok=True)
        for row in range(len(split)):
            Image.fromarray(split.image(row)).save(folder / "images" / name / f"{row:02}.png")
            shares = split.boxes(row) / np.tile(split.size(row), 2)
            lines = [
                f"{label} {(box[0] + box[2]) / 2} {(box[1] + box[3]) / 2} {box[2] - box[0]} {box[3] - box[1]}"
                for box, label in zip(shares, split.labels(row), strict=True)
            ]
            (folder / "labels" / name / f"{row:02}.txt").write_text("\n".join(lines) + "\n")
    return folder
