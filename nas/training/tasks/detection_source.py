"""Batches of images with boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from nas.core.errors import NasError
from nas.data.dense import DetectionData, DetectionSplit
from nas.training.augmentation_settings import AugmentationSettings
from nas.training.settings import TrainSettings
from nas.training.streaming.draws import restored_global_states, seed_global_states
from nas.training.streaming.loader import BatchRequest, LoadingError, sendable
from nas.training.tasks.box_transforms import BoxTransform
from nas.training.tasks.dense_source import DenseBatch, DenseSource
from nas.training.tasks.detection_loss import IGNORED, NO_BOX, BoxTargets


class DetectionSource(DenseSource[DetectionData, BoxTransform]):
    """Batches of the images of ``data`` with their boxes.

    For a network of ``resolution_px``. Targets are ``BoxTargets``. ``transform``: None for that of the settings.
    """

    def _transform_of(self, data: DetectionData, settings: TrainSettings, resolution_px: int) -> BoxTransform:
        return box_transform(data, settings, resolution_px)

    def _batches(self, data: DetectionData, transform: BoxTransform, seed: int) -> Dataset[Any]:
        return BoxBatches(data, transform, seed)


class BoxBatches(Dataset[DenseBatch | LoadingError]):
    """Batches of images with boxes: functions of ``seed`` and ``BatchRequest``."""

    def __init__(self, data: DetectionData, transform: BoxTransform, seed: int) -> None:
        self._data, self._transform, self._seed = data, transform, seed

    def __getitem__(self, request: BatchRequest) -> DenseBatch | LoadingError:
        try:
            if not request.is_train:
                return _batch([self._whole(row) for row in request.rows])
            with restored_global_states():
                return _batch([self._augmented(row, request.epoch) for row in request.rows])
        except NasError as error:
            return LoadingError(str(error))

    def _augmented(self, row: int, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        seed_global_states(self._seed, epoch, row)
        return self._transform.train(self._data.train.image(row), *_objects(self._data.train, row))

    def _whole(self, row: int) -> tuple[Tensor, Tensor, Tensor]:
        boxes, labels = _objects(self._data.val, row)
        return *self._transform.whole(self._data.val.image(row), boxes), torch.from_numpy(labels)


def box_transform(data: DetectionData, settings: TrainSettings, resolution_px: int, **changes: Any) -> BoxTransform:
    """Return the transform that the settings of ``data`` and of a training ask for.

    Recipes have ``crop_scale``, ``color_jitter`` and ``zoom_out``; proxies have ``shift`` alone. ``changes``: other
    fields. Beyond the image is the mean colour of the train images, or with ``data.fit=pad`` the background.
    """
    recipe = settings if isinstance(settings, AugmentationSettings) else None
    pads = data.settings.fit == "pad"
    fields: dict[str, Any] = {
        "side_px": resolution_px,
        "pads": pads,
        "fill": data.settings.background_colour if pads else tuple(round(255 * value) for value in data.mean),
        "zoom_out": (recipe.zoom_out or 0.0) if recipe else 0.0,
        "crop_scale": recipe.crop_scale if recipe else None,
        "shift": settings.shift,
        "flips": data.settings.flips,
        "color_jitter": recipe.color_jitter if recipe else 0.0,
    }
    return BoxTransform(**fields | changes)


def _objects(split: DetectionSplit, row: int) -> tuple[Any, Any]:
    """Boxes (n, 4) in px and labels, int64 (n,), some of them ``IGNORED``."""
    return split.boxes(row), np.where(split.is_ignored(row), IGNORED, split.labels(row)).astype(np.int64)


def _batch(images: list[tuple[Tensor, Tensor, Tensor]]) -> DenseBatch:
    """Stack images (3, H, W), channels last in memory, and pad boxes and labels."""
    pixels = torch.stack([image.permute(1, 2, 0) for image, _, _ in images])
    boxes = pad_sequence([one for _, one, _ in images], batch_first=True)
    labels = pad_sequence([one for _, _, one in images], batch_first=True, padding_value=NO_BOX)
    return DenseBatch(sendable(pixels).permute(0, 3, 1, 2), BoxTargets(sendable(boxes), sendable(labels)))
