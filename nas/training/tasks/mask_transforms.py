"""Images with masks as networks see them: square, in training cropped and flipped."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from nas.data.dense import VOID
from nas.training.tasks.square import Area, ImagePixels, SquareTransform, shifted

_RATIO: Final = (3 / 4, 4 / 3)  # of the crop's width to its height, as shares of the image's


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskTransform(SquareTransform):
    """Random changes of an image with a mask, then a square of ``side_px``.

    ``crop_scale``: smallest share of the area in a random resized crop (torchvision's ``RandomResizedCrop``, with its
    ratios of width to height, on the image as the network sees it). With None the whole image is moved by up to
    ``shift`` of its side. ``flips``: mirrored with probability 0.5. ``color_jitter``: largest change of brightness,
    contrast and saturation, as a share (``ColorJitter``). Bars of ``pads`` are void in the mask, which is
    resized by the nearest pixel.
    """

    crop_scale: float | None = 0.25
    shift: float = 0.0
    flips: bool = True
    color_jitter: float = 0.0

    def train(self, image: ImagePixels, mask: ImagePixels) -> tuple[Tensor, Tensor]:
        """Change an image (H, W, 3) and its mask (H, W) at random.

        Draws come from the global random state of torch. Returns uint8 (3, side, side), channels last in memory, and
        uint8 (side, side).
        """
        whole = self.whole_area(image.shape[1], image.shape[0])
        square, classes = self._square(image, mask, self._moved(whole))
        if self.flips and bool(torch.rand(()) < 0.5):
            square, classes = square.flip(2), classes.flip(1)
        if self.color_jitter:
            jitter = self.color_jitter
            square = v2.ColorJitter(brightness=jitter, contrast=jitter, saturation=jitter)(square)
        return square, classes

    def _moved(self, whole: Area) -> Area:
        """Draw the part of the ``whole`` that is shown."""
        if self.crop_scale is None:
            return shifted(whole, self.shift)
        low, high = map(math.log, _RATIO)
        for _ in range(10):  # as often as torchvision tries
            share = float(torch.empty(()).uniform_(self.crop_scale, 1.0))
            ratio = math.exp(float(torch.empty(()).uniform_(low, high)))
            across, down = math.sqrt(share * ratio), math.sqrt(share / ratio)
            if across <= 1 and down <= 1:
                break
        else:
            across, down = 1.0, 1.0
        left, top = torch.rand(2).tolist()
        return Area(
            whole.left + left * (1 - across) * whole.width,
            whole.top + top * (1 - down) * whole.height,
            across * whole.width,
            down * whole.height,
        )

    def _square(self, image: ImagePixels, mask: ImagePixels, area: Area) -> tuple[Tensor, Tensor]:
        """Show ``area`` of image and mask in the square.

        What lies beyond the image is ``fill`` and void.
        """
        square = self.show(image, area)
        (left, top, right, bottom), (x, y, x_end, y_end) = (
            part.tolist() for part in self.placement(area, image.shape[1], image.shape[0])
        )
        pixels = torch.from_numpy(mask[top:bottom, left:right].copy())[None]
        classes = torch.full((self.side_px, self.side_px), VOID, dtype=torch.uint8)
        classes[y:y_end, x:x_end] = functional.resize(
            pixels, [y_end - y, x_end - x], interpolation=InterpolationMode.NEAREST_EXACT
        )[0]
        return square, classes
