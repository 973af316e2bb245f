"""From the logits of a segmenter to the class of each pixel of an image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def enlarged_logits(logits: Tensor, height_px: int, width_px: int) -> Tensor:
    """Resize logits (N, K, h, w) to an image's size, bilinear with half-pixel centres.

    float32 (N, K, height_px, width_px). Logits, not classes, are interpolated, so that edges run between their pixels.
    """
    return functional.interpolate(logits.float(), size=(height_px, width_px), mode="bilinear", align_corners=False)


def class_masks(logits: Tensor, height_px: int, width_px: int) -> Tensor:
    """Return the class of each pixel, uint8 (N, height_px, width_px).

    ``logits`` (N, K, h, w) of an image that fills the network's input. Of equal logits the lower class is taken.
    """
    return enlarged_logits(logits, height_px, width_px).argmax(1).to(torch.uint8)
