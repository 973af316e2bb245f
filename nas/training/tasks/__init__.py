"""Tasks of a training: classification, detection, segmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.training.tasks.average_precision import AveragePrecision, FoundBoxes, TrueBoxes, score_detections
    from nas.training.tasks.base import Task, moved
    from nas.training.tasks.box_transforms import BoxTransform
    from nas.training.tasks.classification import Classification
    from nas.training.tasks.dense_source import (
        DenseSource,
        check_train_images,
        make_dense_source,
        make_dense_task,
    )
    from nas.training.tasks.detection import Detection
    from nas.training.tasks.detection_loss import BoxTargets, ssd_losses
    from nas.training.tasks.detection_source import DetectionSource, box_transform
    from nas.training.tasks.jackknife import jackknife_deviations, jackknife_error, jackknife_groups
    from nas.training.tasks.segmentation import Segmentation
    from nas.training.tasks.segmentation_source import SegmentationSource
    from nas.training.tasks.small_objects import small_object_note
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "small_objects": ["small_object_note"],
            "average_precision": ["AveragePrecision", "FoundBoxes", "TrueBoxes", "score_detections"],
            "base": ["Task", "moved"],
            "box_transforms": ["BoxTransform"],
            "classification": ["Classification"],
            "dense_source": ["DenseSource", "check_train_images", "make_dense_source", "make_dense_task"],
            "detection": ["Detection"],
            "detection_loss": ["BoxTargets", "ssd_losses"],
            "detection_source": ["DetectionSource", "box_transform"],
            "jackknife": ["jackknife_deviations", "jackknife_error", "jackknife_groups"],
            "segmentation": ["Segmentation"],
            "segmentation_source": ["SegmentationSource"],
        },
    )

__all__ = [
    "small_object_note",
    "AveragePrecision",
    "BoxTargets",
    "BoxTransform",
    "Classification",
    "DenseSource",
    "Detection",
    "DetectionSource",
    "FoundBoxes",
    "Segmentation",
    "SegmentationSource",
    "Task",
    "TrueBoxes",
    "box_transform",
    "check_train_images",
    "jackknife_deviations",
    "make_dense_source",
    "make_dense_task",
    "jackknife_error",
    "jackknife_groups",
    "moved",
    "score_detections",
    "ssd_losses",
]
