"""Default boxes of an SSDLite head, and detections from its outputs."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_convert

from nas.arch.heads import SSDLiteHead
from nas.arch.ops import network_ops, output_ops
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError

# Of torchvision's ssdlite320_mobilenet_v3_large.
SCORE_THRESHOLD: Final = 0.001
NMS_IOU: Final = 0.55
MAX_DETECTIONS: Final = 300
CANDIDATES: Final = 300  # of a class, that enter its non-maximum suppression

# Standard deviations by which SSD divides offsets of centres and of log sizes: 1/10 and 1/5 (section 2.2 of its code).
OFFSET_WEIGHTS: Final = (10.0, 10.0, 5.0, 5.0)


class Detections(NamedTuple):
    """Boxes found in an image, by falling score.

    ``boxes``: float32 (n, 4), left, top, right, bottom as shares of the image's width and height, in [0, 1].
    ``scores``: probabilities, float32 (n,). ``labels``: classes without background, from 0, int64 (n,).
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def detector_head(spec: ArchSpec) -> SSDLiteHead:
    """Return the head of a detector. Raises: NasError for another network."""
    if not isinstance(spec.head, SSDLiteHead):
        raise NasError(f"network {spec.name}: is for {spec.task}, not for detection; give a detector.")
    return spec.head


def default_boxes(spec: ArchSpec, resolution_px: int | None = None) -> Tensor:
    """Return the default boxes of a detector, in the order of ``flatten_outputs``.

    float32 (A, 4): centre x and y, width and height, as shares of the image's side. ``resolution_px``: input side, None
    for that of ``spec``. The tensor is shared: it must not be changed.
    """
    head = detector_head(spec)
    placed = spec if resolution_px is None else replace(spec, resolution_px=resolution_px)
    sides = {op.path: op.out_px for op in network_ops(placed)}
    return grid_boxes(head, tuple(sides[path] for path in output_ops(placed)[: head.levels]))


def flatten_outputs(spec: ArchSpec, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Join the outputs of a detector to class logits and box offsets.

    ``maps``: tensors of ``nas.arch.ops.output_ops``. The results are (N, A, classes + 1), background first, and
    (N, A, 4): per default box the offsets of its centre as shares of its size, and of the logarithm of its size, times
    ``OFFSET_WEIGHTS``. The order of boxes is torchvision's: by map, row, column, and box of a position.
    """
    levels = detector_head(spec).levels
    return flat_predictions(maps[:levels], spec.classes + 1), flat_predictions(maps[levels:], 4)


def detections(
    spec: ArchSpec,
    maps: Sequence[Tensor],
    *,
    resolution_px: int | None = None,
    score_threshold: float = SCORE_THRESHOLD,
    nms_iou: float = NMS_IOU,
    max_detections: int = MAX_DETECTIONS,
) -> list[Detections]:
    """Return the boxes that the outputs of a detector mean, for each of N images.

    ``maps``: tensors of ``nas.arch.ops.output_ops``, for images of ``resolution_px`` (None: that of ``spec``). The
    other arguments are those of ``find_boxes``.
    """
    logits, offsets = flatten_outputs(spec, maps)
    return find_boxes(
        logits,
        offsets,
        default_boxes(spec, resolution_px),
        score_threshold=score_threshold,
        nms_iou=nms_iou,
        max_detections=max_detections,
    )


def box_generator(head: SSDLiteHead) -> DefaultBoxGenerator:
    """Create torchvision's generator of the default boxes of ``head``.

    C3, which comes last, has the boxes that torchvision gives to a map of scale ``c3_scale`` before one of
    ``min_scale``: the second square is of their geometric mean. The other maps keep theirs.
    With ``lowest_anchors`` 3 the first map has TensorFlow's boxes (``reduce_boxes_in_lowest_layer``): a square of half
    the first scale, and two of the first ratio.
    """
    ratios = [list(head.aspect_ratios) for _ in range(2 + len(head.extra_channels))]
    if head.lowest_anchors == 4:
        ratios[0] = ratios[0][:1]
    generator = DefaultBoxGenerator(ratios, min_ratio=head.min_scale, max_ratio=head.max_scale)
    if head.lowest_anchors == 3:
        side, root = head.min_scale, math.sqrt(head.aspect_ratios[0])
        generator._wh_pairs[0] = torch.tensor(
            [[side / 2, side / 2], [side * root, side / root], [side / root, side * root]]
        )
    if head.c3_scale is not None:
        finest = DefaultBoxGenerator([list(head.aspect_ratios)], scales=[head.c3_scale, head.min_scale])
        generator._wh_pairs += finest._wh_pairs
    return generator


@functools.lru_cache(maxsize=64)
def grid_boxes(head: SSDLiteHead, sides: tuple[int, ...]) -> Tensor:
    """Return the default boxes of ``head`` on square maps of ``sides``.

    float32 (A, 4): centre x and y, width and height, as shares of the image's side; in torchvision's order: by map,
    row, column, and box of a position. The tensor is shared: it must not be changed.
    """
    grids = [[side, side] for side in sides]
    boxes: Tensor = box_generator(head)._grid_default_boxes(grids, [1, 1])
    return boxes


def flat_predictions(maps: Sequence[Tensor], columns: int) -> Tensor:
    """Join maps of predictions, (N, boxes * columns, H, W) each, to (N, A, columns).

    The order is that of ``grid_boxes``. In channels_last layout nothing but the joint tensor is copied.
    """
    return torch.cat([one.permute(0, 2, 3, 1).reshape(len(one), -1, columns) for one in maps], 1)


def find_boxes(
    logits: Tensor,
    offsets: Tensor,
    boxes: Tensor,
    *,
    score_threshold: float = SCORE_THRESHOLD,
    nms_iou: float = NMS_IOU,
    max_detections: int = MAX_DETECTIONS,
) -> list[Detections]:
    """Decode predictions and remove duplicates, by torchvision's SSD.

    ``logits`` (N, A, classes + 1) and ``offsets`` (N, A, 4) as ``flatten_outputs`` returns them; ``boxes``: default
    boxes (A, 4). Of each class at most ``CANDIDATES`` boxes above ``score_threshold`` enter its non-maximum
    suppression, and of each image ``max_detections`` leave it.
    """
    ssd = _post_processing(score_threshold, nms_iou, max_detections)
    corners = box_convert(boxes.to(logits.device), "cxcywh", "xyxy")
    images = len(logits)
    found = ssd.postprocess_detections(
        {"bbox_regression": offsets.float(), "cls_logits": logits.float()}, [corners] * images, [(1, 1)] * images
    )
    return [Detections(one["boxes"], one["scores"], one["labels"] - 1) for one in found]


@functools.lru_cache(maxsize=16)
def _post_processing(score_threshold: float, nms_iou: float, max_detections: int) -> SSD:
    """Return torchvision's detector without a network, for its post-processing."""
    return SSD(
        nn.Identity(),
        DefaultBoxGenerator([[]]),
        (1, 1),
        0,
        head=nn.Identity(),
        score_thresh=score_threshold,
        nms_thresh=nms_iou,
        topk_candidates=CANDIDATES,
        detections_per_img=max_detections,
    )
