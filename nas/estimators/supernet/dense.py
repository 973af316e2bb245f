"""Detection and segmentation by a supernet's networks, as proxies are trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nas.arch.spec import ArchSpec
from nas.data.dense import VOID, AnyDenseData
from nas.estimators.supernet.task import SupernetBatch
from nas.model.dense.segmentation import enlarged_logits
from nas.training.batches import TrainBatch
from nas.training.distributed import ProcessGroup
from nas.training.evaluation import memory_layout
from nas.training.optimization import steps_per_epoch
from nas.training.results import Score
from nas.training.settings import TrainSettings
from nas.training.tasks import Task, make_dense_source, make_dense_task, moved


class DenseSupernet:
    """Batches, losses and scores of detectors or segmenters.

    Batches are those of a proxy's training: functions of seed, epoch and image, at any resolution. A segmenter's soft
    targets are its probabilities at each position of its logits, (B, classes, h, w); positions count by their share of
    pixels that are not void. Detectors learn from the labels alone: a teacher's boxes would first have to be matched,
    and nearly all of its default boxes are background.
    """

    def __init__(
        self,
        data: AnyDenseData,
        settings: TrainSettings,
        *,
        seed: int,
        device: torch.device,
        processes: ProcessGroup,
    ) -> None:
        self._data, self._settings, self._seed = data, settings, seed
        self._device, self._processes = device, processes
        self._sources: dict[int, Any] = {}
        self._segmentations: dict[int, Task] = {}
        # Of each resolution: epoch and index of the next batch, and where it comes from.
        self._begun: dict[int, tuple[tuple[int, int], Iterator[TrainBatch]]] = {}
        self._epoch = 1
        self.train_images = len(data.train)
        self.steps = steps_per_epoch(self.train_images, settings.batch_size)

    def start_epoch(self, epoch: int, generator: torch.Generator) -> None:
        """Begin an epoch, whose order depends on the seed; nothing is drawn."""
        self._epoch, self._begun = epoch + 1, {}

    def batch(self, index: int, spec: ArchSpec) -> SupernetBatch:
        """Return batch ``index`` with the targets of the task."""
        side_px, place = spec.resolution_px, (self._epoch, index)
        expected, batches = self._begun.get(side_px, (None, None))
        if batches is None or expected != place:
            batches = self._source(side_px).train_batches(*place)
        found = next(batches)
        self._begun[side_px] = (self._epoch, index + 1), batches
        images, targets = self._task(spec).prepare(
            found.images.to(self._device).contiguous(memory_format=memory_layout(self._settings)),
            moved(found.targets, self._device),
        )
        return SupernetBatch(images, targets, len(images) / found.total)

    def loss(self, spec: ArchSpec, outputs: Any, targets: Any) -> Tensor:
        """Return the loss of the task, ()."""
        loss: Tensor = self._task(spec).loss(outputs, targets)
        return loss

    def soft_targets(self, outputs: Any) -> Tensor | None:
        """Return a segmenter's probabilities; None of a detector."""
        return outputs.detach().float().softmax(1) if isinstance(outputs, Tensor) else None

    def soft_loss(self, outputs: Tensor, targets: Tensor, soft_targets: Tensor) -> Tensor:
        """Return the cross entropy with a teacher's probabilities, ().

        ``outputs``: logits (B, classes, h, w). ``targets``: classes of pixels (B, H, W), of which only void is used. 0
        if all are void. Those of a teacher at another resolution are resized.
        """
        sides = outputs.shape[2], outputs.shape[3]
        if soft_targets.shape[2:] != outputs.shape[2:]:
            soft_targets = enlarged_logits(soft_targets, *sides)
        labelled = functional.adaptive_avg_pool2d((targets != VOID).float()[:, None], sides)[:, 0]
        entropy = functional.cross_entropy(outputs.float(), soft_targets, reduction="none")
        return (entropy * labelled).sum() / labelled.sum().clamp(min=torch.finfo(torch.float32).tiny)

    def statistics_images(self, side_px: int, rows: Tensor) -> Tensor:
        """Return whole train images of ``rows`` for the statistics of norms."""
        images: Tensor = self._source(side_px).train_inputs(rows.tolist())
        return images.contiguous(memory_format=memory_layout(self._settings))

    def score(self, spec: ArchSpec, outputs_of: Callable[[Tensor], Any]) -> Score:
        """Return the score of the task on the validation images."""
        score: Score = self._task(spec).score(outputs_of, self._source(spec.resolution_px).val_batches())
        return score

    def loss_of(self, spec: ArchSpec, outputs_of: Callable[[Tensor], Any]) -> float:
        """Return the loss of the task on the validation images.

        To find a detector's boxes and to compare them takes three times as long.
        """
        if spec.task != "detection":
            return self.score(spec, outputs_of).loss
        loss: float = self._task(spec).validation_loss(outputs_of, self._source(spec.resolution_px).val_batches())
        return loss

    def _source(self, side_px: int) -> Any:
        """Batches at a resolution, made once."""
        if side_px not in self._sources:
            self._sources[side_px] = make_dense_source(
                self._data,
                self._settings,
                resolution_px=side_px,
                seed=self._seed,
                device=self._device,
                processes=self._processes,
            )
        return self._sources[side_px]

    def _task(self, spec: ArchSpec) -> Any:
        """Task of ``spec``; a detector's has its default boxes, others are made once."""
        side_px = spec.resolution_px
        task = self._segmentations.get(side_px) or make_dense_task(
            spec, self._source(side_px), self._settings, self._device
        )
        if spec.task == "segmentation":
            self._segmentations[side_px] = task
        return task
