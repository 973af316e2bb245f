"""Detectors and segmenters: torch modules, and what their outputs mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.model.dense.detection import (
        OFFSET_WEIGHTS,
        Detections,
        default_boxes,
        detections,
        detector_head,
        find_boxes,
        flatten_outputs,
    )
    from nas.model.dense.network import DenseNetwork, Detector, Segmenter
    from nas.model.dense.segmentation import class_masks, enlarged_logits
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "detection": [
                "OFFSET_WEIGHTS",
                "Detections",
                "default_boxes",
                "detections",
                "detector_head",
                "find_boxes",
                "flatten_outputs",
            ],
            "network": ["DenseNetwork", "Detector", "Segmenter"],
            "segmentation": ["class_masks", "enlarged_logits"],
        },
    )

__all__ = [
    "DenseNetwork",
    "Detections",
    "Detector",
    "OFFSET_WEIGHTS",
    "Segmenter",
    "class_masks",
    "default_boxes",
    "detections",
    "detector_head",
    "enlarged_logits",
    "find_boxes",
    "flatten_outputs",
]
