"""Images of an export are prepared as the training prepares those of validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.data.images import load_images
from nas.data.sources import DataSettings
from nas.data.streaming import DecodedImages, list_images
from nas.exporters.deployment.images import ValidationImages
from nas.exporters.deployment.network import ExportedNetwork
from nas.exporters.deployment.preprocessing import IMAGENET_MEAN, preprocessing_of
from nas.training.augmentation import normalise
from nas.training.augmentation_settings import AugmentationSettings
from nas.training.streaming.transforms import ValTransform

STATISTICS = {"mean": [0.5, 0.25, 0.125, 0.0], "std": [0.25, 0.5, 1.0, 1.0]}
PX = 12


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of images of several shapes and formats, in splits of their own."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split in ("train", "val"):
        for label, name in enumerate(("newt", "owl")):
            for number, shape in enumerate(((20, 31), (40, 16), (12, 12), (64, 80))):
                pixels = rng.integers(0, 256, (*shape, 3 + (number == 1)), dtype=np.uint8)
                path = folder / split / name / f"{number}.{'png' if number < 3 else 'jpg'}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.roll(pixels, label)).save(path)
    return folder


def network(channels: int = 3, classes: int = 2, names: tuple[str, ...] = (), **origin: Any) -> ExportedNetwork:
    spec = ArchSpec.from_strings(
        "tiny", [["ds_r1_k3_s1_c16"]], stem=StemSpec(channels=8), head=HeadSpec(channels=8), classes=classes,
        in_channels=channels, resolution_px=PX,
    )  # fmt: skip
    statistics = {name: values[:channels] for name, values in STATISTICS.items()}
    steps = preprocessing_of(origin, statistics, None, resolution_px=PX, channels=channels)
    return ExportedNetwork(arch=spec, weights=None, facts={"class_names": list(names)}, preprocessing=steps)


@pytest.mark.parametrize("crop_pct", [1.0, 0.8])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_pixels_are_those_of_a_training_on_files(photos: Path, fit: str, interpolation: str, crop_pct: float) -> None:
    data = DataSettings(name="imagefolder", root=str(photos), fit=fit, background="black")
    trained = list_images(data, PX)
    transform = ValTransform(trained, AugmentationSettings(interpolation=interpolation, crop_pct=crop_pct))
    expected = []
    for row in range(len(trained.val_labels)):
        with trained.open("val", row) as image:
            expected.append(torch.tensor(transform(image)).permute(2, 0, 1))
    steps = {"fit": fit, "background": [0, 0, 0], "interpolation": interpolation, "crop_pct": crop_pct}
    found = ValidationImages(data, network(preprocessing=steps))
    mean, std = (torch.tensor(STATISTICS[name][:3]).view(1, -1, 1, 1) for name in ("mean", "std"))
    np.testing.assert_allclose(np.concatenate(list(found)), normalise(torch.stack(expected), mean, std), atol=1e-6)
    np.testing.assert_array_equal(found.labels, trained.val_labels)
    np.testing.assert_array_equal(found.sample(3), np.concatenate(list(found))[[0, 3, 7]])


@pytest.mark.parametrize("crop_pct", [1.0, 0.5])
def test_pixels_are_those_of_a_training_on_a_data_set(crop_pct: float) -> None:
    data = DataSettings(name="digits")
    trained = load_images(DataSettings(name="digits", resolution_px=PX))
    found = ValidationImages(data, network(1, 10, preprocessing={"crop_pct": crop_pct}))
    assert len(found) == len(trained.val_labels)
    np.testing.assert_array_equal(found.labels, trained.val_labels)
    images = found.sample(5)
    rows = np.linspace(0, len(found) - 1, 5).astype(int)
    transform = ValTransform(DecodedImages(trained), AugmentationSettings(crop_pct=crop_pct))
    for image, row in zip(images, rows, strict=True):
        with DecodedImages(trained).open("val", row) as opened:
            pixels = transform(opened)[:, :, 0]
        np.testing.assert_allclose(image[0], (pixels / 255 - 0.5) / 0.25, atol=1e-5)


def test_labels_are_put_into_the_order_of_the_network_s_classes(photos: Path) -> None:
    data = DataSettings(name="imagefolder", root=str(photos))
    found = ValidationImages(data, network(classes=3, names=("owl", "cat", "newt")))
    np.testing.assert_array_equal(found.labels, [2] * 4 + [0] * 4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": 3}, "data: the images have 2 classes, the network 3"),
        ({"names": ("owl", "cat")}, "data: among the 2 classes of the network is no 'newt'"),
        ({"channels": 4}, "data imagefolder: the images have 3 channels, the network takes 4"),
    ],
)
def test_images_of_another_network_are_refused(photos: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(NasError, match=message):
        ValidationImages(DataSettings(name="imagefolder", root=str(photos)), network(**fields))


def test_a_grey_network_takes_the_first_channel_and_a_colour_one_no_grey_images(photos: Path) -> None:
    colours = ValidationImages(DataSettings(name="imagefolder", root=str(photos)), network())
    grey = ValidationImages(DataSettings(name="imagefolder", root=str(photos)), network(1))
    np.testing.assert_array_equal(next(iter(grey)), next(iter(colours))[:, :1])
    with pytest.raises(NasError, match="data digits: the images have 1 channels, the network takes 3"):
        ValidationImages(DataSettings(name="digits"), network(3, 10))


def test_older_specs_say_it_in_their_recipe_or_not_at_all() -> None:
    recipe = {"crop_pct": 0.9, "interpolation": "random", "epochs": 3}
    old = preprocessing_of({"recipe": recipe}, None, None, resolution_px=90, channels=3)
    assert (old.crop_pct, old.interpolation, old.whole_px, old.mean) == (0.9, "bilinear", 100, IMAGENET_MEAN)
    padded = DataSettings(name="imagefolder", root=".", fit="pad", background="black")
    bare = preprocessing_of({}, None, padded, resolution_px=90, channels=1)
    assert (bare.crop_pct, bare.fit, bare.background) == (1.0, "pad", (0, 0, 0))
    assert bare.mean == (pytest.approx(sum(IMAGENET_MEAN) / 3, abs=1e-6),)


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ({"preprocessing": 3}, r"provenance\.preprocessing 3: must be a mapping"),
        ({"preprocessing": {"fit": "cut"}}, r"unknown provenance\.preprocessing\.fit 'cut': choose from crop, pad"),
        ({"preprocessing": {"crop_pct": 0}}, r"provenance\.preprocessing\.crop_pct 0: must be a number"),
        ({"preprocessing": {"background": "x"}}, r"background 'x': must be"),
        ({"recipe": {"interpolation": "lanczos"}}, r"interpolation 'lanczos': choose from bilinear, bicubic"),
        ({"recipe": [1]}, r"provenance\.recipe \[1\]: must be a mapping"),
    ],
)
def test_faulty_steps_are_named(origin: dict[str, Any], message: str) -> None:
    with pytest.raises(NasError, match=message):
        preprocessing_of(origin, None, None, resolution_px=8, channels=3)
    with pytest.raises(NasError, match=r"provenance\.normalisation\.std 0.0: must be a number above 0"):
        preprocessing_of({}, {"mean": [0.0], "std": [0.0]}, None, resolution_px=8, channels=1)
