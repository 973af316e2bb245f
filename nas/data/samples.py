"""Sample images of each class as the networks see them, as small PNG strips."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nas.data.description import DatasetDescription
from nas.data.images import ImageData, resize_images
from nas.data.streaming import ImageFiles

_PER_CLASS: Final = 6
_WHITE: Final = 255


def with_samples(data: ImageData | ImageFiles, side_px: int) -> DatasetDescription | None:
    """The description of ``data`` with strips of train images of the classes to show.

    The images are resized to ``side_px`` as for training, before random flips and shifts; None if nothing is known of
    the data.
    """
    description = data.description
    if description is None:
        return None
    shown = {one.name for one in description.shown_classes}
    classes = tuple(
        replace(one, sample=_strip(_some_images(data, label), side_px)) if one.name in shown else one
        for label, one in enumerate(description.classes)
    )
    return replace(description, classes=classes, sample_px=side_px)


def _some_images(data: ImageData | ImageFiles, label: int) -> Tensor:
    """Up to six train images of a class, evenly spaced as neighbours may be alike."""
    rows = torch.nonzero(data.train_labels.cpu() == label).flatten()
    places = sorted({place * (len(rows) - 1) // (_PER_CLASS - 1) for place in range(_PER_CLASS)} if len(rows) else ())
    return data.train_images[rows[places]].cpu() if isinstance(data, ImageData) else data.squares(rows[places].tolist())


def _strip(images: Tensor, side_px: int) -> str:
    """PNG of ``images`` (N, C, H, W) side by side, base64; empty without images."""
    if not len(images):
        return ""
    shown = resize_images(resize_images(images, side_px), min(side_px, DatasetDescription.largest_sample_px))
    gap = torch.full((*shown.shape[:3], 1), _WHITE, dtype=torch.uint8)
    strip = torch.cat([shown, gap], dim=3).permute(1, 2, 0, 3).flatten(2)[:, :, :-1]  # (C, H, N * (W + 1) - 1)
    pixels = strip.numpy()
    picture = Image.fromarray(np.ascontiguousarray(pixels[0] if len(pixels) != 3 else pixels.transpose(1, 2, 0)))
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode("ascii")
