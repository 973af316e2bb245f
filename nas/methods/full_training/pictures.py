"""Pictures of what a detector or segmenter finds, beside what is true."""

from __future__ import annotations

import base64
import colorsys
import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from nas.data.dense import VOID, AnyDenseData, DetectionData, SegmentationData
from nas.training.tasks import FoundBoxes

Pixels = NDArray[np.uint8]

_MOST: Final = 6  # pictures of a report
_SIDE_PX: Final = 360  # of the longer side of a picture, about
_LEAST_SCORE: Final = 0.5  # of boxes that are drawn
_ALPHA: Final = 0.55  # of a class's colour over the image
_GOLDEN: Final = 0.618033988749895  # hues a golden section apart are far from each other
# Colours that are easily distinguished (Trubetskoy's list), for the first classes.
_COLOURS: Final = (
    (67, 99, 216), (230, 25, 75), (255, 225, 25), (145, 30, 180), (66, 212, 244), (60, 180, 75), (245, 130, 49),
    (240, 50, 230), (191, 239, 69), (128, 0, 0), (170, 255, 195), (154, 99, 36), (250, 190, 212), (70, 153, 144),
    (220, 190, 255), (128, 128, 0), (255, 216, 177), (0, 0, 117), (169, 169, 169), (255, 250, 200),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionPicture:
    """A validation image, its labels and what is found in it, as base64 of PNG.

    ``image``: without labels, empty for boxes, which leave it visible. ``note``: what is not drawn, in words.
    """

    name: str
    image: str
    truth: str
    prediction: str
    note: str = ""


def picture_rows(count: int, seed: int) -> tuple[int, ...]:
    """Choose rows of ``count`` validation images to be shown.

    By ``seed`` alone, not by what is found in them; one of each sixth, as neighbours may be alike.
    """
    draws, most = random.Random(f"pictures/{seed}"), min(_MOST, count)
    return tuple(draws.randrange(part * count // most, (part + 1) * count // most) for part in range(most))


def class_colour(label: int) -> tuple[int, int, int]:
    """Return red, green and blue of a class, the same in all pictures."""
    if label < len(_COLOURS):
        return _COLOURS[label]
    value = 1.0 if label % 2 == 0 else 0.75
    red, green, blue = colorsys.hsv_to_rgb((0.02 + label * _GOLDEN) % 1.0, 0.85, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def prediction_pictures(data: AnyDenseData, rows: Sequence[int], found: Sequence[Any]) -> list[PredictionPicture]:
    """Draw validation images with their labels and with predictions.

    ``rows``: the images.

    ``found``: ``FoundBoxes``, or the class of each pixel, uint8 (H, W), of each image.
    """
    if isinstance(data, DetectionData):
        return [_boxes_picture(data, row, one) for row, one in zip(rows, found, strict=True)]
    return [_masks_picture(data, row, one) for row, one in zip(rows, found, strict=True)]


def _boxes_picture(data: DetectionData, row: int, found: FoundBoxes) -> PredictionPicture:
    image, scale = _enlarged(data.val.image(row))
    is_object = ~data.val.is_ignored(row)
    shown = found.scores >= _LEAST_SCORE
    weak, ignored = int((~shown).sum()), int((~is_object).sum())
    notes = [
        *([f"{weak} boxes of a score below {_LEAST_SCORE:g} are not drawn"] if weak else []),
        *([f"{ignored} ignored boxes are not drawn"] if ignored else []),
    ]
    truth = _with_boxes(image, scale * data.val.boxes(row)[is_object], data.val.labels(row)[is_object])
    prediction = _with_boxes(image, scale * found.boxes[shown], found.labels[shown])
    return PredictionPicture(
        name=data.val.names[row], image="", truth=_png(truth), prediction=_png(prediction), note="; ".join(notes)
    )


def _masks_picture(data: SegmentationData, row: int, found: Pixels) -> PredictionPicture:
    image, _ = _enlarged(data.val.image(row))
    truth = data.val.mask(row)
    return PredictionPicture(
        name=data.val.names[row],
        image=_png(image),
        truth=_png(_with_mask(image, truth, data.classes)),
        prediction=_png(_with_mask(image, found, data.classes)),
    )


def _with_boxes(image: torch.Tensor, boxes: NDArray[Any], labels: NDArray[Any]) -> torch.Tensor:
    """Draw boxes (n, 4) in px on an image, uint8 (3, H, W)."""
    if not len(boxes):
        return image
    colours = [class_colour(int(label)) for label in labels]
    corners = torch.from_numpy(np.asarray(boxes, dtype=np.float32))
    corners[:, 2:] = torch.maximum(corners[:, 2:], corners[:, :2])
    drawn: torch.Tensor = draw_bounding_boxes(image, corners, colors=colours, width=2)
    return drawn


def _with_mask(image: torch.Tensor, mask: Pixels, classes: int) -> torch.Tensor:
    """Colour an image, uint8 (3, H, W), by the class of each pixel; void is black."""
    size = (image.shape[2], image.shape[1])
    enlarged = np.asarray(Image.fromarray(np.ascontiguousarray(mask)).resize(size, Image.Resampling.NEAREST))
    labels = torch.from_numpy(enlarged.copy())
    planes = torch.stack([labels == label for label in range(classes)])
    colours = [class_colour(label) for label in range(classes)]
    drawn: torch.Tensor = draw_segmentation_masks(image, planes, alpha=_ALPHA, colors=colours)
    return drawn.masked_fill(labels == VOID, 0)


def _enlarged(image: Pixels) -> tuple[torch.Tensor, float]:
    """An image (H, W, 3) at a size to be looked at, uint8 (3, H, W), and its scale.

    Small ones are enlarged by a whole number.
    """
    height, width = image.shape[:2]
    longer = max(height, width)
    scale = float(max(1, round(_SIDE_PX / longer))) if longer <= _SIDE_PX else _SIDE_PX / longer
    resampling = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    resized = Image.fromarray(np.ascontiguousarray(image)).resize(
        (max(1, round(scale * width)), max(1, round(scale * height))), resampling
    )
    return torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1), scale


def _png(image: torch.Tensor) -> str:
    """PNG of an image, uint8 (3, H, W), in base64."""
    stream = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(stream, format="PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode("ascii")
