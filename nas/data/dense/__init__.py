"""Images with boxes or masks: layouts, checks of labels, splits, a description."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.data.dense.dataset import DenseData
    from nas.data.dense.description import (
        DenseClass,
        DenseDescription,
        read_dense_description,
        write_dense_description,
    )
    from nas.data.dense.detection import DetectionData, DetectionSplit, load_detection_data
    from nas.data.dense.load import AnyDenseData, load_dense_data
    from nas.data.dense.readers.layouts import check_dense_data
    from nas.data.dense.segmentation import SegmentationData, SegmentationSplit, load_segmentation_data
    from nas.data.dense.settings import DENSE_TASKS, VOID, DenseDataSettings, DenseTask
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "dataset": ["DenseData"],
            "description": ["DenseClass", "DenseDescription", "read_dense_description", "write_dense_description"],
            "detection": ["DetectionData", "DetectionSplit", "load_detection_data"],
            "load": ["AnyDenseData", "load_dense_data"],
            "readers.layouts": ["check_dense_data"],
            "segmentation": ["SegmentationData", "SegmentationSplit", "load_segmentation_data"],
            "settings": ["DENSE_TASKS", "DenseDataSettings", "DenseTask", "VOID"],
        },
    )

__all__ = [
    "AnyDenseData",
    "DENSE_TASKS",
    "DenseClass",
    "DenseData",
    "DenseDataSettings",
    "DenseDescription",
    "DenseTask",
    "DetectionData",
    "DetectionSplit",
    "SegmentationData",
    "SegmentationSplit",
    "VOID",
    "check_dense_data",
    "load_dense_data",
    "load_detection_data",
    "load_segmentation_data",
    "read_dense_description",
    "write_dense_description",
]
