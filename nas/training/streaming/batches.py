"""Batches whose images are decoded and augmented when they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor

from nas.data import ImageSet
from nas.training.augmentation import normalise
from nas.training.augmentation_settings import AugmentationSettings
from nas.training.batches import TrainBatch
from nas.training.distributed import ProcessGroup
from nas.training.evaluation import ValBatch
from nas.training.optimization import steps_per_epoch
from nas.training.streaming.draws import epoch_order
from nas.training.streaming.loader import BatchImages, BatchLoader, BatchRequest, automatic_workers
from nas.training.streaming.transforms import BatchErasing, TrainTransform, ValTransform

_VAL_BATCH: Final = 64  # of which each loader process may hold several


class StreamedSource:
    """Batches of ``images``, augmented as ``settings`` say, on ``device``.

    The order of an epoch depends on ``seed`` and epoch, the draws of an image on these and its row: whatever the
    number of loader processes, and wherever in an epoch a training goes on, the batches are bitwise the same. Memory
    holds the images of a few batches.
    """

    def __init__(
        self,
        images: ImageSet,
        settings: AugmentationSettings,
        *,
        seed: int,
        device: torch.device,
        processes: ProcessGroup | None = None,
    ) -> None:
        self._images, self._settings, self._seed, self._device = images, settings, seed, device
        self._processes = processes or ProcessGroup()
        # timm mixes pairs, of which every process has the same number.
        self._multiple = 2 * self._processes.size if settings.mixup or settings.cutmix else 1
        train = TrainTransform(images, settings)
        batches = BatchImages(images, train, ValTransform(images, settings), seed)
        workers = settings.loader_workers
        if workers is None:
            workers = automatic_workers(device, settings.threads, self._processes.size)
        self._loader = BatchLoader(batches, workers, pin_memory=device.type == "cuda")
        self._erase = BatchErasing(settings)
        self._statistics = [
            torch.tensor(values, device=device).view(1, -1, 1, 1) for values in (images.mean, images.std)
        ]
        self.steps = steps_per_epoch(len(images.train_labels), settings.batch_size)
        shift_px = round(settings.shift * images.resolution_px)
        self.has_fixed_images = not (images.flips or shift_px or settings.random_changes)
        self.class_names, self.channels, self.resolution_px = images.class_names, images.channels, images.resolution_px
        self.mean, self.std = images.mean, images.std
        self.train_class_images, self.val_class_images = (
            tuple(torch.bincount(labels, minlength=len(self.class_names)).tolist())
            for labels in (images.train_labels, images.val_labels)
        )
        self.train_images, self.val_images = len(images.train_labels), len(images.val_labels)

    def identity(self) -> list[Any]:
        """Return what the batches depend on beside the settings, as JSON data."""
        return ["streamed", self._images.identity(), self._images.flips, self._seed]

    def train_batches(self, epoch: int, first_step: int = 0) -> Iterator[TrainBatch]:
        """Yield this process's share of the batches of ``epoch`` from ``first_step`` on.

        With mixup an image too many for pairs in all shares is left out.

        Raises: NasError for an image that cannot be decoded or is of one colour, naming it.
        """
        order = epoch_order(len(self._images.train_labels), self._seed, epoch)
        batches = [rows[: len(rows) // self._multiple * self._multiple] for rows in order.tensor_split(self.steps)]
        shares = [self._processes.share(rows) for rows in batches]
        requests = [BatchRequest(epoch, rows.tolist()) for rows in shares[first_step:]]
        for rows, share, pixels in zip(
            batches[first_step:], shares[first_step:], self._loader.load(requests), strict=True
        ):
            images = self._normalised(pixels)
            self._erase(images, share, self._seed, epoch)
            yield TrainBatch(share, images, self._images.train_labels[share].to(self._device), len(rows))

    def val_batches(self) -> Iterator[ValBatch]:
        """Yield every n-th batch of the validation images, for n processes.

        Raises: NasError for an image that cannot be decoded, naming it.
        """
        batches = torch.split(torch.arange(len(self._images.val_labels)), _VAL_BATCH)[
            self._processes.rank :: self._processes.size
        ]
        requests = [BatchRequest.of_validation(rows.tolist()) for rows in batches]
        for rows, pixels in zip(batches, self._loader.load(requests), strict=True):
            yield ValBatch(self._normalised(pixels), self._images.val_labels[rows].to(self._device))

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: batches are functions of seed, epoch and step."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore nothing."""

    def _normalised(self, pixels: Tensor) -> Tensor:
        return normalise(pixels.to(self._device, non_blocking=True), *self._statistics)
