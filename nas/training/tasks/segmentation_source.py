"""Batches of images with masks."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import Dataset

from nas.core.errors import NasError
from nas.data.dense import SegmentationData
from nas.training.augmentation_settings import AugmentationSettings
from nas.training.settings import TrainSettings
from nas.training.streaming.draws import restored_global_states, seed_global_states
from nas.training.streaming.loader import BatchRequest, LoadingError, sendable
from nas.training.tasks.dense_source import DenseBatch, DenseSource
from nas.training.tasks.mask_transforms import MaskTransform


class SegmentationSource(DenseSource[SegmentationData, MaskTransform]):
    """Batches of images with masks, for a network of ``resolution_px``.

    Targets are classes by pixel of the network's input, uint8 (B, H, W), with ``VOID``; of validation batches none:
    the masks of the images' own size are in ``data``. ``transform``: None for that of the settings.
    """

    def _transform_of(self, data: SegmentationData, settings: TrainSettings, resolution_px: int) -> MaskTransform:
        return mask_transform(data, settings, resolution_px)

    def _batches(self, data: SegmentationData, transform: MaskTransform, seed: int) -> Dataset[Any]:
        return MaskBatches(data, transform, seed)


class MaskBatches(Dataset[DenseBatch | LoadingError]):
    """Batches of images with masks by ``BatchRequest``.

    They are functions of ``seed`` and the request alone.
    """

    def __init__(self, data: SegmentationData, transform: MaskTransform, seed: int) -> None:
        self._data, self._transform, self._seed = data, transform, seed

    def __getitem__(self, request: BatchRequest) -> DenseBatch | LoadingError:
        try:
            if not request.is_train:
                return DenseBatch(
                    _stacked([self._transform.show_whole(self._data.val.image(row)) for row in request.rows]), ()
                )
            with restored_global_states():
                found = [self._augmented(row, request.epoch) for row in request.rows]
        except NasError as error:
            return LoadingError(str(error))
        return DenseBatch(_stacked([image for image, _ in found]), sendable(torch.stack([mask for _, mask in found])))

    def _augmented(self, row: int, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        seed_global_states(self._seed, epoch, row)
        return self._transform.train(self._data.train.image(row), self._data.train.mask(row))


def mask_transform(
    data: SegmentationData, settings: TrainSettings, resolution_px: int, **changes: Any
) -> MaskTransform:
    """Return the transform that the settings of ``data`` and of a training ask for.

    Recipes have ``crop_scale`` and ``color_jitter``; proxies have ``shift`` alone. ``changes``: other fields.
    """
    recipe = settings if isinstance(settings, AugmentationSettings) else None
    fields: dict[str, Any] = {
        "side_px": resolution_px,
        "crop_scale": recipe.crop_scale if recipe else None,
        "shift": settings.shift,
        "flips": data.settings.flips,
        "color_jitter": recipe.color_jitter if recipe else 0.0,
        "pads": data.settings.fit == "pad",
        "fill": data.settings.background_colour,
    }
    return MaskTransform(**fields | changes)


def _stacked(images: list[torch.Tensor]) -> torch.Tensor:
    """Stack images (3, H, W), channels last in memory, as they are."""
    return sendable(torch.stack([image.permute(1, 2, 0) for image in images])).permute(0, 3, 1, 2)
