"""Classification as a task: cross entropy with mixup, and top-1 accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import torch
from torch import Tensor

from nas.training.augmentation import make_mixup
from nas.training.batches import LabelledSource
from nas.training.distributed import ProcessGroup
from nas.training.evaluation import ValBatch, score_batches
from nas.training.optimization import make_loss
from nas.training.results import Score
from nas.training.settings import TrainSettings


class Classification:
    """Classification of the images of ``source``; outputs are logits (B, classes).

    Targets are labels, int64 (B,), or with mixup soft targets, float32 (B, classes).
    """

    name: Final = "classification"
    metric: Final = "accuracy"

    def __init__(self, source: LabelledSource, settings: TrainSettings, device: torch.device) -> None:
        self._source, self._settings, self._device = source, settings, device
        self._mixup = make_mixup(settings, len(source.class_names))
        self._loss = make_loss(
            settings,
            has_soft_targets=self._mixup is not None,
            class_images=source.train_class_images,
            device=device,
        )

    def prepare(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a batch with itself if the settings have mixup or cutmix."""
        return (images, targets) if self._mixup is None else self._mixup(images, targets)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cross entropy, with label smoothing and class weights, ()."""
        loss: Tensor = self._loss(outputs, targets)
        return loss

    def score(
        self, model: Callable[[Tensor], Tensor], batches: Iterable[ValBatch], processes: ProcessGroup | None = None
    ) -> Score:
        """Return top-1 accuracy and cross entropy."""
        classes = len(self._source.class_names)
        return score_batches(model, batches, classes, self._settings, device=self._device, processes=processes)

    def constant_score(self) -> float:
        """Return the accuracy of always guessing the largest class."""
        images = self._source.val_class_images
        return max(images) / sum(images)
