"""Loss of SSD: boxes matched to default boxes, hard negatives, for whole batches."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_convert

from nas.model.dense.detection import OFFSET_WEIGHTS

MATCH_IOU: Final = 0.5
NEGATIVES_PER_POSITIVE: Final = 3.0
NO_BOX: Final = -1
IGNORED: Final = -2


class BoxTargets(NamedTuple):
    """Boxes of a batch of images, padded to the number of the image with most.

    ``boxes``: float32 (B, M, 4), left, top, right, bottom as shares of the image's width and height. ``labels``:
    classes without background, from 0, int64 (B, M); ``IGNORED`` of boxes that are neither objects nor background
    (COCO's crowds, VOC's difficult ones), ``NO_BOX`` behind the last box of an image.
    """

    boxes: Tensor
    labels: Tensor


def match_boxes(targets: BoxTargets, boxes: Tensor) -> Tensor:
    """Match default boxes to the boxes of each image, as ``SSDMatcher`` does.

    ``boxes``: default boxes (A, 4) as ``grid_boxes`` returns them. The result is int64 (B, A): the index of the box,
    ``NO_BOX`` for background, or ``IGNORED``. A default box belongs to the box with which its intersection over union
    is largest, if that is at least 0.5; and the default box that overlaps most with a box belongs to it in any case.
    Of the others those are ignored of whose area at least half is in an ignored box: as detections they would not be
    counted (``TrueBoxes``).
    """
    is_box = targets.labels >= 0
    if not is_box.shape[1]:
        return torch.full((len(is_box), len(boxes)), NO_BOX, device=boxes.device)
    corners = box_convert(boxes, "cxcywh", "xyxy")
    overlaps = _overlaps(targets.boxes, corners)
    overlaps.masked_fill_(~is_box[:, :, None], -1.0)
    largest, matches = overlaps.max(1)
    matches.masked_fill_(largest < MATCH_IOU, NO_BOX)
    best = overlaps.argmax(2)
    for box in range(best.shape[1]):  # in their order: of boxes with the same best default box the last has it
        at = best[:, box, None]
        matches.scatter_(1, at, torch.where(is_box[:, box, None], box, matches.gather(1, at)))
    image, ignored = (targets.labels == IGNORED).nonzero(as_tuple=True)
    if len(image):
        shares = _intersections(targets.boxes[image, ignored][None], corners)[0] / boxes[:, 2:].prod(1)
        is_inside = torch.zeros_like(matches).index_add_(0, image, (shares >= MATCH_IOU).long()) > 0
        matches.masked_fill_(is_inside & (matches == NO_BOX), IGNORED)
    return matches


def _overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of boxes (B, M, 4) with ``others`` (A, 4).

    (B, M, A). The values of ``torchvision.ops.box_iou``, in a quarter of its time on CPU: it keeps coordinates in the
    last dimension, of length 2, while operations on long rows are vectorised.
    """
    left, top, right, bottom = boxes[..., None].unbind(2)
    from_x, from_y, to_x, to_y = others.unbind(1)
    both = _intersections(boxes, others)
    areas = (right - left) * (bottom - top) + (to_x - from_x) * (to_y - from_y)
    return both.div_(areas.sub_(both))


def _intersections(boxes: Tensor, others: Tensor) -> Tensor:
    """Areas of the intersections of boxes (B, M, 4) with ``others`` (A, 4), (B, M, A)."""
    left, top, right, bottom = boxes[..., None].unbind(2)
    from_x, from_y, to_x, to_y = others.unbind(1)
    width = torch.minimum(right, to_x).sub_(torch.maximum(left, from_x)).clamp_(min=0)
    height = torch.minimum(bottom, to_y).sub_(torch.maximum(top, from_y)).clamp_(min=0)
    return width.mul_(height)


def ssd_losses(
    logits: Tensor, offsets: Tensor, targets: BoxTargets, boxes: Tensor, *, label_smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return the losses of classes and of boxes, () each, of a batch.

    ``logits`` (B, A, classes + 1), background first; ``offsets`` (B, A, 4); ``boxes``: default boxes (A, 4). Equal to
    ``torchvision.models.detection.ssd.SSD.compute_loss``: smooth L1 of the offsets of matched default boxes, and cross
    entropy of these and of the three times as many others of each image whose loss is largest, each divided by the
    number of matched default boxes of the batch. Source: SSD, arXiv:1512.02325, section 2.2. Ignored default boxes add
    nothing.
    """
    matches = match_boxes(targets, boxes)
    is_matched = matches >= 0
    image, box = is_matched.nonzero(as_tuple=True)
    matched = matches[image, box]
    wanted = BoxCoder(OFFSET_WEIGHTS).encode_single(
        targets.boxes[image, matched], box_convert(boxes, "cxcywh", "xyxy")[box]
    )
    box_loss = functional.smooth_l1_loss(offsets[image, box], wanted, reduction="sum")
    classes = torch.where(matches == IGNORED, IGNORED, 0)
    classes[image, box] = targets.labels[image, matched] + 1
    entropy = functional.cross_entropy(
        logits.flatten(0, 1),
        classes.flatten(),
        reduction="none",
        ignore_index=IGNORED,  # a loss of 0: sorted behind all others
        label_smoothing=label_smoothing,
    ).view_as(classes)
    hardest = entropy.detach().masked_fill(is_matched, -torch.inf).sort(1, descending=True).indices
    negatives = NEGATIVES_PER_POSITIVE * is_matched.sum(1, keepdim=True)
    is_counted = torch.arange(len(boxes), device=boxes.device) < negatives
    class_loss = entropy[is_matched].sum() + entropy.gather(1, hardest)[is_counted].sum()
    count = max(1, len(matched))
    return class_loss / count, box_loss / count
