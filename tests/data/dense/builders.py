"""Small data sets with boxes or masks on disk, in each layout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 40, 30

Row = tuple[str, float, float, float, float]  # class name, corners as the file writes them


def write_image(path: Path, *, seed: int = 0, size: tuple[int, int] = (WIDTH, HEIGHT), **save: Any) -> np.ndarray:
    """Write noise as an image of ``size`` = (width, height); its pixels (H, W, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(seed).randint(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **save)
    return pixels


def voc_xml(
    rows: Sequence[Row], *, size: tuple[int, int] | None = (WIDTH, HEIGHT), difficult: Sequence[int] = ()
) -> str:
    """A VOC label file."""
    objects = "".join(
        f"<object><name>{name}</name><difficult>{int(row in difficult)}</difficult><bndbox><xmin>{x1}</xmin>"
        f"<ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for row, (name, x1, y1, x2, y2) in enumerate(rows)
    )
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return f"<annotation>{stated}{objects}</annotation>"


def write_voc(root: Path, train: Mapping[str, Sequence[Row]], val: Mapping[str, Sequence[Row]]) -> None:
    """Write a data set as the VOC challenge lays it out: names to boxes of each split."""
    lists, folder = root / "ImageSets" / "Main", root / "Annotations"
    for path in (lists, folder):
        path.mkdir(parents=True, exist_ok=True)
    for seed, (name, rows) in enumerate([*train.items(), *val.items()]):
        write_image(root / "JPEGImages" / f"{name}.png", seed=seed)
        (folder / f"{name}.xml").write_text(voc_xml(rows), encoding="utf-8")
    for split, names in (("train", train), ("val", val)):
        if names:
            (lists / f"{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


def coco_json(
    images: Sequence[tuple[int, str]],
    annotations: Sequence[tuple[int, int, Sequence[float]]],
    categories: Mapping[int, str],
    **more: Any,
) -> str:
    """A COCO file: (id, file), (image id, category id, x y width height), names by id."""
    return json.dumps(
        {
            "info": {},
            "images": [{"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT} for number, name in images],
            "annotations": [
                {
                    "id": number,
                    "image_id": image,
                    "category_id": category,
                    "bbox": list(box),
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
                for number, (image, category, box) in enumerate(annotations, 1)
            ],
            "categories": [{"id": number, "name": name} for number, name in categories.items()],
        }
        | more
    )


def write_mask(path: Path, values: np.ndarray, *, palette: bool = True) -> None:
    """Write class numbers (H, W) as a PNG, with a palette or grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if palette:
        image = image.convert("L")
        indexed = Image.new("P", image.size)
        indexed.putdata(list(values.reshape(-1).tolist()))
        indexed.putpalette([(37 * level) % 256 for level in range(768)])
        image = indexed
    image.save(path)


def halves(left: int, right: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    """A mask (H, W) of two values side by side."""
    mask = np.full((size[1], size[0]), left, dtype=np.uint8)
    mask[:, size[0] // 2 :] = right
    return mask


def write_masks(root: Path, masks: Mapping[str, np.ndarray]) -> None:
    """Write ``images/NAME.png`` and ``masks/NAME.png`` below ``root``."""
    for seed, (name, mask) in enumerate(masks.items()):
        write_image(root / "images" / f"{name}.png", seed=seed)
        write_mask(root / "masks" / f"{name}.png", mask)
