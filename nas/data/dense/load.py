"""Images with boxes or masks, whichever the settings name."""

from __future__ import annotations

from typing import TypeAlias

from nas.core.progress import ProgressCallback
from nas.data.dense.detection import DetectionData, load_detection_data
from nas.data.dense.segmentation import SegmentationData, load_segmentation_data
from nas.data.dense.settings import DenseDataSettings

AnyDenseData: TypeAlias = DetectionData | SegmentationData


def load_dense_data(settings: DenseDataSettings, *, on_progress: ProgressCallback | None = None) -> AnyDenseData:
    """Load the images of ``settings`` with their boxes or masks.

    Raises: NasError as ``load_detection_data`` and ``load_segmentation_data``.
    """
    load = load_detection_data if settings.task == "detection" else load_segmentation_data
    return load(settings, on_progress=on_progress)
