"""Tests of the note on objects that are too small for the maps of a detector."""

from __future__ import annotations

import math
from pathlib import Path

from nas.arch.heads import LRASPPHead, SSDLiteHead
from nas.data.dense import DenseDataSettings, DetectionData, load_detection_data
from nas.training.tasks import small_object_note
from tests.data.dense.builders import HEIGHT, WIDTH, write_image

# Class, width and height as shares of the image: roots of the areas are 0.05, 0.04 and 0.06, and 0.3.
BOXES = ((0, 0.05, 0.05), (0, 0.08, 0.02), (0, 0.06, 0.06), (1, 0.3, 0.3))


def cells(root: Path, fit: str = "stretch") -> DetectionData:
    (root / "labels" / "train").mkdir(parents=True)
    (root / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [dot, cell]\n")
    for row, (label, width, height) in enumerate(BOXES):
        write_image(root / "images" / "train" / f"{row}.png", seed=row)
        (root / "labels" / "train" / f"{row}.txt").write_text(f"{label} 0.5 0.5 {width} {height}\n")
    return load_detection_data(DenseDataSettings(name="detection", root=str(root), fit=fit))


def test_small_objects_are_told_with_the_scale_that_finds_them(tmp_path: Path) -> None:
    data = cells(tmp_path)
    note = small_object_note(data, SSDLiteHead())
    assert "half of the boxes of dot have a side below 5.0% of the image's" in note
    assert note.endswith("a head with head.c3_scale=0.05 has a finer one")
    assert not small_object_note(data, SSDLiteHead(min_scale=0.09))  # its boxes are small themselves
    assert not small_object_note(data, SSDLiteHead(c3_scale=0.05))
    assert not small_object_note(data, LRASPPHead())


def test_sides_are_those_that_the_network_sees(tmp_path: Path) -> None:
    note = small_object_note(cells(tmp_path, fit="pad"), SSDLiteHead())
    side = 0.05 * math.sqrt(HEIGHT / WIDTH)
    assert f"c3_scale={side:.2g} " in note and "below 4.3% of" in note
