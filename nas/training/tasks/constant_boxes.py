"""The best boxes that are the same for every image, as a baseline of detectors."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou, nms

from nas.data.dense import DetectionSplit
from nas.training.tasks.average_precision import MAX_DETECTIONS, FoundBoxes

_THRESHOLD: Final = 0.5


def constant_boxes(split: DetectionSplit, classes: int, boxes: Tensor) -> FoundBoxes:
    """Choose boxes, as shares of width and height, that would be found in every image.

    Of the default boxes ``boxes`` (A, 4), as ``grid_boxes`` returns them, and for each class: scored by the share of
    the images of ``split`` in which the box has an intersection over union of at least 0.5 with an object of the class;
    without duplicates by non-maximum suppression; the 100 best.
    """
    corners = box_convert(boxes, "cxcywh", "xyxy").clamp(0, 1)
    hits = torch.zeros(classes, len(corners))
    for row in range(len(split)):
        is_object = ~split.is_ignored(row)
        shares = torch.from_numpy(split.boxes(row)[is_object] / np.tile(split.size(row), 2)).float()
        is_hit = box_iou(shares, corners) >= _THRESHOLD
        labels = torch.from_numpy(split.labels(row)[is_object])
        for label in set(labels.tolist()):
            hits[label] += is_hit[labels == label].any(0)
    chosen = []
    for label, count in enumerate(hits):
        some = count.nonzero()[:, 0]
        best = some[nms(corners[some], count[some], _THRESHOLD)][:MAX_DETECTIONS]
        chosen.append((corners[best], torch.full((len(best),), label), count[best] / max(1, len(split))))
    return FoundBoxes(*(torch.cat(parts).numpy() for parts in zip(*chosen, strict=True)))
