"""Image folder of photographs: 4,000 train and 1,000 validation CIFAR-10 PNGs.

Skipped where the folder is missing.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from nas.data.images import ImageData, load_images
from nas.data.sources import DataSettings, check_data
from tests.paths import SHARED_DATA

ROOT = SHARED_DATA / "cifar10_mini"

pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason="../shared/data/cifar10_mini is missing")


@pytest.fixture(scope="module")
def data() -> ImageData:
    settings = DataSettings(name="imagefolder", root=str(ROOT))
    check_data(settings)
    return load_images(settings)


def test_every_image_is_read_with_its_class(data: ImageData) -> None:
    assert (data.resolution_px, data.channels, data.classes, data.flips) == (32, 3, 10, True)
    assert torch.bincount(data.train_labels).tolist() == [400] * 10
    assert torch.bincount(data.val_labels).tolist() == [100] * 10
    assert data.class_names == tuple(sorted(path.name for path in (ROOT / "train").iterdir()))


def test_pixels_match_the_files(data: ImageData) -> None:
    for split, images, labels in (
        ("train", data.train_images, data.train_labels),
        ("val", data.val_images, data.val_labels),
    ):
        for label in (0, 9):
            files = sorted((ROOT / split / data.class_names[label]).iterdir())
            stored = {image.numpy().tobytes() for image in images[labels == label]}
            for file in (files[0], files[-1]):
                with Image.open(file) as picture:
                    pixels = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
                assert np.ascontiguousarray(pixels).tobytes() in stored


def test_statistics_use_the_train_images_only(data: ImageData) -> None:
    pixels = data.train_images.double() / 255
    assert data.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert data.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), abs=1e-6)
