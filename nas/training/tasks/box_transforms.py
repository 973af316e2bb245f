"""Images with boxes as networks see them: cropped, flipped, recoloured, square."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes

from nas.training.tasks.detection_loss import IGNORED
from nas.training.tasks.square import Area, ImagePixels, SquareTransform, shifted

_MIN_VISIBLE_PX: Final = 1.0  # smallest side of what is left of a box, in px of the network's input


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxTransform(SquareTransform):
    """Random changes of an image with boxes, then the square that a network sees.

    They are torchvision's of SSD: ``RandomZoomOut`` with probability ``zoom_out``, ``RandomIoUCrop`` whose sides are at
    least the root of ``crop_scale``, a horizontal flip, and ``RandomPhotometricDistort``, whose largest changes of
    contrast and saturation are ``color_jitter`` (0.5 in SSD), those of brightness a quarter and of hue a tenth of it.
    With ``crop_scale`` None the image is moved by up to ``shift`` of its sides instead.

    Area and flip are drawn first, by the boxes alone; pixels are then resized once, to the input, where colours are
    changed. This takes 2 ms for an image of 640x480 px, 11 ms with all changes; its enlarged canvas has up to 2560x1920
    px.
    """

    zoom_out: float = 0.0
    crop_scale: float | None = 0.25
    shift: float = 0.0
    flips: bool = True
    color_jitter: float = 0.0

    def train(self, image: ImagePixels, boxes: NDArray[Any], labels: NDArray[Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Change an image (H, W, 3) with boxes (n, 4) in its px at random.

        Draws come from the global random state of torch. Returns the image, uint8 (3, side, side), channels last in
        memory; its boxes, float32 (m, 4), left, top, right, bottom as shares of its side; and their labels, int64 (m,).
        Boxes whose centre is not shown are left out, as in SSD; of those that are ``IGNORED`` what is shown stays, and
        crops are drawn without them.
        """
        height, width = image.shape[:2]
        corners = np.asarray(boxes, dtype=np.float64)
        area = self._draw(corners[labels != IGNORED], width, height)
        start, extent = np.array([area.left, area.top]), np.array([area.width, area.height])
        centres = (corners[:, :2] + corners[:, 2:]) / 2
        shown = ((start < centres) & (centres < start + extent)).all(1) | (labels == IGNORED)
        square, shares = self._placed(image, area, corners[shown])
        if self.flips and bool(torch.rand(()) < 0.5):
            square = square.flip(2)
            shares = np.stack([1 - shares[:, 2], shares[:, 1], 1 - shares[:, 0], shares[:, 3]], 1)
        if self.color_jitter:
            square = _colours(self.color_jitter)(square)
        shares = shares.clip(0, 1)
        is_left = (shares[:, 2:] - shares[:, :2] >= _MIN_VISIBLE_PX / self.side_px).all(1)
        kept: NDArray[Any] = labels[shown][is_left]
        return square, torch.from_numpy(shares[is_left]).float(), torch.from_numpy(kept.astype(np.int64))

    def whole(self, image: ImagePixels, boxes: NDArray[Any]) -> tuple[Tensor, Tensor]:
        """Return a whole image, and its boxes as shares of the square, float32 (n, 4)."""
        area = self.whole_area(image.shape[1], image.shape[0])
        square, shares = self._placed(image, area, np.asarray(boxes))
        return square, torch.from_numpy(shares).float()

    def at_own_size(self, shares: NDArray[Any], width: int, height: int) -> NDArray[Any]:
        """Return boxes in px of the image.

        ``shares`` (n, 4): of the square, as of ``whole``.
        """
        source, target = self.placement(self.whole_area(width, height), width, height)
        scale = (source[2:] - source[:2]) / (target[2:] - target[:2])
        px = shares * self.side_px - np.tile(target[:2], 2)
        boxes: NDArray[Any] = px * np.tile(scale, 2) + np.tile(source[:2], 2)
        return boxes

    def _draw(self, boxes: NDArray[Any], width: int, height: int) -> Area:
        """Draw the area of an image to show."""
        left, top = 0, 0
        if self.zoom_out and float(torch.rand(())) < self.zoom_out:
            padding = v2.RandomZoomOut().make_params([_on_canvas(boxes, width, height)])["padding"]
            left, top = -padding[0], -padding[1]
            width, height = width + padding[0] + padding[2], height + padding[1] + padding[3]
        area = Area(left, top, width, height)
        if self.crop_scale is not None and len(boxes):
            crop = RandomBoxCrop(min_scale=math.sqrt(self.crop_scale))
            drawn = crop.make_params([_on_canvas(boxes - (left, top, left, top), width, height)])
            if drawn:
                area = Area(left + drawn["left"], top + drawn["top"], drawn["width"], drawn["height"])
        elif self.crop_scale is None and self.shift:
            area = shifted(area, self.shift)
        return self.shown_area(area)  # with bars more than was drawn, and so the objects there

    def _placed(self, image: ImagePixels, area: Area, boxes: NDArray[Any]) -> tuple[Tensor, NDArray[Any]]:
        """Show ``area`` of an image; returns the square, and ``boxes`` in its shares.

        Boxes are placed by the whole px at which the part in the image is pasted.
        """
        source, target = self.placement(area, image.shape[1], image.shape[0])
        scale = (target[2:] - target[:2]) / (source[2:] - source[:2])
        shares = ((boxes - np.tile(source[:2], 2)) * np.tile(scale, 2) + np.tile(target[:2], 2)) / self.side_px
        return self.show(image, area), shares


