"""Classification by a supernet's networks: images in memory, cross entropy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nas.arch.spec import ArchSpec
from nas.data.images import ImageData
from nas.estimators.supernet.task import SupernetBatch
from nas.training.augmentation import make_mixup, normalise
from nas.training.distributed import ProcessGroup
from nas.training.evaluation import augmented_batch, memory_layout, normalization_statistics, score_logits
from nas.training.optimization import steps_per_epoch
from nas.training.results import Score
from nas.training.settings import TrainSettings


class ClassificationSupernet:
    """Batches, losses and scores of classifiers, for images in memory.

    A teacher's soft targets are its probabilities, (B, classes). Every process draws the augmentation of the whole
    batch: random states stay equal, and the images are those of a single process.
    """

    def __init__(
        self, data: ImageData, settings: TrainSettings, *, device: torch.device, processes: ProcessGroup
    ) -> None:
        self._data, self._settings, self._processes = data.to(device), settings, processes
        self._resized: dict[int, ImageData] = {}
        self._mixup = make_mixup(settings, data.classes)
        self._generator: torch.Generator | None = None
        self._batches: tuple[Tensor, ...] = ()
        self.train_images = len(data.train_labels)
        self.steps = steps_per_epoch(self.train_images, settings.batch_size)

    def start_epoch(self, epoch: int, generator: torch.Generator) -> None:
        """Draw the order of the train images."""
        self._generator = generator
        device = self._data.train_images.device
        order = torch.randperm(self.train_images, generator=generator, device=device)
        self._batches = order.tensor_split(self.steps)

    def batch(self, index: int, spec: ArchSpec) -> SupernetBatch:
        """Return batch ``index``; targets are labels (B,), or with mixup (B, classes)."""
        if self._generator is None:
            raise RuntimeError("start_epoch comes first")
        images, targets = augmented_batch(
            self._at(spec.resolution_px), self._batches[index], self._settings, self._mixup, self._generator
        )
        share = self._processes.share(images)
        return SupernetBatch(share, self._processes.share(targets), len(share) / len(images))

    def loss(self, spec: ArchSpec, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cross entropy of logits (B, classes), ()."""
        smoothing = 0.0 if targets.ndim == 2 else self._settings.label_smoothing
        return functional.cross_entropy(outputs.float(), targets, label_smoothing=smoothing)

    def soft_targets(self, outputs: Tensor) -> Tensor:
        """Return the probabilities of logits (B, classes)."""
        return outputs.detach().float().softmax(1)

    def soft_loss(self, outputs: Tensor, targets: Any, soft_targets: Tensor) -> Tensor:
        """Return the cross entropy with a teacher's probabilities, ()."""
        return functional.cross_entropy(outputs.float(), soft_targets)

    def statistics_images(self, side_px: int, rows: Tensor) -> Tensor:
        """Return train images of ``rows`` for the statistics of norms."""
        data = self._at(side_px)
        images = normalise(data.train_images[rows.to(data.train_images.device)], *normalization_statistics(data))
        return images.contiguous(memory_format=memory_layout(self._settings))

    def score(self, spec: ArchSpec, outputs_of: Callable[[Tensor], Any]) -> Score:
        """Return accuracy and cross entropy on the validation images."""
        return score_logits(outputs_of, self._at(spec.resolution_px), self._settings)

    def loss_of(self, spec: ArchSpec, outputs_of: Callable[[Tensor], Any]) -> float:
        """Return the cross entropy on the validation images."""
        return self.score(spec, outputs_of).loss

    def _at(self, side_px: int) -> ImageData:
        if side_px not in self._resized:
            self._resized[side_px] = self._data.resized(side_px)
        return self._resized[side_px]
