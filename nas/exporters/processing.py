"""Steps before and after a detector or segmenter that its file can have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.arch.spec import ArchSpec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Processing:
    """Normalisation and post-processing that are in a file.

    It takes pixels, uint8 (N, H, W, C), in place of tensors. ``mean``, ``std``: per channel, of values in [0, 1].

    Outputs of a segmenter are ``mask``, the class of each pixel of the input, uint8 (N, H, W), and ``output``, its
    logits (N, classes, h, w). Those of a detector are ``boxes`` (N, D, 4), left, top, right, bottom as shares of the
    input's side, ``scores`` (N, D), by which they fall, and ``labels`` (N, D), int64 from 0 without the background; D
    is ``max_detections``, and a score of 0 means that there is no further box.

    ``default_boxes``: of a detector, float32 (A, 4), centre x and y, width and height as shares; None of a segmenter.
    ``offset_weights``: by which the offsets of boxes are multiplied in training. ``score_threshold``, ``nms_iou``: of
    the non-maximum suppression, which is by class; of each class ``candidates`` boxes enter it at most.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    default_boxes: npt.NDArray[np.float32] | None = None
    offset_weights: tuple[float, ...] = ()
    score_threshold: float = 0.0
    nms_iou: float = 0.0
    candidates: int = 0
    max_detections: int = 0

    def normalised(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return pixels (N, H, W, C) as the network's input, float32 (N, C, H, W)."""
        mean, std = (np.array(values, np.float32).reshape(-1, 1, 1) * 255 for values in (self.mean, self.std))
        return (pixels.transpose(0, 3, 1, 2).astype(np.float32) - mean) / std


def dense_processing(
    spec: ArchSpec, mean: tuple[float, ...], std: tuple[float, ...], *, max_detections: int = 100
) -> Processing:
    """Return the steps around a detector or segmenter. Loads torch, of a detector.

    ``mean``, ``std``: as of ``Processing``. ``max_detections``: of an image; COCO's score counts 100.
    """
    if spec.task != "detection":
        return Processing(mean=mean, std=std)
    from nas.model.dense import detection

    return Processing(
        mean=mean,
        std=std,
        default_boxes=detection.default_boxes(spec).numpy(),
        offset_weights=detection.OFFSET_WEIGHTS,
        score_threshold=detection.SCORE_THRESHOLD,
        nms_iou=detection.NMS_IOU,
        candidates=detection.CANDIDATES,
        max_detections=max_detections,
    )


def torch_outputs(spec: ArchSpec, processing: Processing, outputs: Any) -> tuple[npt.NDArray[Any], ...]:
    """Apply torch's post-processing to the outputs of a network.

    The result is what a file with ``processing`` gives, of a segmenter the mask alone. ``outputs``: NumPy arrays, as a
    ``Run`` returns them.
    """
    import torch

    from nas.exporters.formats import outputs_of

    maps = [torch.from_numpy(np.asarray(one, dtype=np.float32)) for one in outputs_of(outputs)]
    if processing.default_boxes is None:
        from nas.model.dense.segmentation import class_masks

        return (class_masks(maps[0], spec.resolution_px, spec.resolution_px).numpy(),)
    from nas.model.dense.detection import detections

    found = detections(
        spec,
        maps,
        score_threshold=processing.score_threshold,
        nms_iou=processing.nms_iou,
        max_detections=processing.max_detections,
    )
    boxes = np.zeros((len(found), processing.max_detections, 4), np.float32)
    scores, labels = np.zeros(boxes.shape[:2], np.float32), np.zeros(boxes.shape[:2], np.int64)
    for row, one in enumerate(found):
        count = len(one.scores)
        boxes[row, :count], scores[row, :count], labels[row, :count] = one.boxes, one.scores, one.labels
    return boxes, scores, labels
