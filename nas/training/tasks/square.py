"""The square that a network sees: areas of images, resized and placed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional

ImagePixels = NDArray[np.uint8]  # (H, W, 3)


class Area(NamedTuple):
    """A rectangle of an image in px that becomes the input; it may reach beyond."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SquareTransform:
    """An image, or an area of it, as the square of ``side_px`` that a network sees.

    ``pads``: images keep their shape, with bars of ``fill``; otherwise they are stretched. Pixels are resized once,
    bilinear with antialiasing.
    """

    side_px: int
    pads: bool = False
    fill: tuple[int, int, int] = (128, 128, 128)

    def whole_area(self, width: int, height: int) -> Area:
        """Return the area that shows a whole image; with ``pads`` a square around it."""
        return self.shown_area(Area(0, 0, width, height))

    def show_whole(self, image: ImagePixels) -> Tensor:
        """Show the whole of an image (H, W, 3), uint8 (3, side, side)."""
        return self.show(image, self.whole_area(image.shape[1], image.shape[0]))

    def shown_area(self, area: Area) -> Area:
        """Return ``area``, or with ``pads`` the square around it, which is shown."""
        if not self.pads:
            return area
        side = max(area.width, area.height)
        return Area(area.left + (area.width - side) / 2, area.top + (area.height - side) / 2, side, side)

    def placement(self, area: Area, width: int, height: int) -> tuple[Any, Any]:
        """Return the part of an image in ``area``, and where the square shows it.

        Both in whole px, int64 (4,): left, top, right, bottom.
        """
        start, extent = np.array([area.left, area.top]), np.array([area.width, area.height])
        first = np.floor(start.clip(min=0)).astype(np.int64)
        last = np.ceil(np.minimum(start + extent, [width, height])).astype(np.int64)
        scale, side = self.side_px / extent, self.side_px
        place = np.round((first - start) * scale).astype(np.int64).clip(0, side - 1)
        end = np.round((last - start) * scale).astype(np.int64).clip(place + 1, side)
        return np.concatenate([first, last]), np.concatenate([place, end])

    def show(self, image: ImagePixels, area: Area) -> Tensor:
        """Show ``area`` of an image (H, W, 3) in the square.

        The result is uint8 (3, side, side), channels last in memory. What lies beyond the image is ``fill``.
        """
        (left, top, right, bottom), (x, y, x_end, y_end) = (
            part.tolist() for part in self.placement(area, image.shape[1], image.shape[0])
        )
        side = self.side_px
        pixels = torch.from_numpy(image[top:bottom, left:right].copy()).permute(2, 0, 1)
        part: Tensor = functional.resize(pixels, [y_end - y, x_end - x], antialias=True)
        if part.shape[1:] == (side, side):
            return part
        square = torch.tensor(self.fill, dtype=torch.uint8).expand(side, side, 3).clone().permute(2, 0, 1)
        square[:, y:y_end, x:x_end] = part
        return square


def shifted(area: Area, shift: float) -> Area:
    """Draw ``area`` moved by up to ``shift`` of its sides, by torch's global state."""
    across, down = ((2 * torch.rand(2) - 1) * shift).tolist()
    return area._replace(left=area.left + across * area.width, top=area.top + down * area.height)
