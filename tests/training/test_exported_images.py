"""Tests of images for exported detectors and segmenters: their classes are those of the network."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.arch.heads import detector, segmenter
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.data.dense import DenseDataSettings
from nas.exporters.deployment import ExportedNetwork
from nas.exporters.deployment.preprocessing import Preprocessing
from nas.exporters.formats import Run
from nas.model.build import build
from nas.training.exported_images import DenseExportImages
from tests.data.dense.builders import halves, write_masks, write_voc
from tests.exporters.dense_specs import trunk


def network(arch: ArchSpec, *names: str) -> ExportedNetwork:
    px = arch.resolution_px
    steps = Preprocessing(resolution_px=px, mean=(0.5,) * 3, std=(0.25,) * 3, fit="stretch")
    return ExportedNetwork(arch=arch, weights=None, facts={"class_names": names}, preprocessing=steps)


def masks(root: Path, *values: tuple[int, int], names: str = "") -> DenseDataSettings:
    """Images whose left and right half have these values."""
    write_masks(root, {f"image{row}": halves(*pair) for row, pair in enumerate(values)})
    if names:
        (root / "classes.txt").write_text(names.replace(" ", "\n"), encoding="utf-8")
    return DenseDataSettings(name="segmentation", root=str(root), val_fraction=0.25)


def labels(images: DenseExportImages) -> set[int]:
    data = images._data
    return {
        int(value)
        for split in (data.train, data.val)
        for row in range(len(split))
        for value in np.unique(split.mask(row))
    }


def test_a_void_class_in_front_does_not_shift_the_others(tmp_path: Path) -> None:
    """The network's names have no void: as names of the values 0, 1 they would be those of void and road."""
    settings = masks(tmp_path, *[(0, 1), (1, 2), (0, 2), (2, 1)] * 2, names="void road sky")
    assert labels(
        DenseExportImages(settings, network(segmenter(trunk(0), classes=2, resolution_px=64), "road", "sky"))
    ) == {0, 1, 255}


def test_values_with_gaps_keep_their_classes(tmp_path: Path) -> None:
    settings = masks(tmp_path, *[(0, 3), (3, 7), (7, 0)] * 3)
    assert labels(
        DenseExportImages(settings, network(segmenter(trunk(0), classes=3, resolution_px=64), "0", "3", "7"))
    ) == {0, 1, 2}


def test_masks_without_names_have_those_of_the_network(tmp_path: Path) -> None:
    images = DenseExportImages(
        masks(tmp_path, *[(0, 1)] * 8), network(segmenter(trunk(0), classes=3, resolution_px=64), "a", "b", "c")
    )
    assert images._data.class_names == ("a", "b", "c")  # no image shows the third


def test_masks_of_other_classes_are_refused(tmp_path: Path) -> None:
    arch = segmenter(trunk(0), classes=2, resolution_px=64)
    with pytest.raises(NasError, match=r"its 2 classes \(road, sky\) are not the 2 of the network \(sky, road\)"):
        DenseExportImages(masks(tmp_path, *[(0, 1)] * 8, names="road sky"), network(arch, "sky", "road"))


def test_boxes_are_read_by_their_names(tmp_path: Path) -> None:
    """No image of the folder shows a cat, which is the first class of the network."""
    rows = {"one": [("dog", 3, 3, 20, 20)], "two": [("bird", 3, 3, 20, 20)]}
    write_voc(tmp_path, rows, {"three": [("dog", 3, 3, 20, 20)]})
    arch = detector(trunk(0), classes=3, resolution_px=64)
    images = DenseExportImages(
        DenseDataSettings(name="detection", root=str(tmp_path)), network(arch, "dog", "cat", "bird")
    )
    assert [images._data.train.labels(row).tolist() for row in range(2)] == [[0], [2]]


def test_layers_are_chosen_by_train_images_that_the_calibration_does_not_use(tmp_path: Path) -> None:
    """A file has the score on them that it has on a data set whose validation images they are."""
    boxes = {f"image{row}": [("dog", 2 + row, 3, 22 + row, 25), ("cat", 1, 1, 9, 9 + row)] for row in range(8)}
    write_voc(
        tmp_path / "all", {name: rows for name, rows in boxes.items() if name != "image7"}, {"image7": boxes["image7"]}
    )
    arch = detector(trunk(0), classes=2, resolution_px=64)
    torch.manual_seed(0)
    run = module_run(arch)

    def images(root: str) -> DenseExportImages:
        settings = DenseDataSettings(name="detection", root=str(tmp_path / root), seed=1)
        return DenseExportImages(settings, network(arch, "cat", "dog"))

    found = images("all")
    calibration, selection = found.quantisation_images(seed=3)
    order = np.random.default_rng(3).permutation(7)
    assert len(calibration) == 3 and len(selection) == 4
    pixels = np.stack([found._data.train.image(row) for row in order[:3]]).astype(np.float32)
    assert np.abs(calibration.mean((2, 3)) - (pixels.mean((1, 2)) / 255 - 0.5) / 0.25).max() < 0.1
    for count in (2, 4):
        chosen = {f"image{row}": boxes[f"image{row}"] for row in sorted(order[3 : 3 + count])}
        root = tmp_path / str(count)
        shutil.copytree(tmp_path / "all", root)
        (root / "ImageSets" / "Main" / "val.txt").write_text("\n".join(chosen), encoding="utf-8")
        (root / "ImageSets" / "Main" / "train.txt").write_text(
            "\n".join(boxes.keys() - chosen.keys()), encoding="utf-8"
        )
        expected = images(str(count)).score(run, 1, None)
        assert selection.score(run, 1, count) == expected
        assert expected.images == count and expected.accuracy > 0
        assert np.linalg.norm(expected.deviations) == pytest.approx(expected.standard_error)


def module_run(arch: ArchSpec) -> Run:
    """Network with random weights, as a file would run it."""
    model = build(arch).eval()

    def run(images: np.ndarray) -> tuple[np.ndarray, ...]:
        with torch.inference_mode():
            return tuple(one.numpy() for one in model(torch.from_numpy(images)))

    return run