class RandomBoxCrop(v2.RandomIoUCrop):  # type: ignore[misc]
    """torchvision's ``RandomIoUCrop`` with all trials of an overlap drawn at once.

    The distribution is the same. One by one the trials take 11 ms per image of 13 boxes, at once 0.6 ms.
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw a crop; empty for the whole image."""
        boxes: Any = flat_inputs[0]
        corners = boxes.as_subclass(Tensor).numpy()
        while True:
            overlap = self.options[int(torch.randint(len(self.options), ()))]
            if overlap >= 1.0:
                return {}
            draws = torch.rand(self.trials, 4, dtype=torch.float64).numpy()
            found = self.first_allowed(corners, boxes.canvas_size, draws, overlap)
            if found is not None:
                return found

    def first_allowed(
        self, boxes: NDArray[Any], size: tuple[int, int], draws: NDArray[Any], overlap: float
    ) -> dict[str, Any] | None:
        """Return the first allowed trial; None if none is.

        ``boxes`` (n, 4) in an image of ``size``, height and width. ``draws`` (trials, 4), in [0, 1): width and height,
        left and top. ``overlap``: least intersection over union with a box whose centre is in the crop.
        """
        height, width = size
        shares = self.min_scale + (self.max_scale - self.min_scale) * draws[:, :2]
        sides = (shares * (width, height)).astype(np.int64)
        starts = ((np.array([width, height]) - sides) * draws[:, 2:]).astype(np.int64)
        ratio = sides[:, 0] / np.maximum(sides[:, 1], 1)
        allowed = (sides > 0).all(1) & (self.min_aspect_ratio <= ratio) & (ratio <= self.max_aspect_ratio)
        crops = np.concatenate([starts, starts + sides], 1)[:, None]  # (trials, 1, 4)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = ((crops[..., :2] < centres) & (centres < crops[..., 2:])).all(2)  # (trials, n)
        both = np.minimum(crops[..., 2:], boxes[:, 2:]) - np.maximum(crops[..., :2], boxes[:, :2])
        both = both.clip(min=0).prod(2)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        overlaps = both / np.maximum(areas + sides.prod(1)[:, None] - both, 1e-9)
        allowed &= (inside & (overlaps >= overlap)).any(1)
        if not allowed.any():
            return None
        trial = int(allowed.argmax())
        (left, top), (across, down) = starts[trial].tolist(), sides[trial].tolist()
        return {"left": left, "top": top, "width": across, "height": down, "is_within_crop_area": inside[trial]}


def _on_canvas(boxes: NDArray[Any], width: int, height: int) -> BoundingBoxes:
    return BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=(height, width))


def _colours(jitter: float) -> v2.RandomPhotometricDistort:
    """Create torchvision's change of colours; ``jitter`` 0.5 has the ranges of SSD."""
    low, high = max(0.0, 1 - jitter), 1 + jitter
    return v2.RandomPhotometricDistort(
        brightness=(max(0.0, 1 - jitter / 4), 1 + jitter / 4),
        contrast=(low, high),
        saturation=(low, high),
        hue=(-min(0.5, jitter / 10), min(0.5, jitter / 10)),
    )
