"""Semantic segmentation as a task: cross entropy of pixels, and mIoU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nas.data.dense import VOID
from nas.model.dense.segmentation import enlarged_logits
from nas.training.distributed import ProcessGroup
from nas.training.evaluation import ValBatch, autocast, memory_layout
from nas.training.results import Score
from nas.training.settings import TrainSettings
from nas.training.tasks.iou import PIXEL_ACCURACY, Counts, constant_iou, intersection_over_union
from nas.training.tasks.jackknife import jackknife_groups
from nas.training.tasks.segmentation_source import SegmentationSource

# Every second pixel of every second row has a part in the loss: all of them take four times as long, for a small
# network 49 in place of 12 ms of a step of 250 (16 images of 160 px, 11 classes, one core).
_LOSS_STEP: Final = 2
_ENLARGED_BYTES: Final = 2**27  # of the logits of images that are scored together


class Segmentation:
    """Segmentation of the images of ``source``; outputs are logits (B, K, h, w).

    Targets are classes by pixel of the network's input, uint8 (B, H, W), with ``VOID``, which has no part in loss and
    score. The loss is the mean over the other pixels, on enlarged logits.
    """

    name: Final = "segmentation"
    metric: Final = "miou"

    def __init__(self, source: SegmentationSource, settings: TrainSettings, device: torch.device) -> None:
        self._source, self._settings, self._device = source, settings, device
        weights = settings.loss_weights(self.train_class_pixels, "pixel")
        self._weights = None if weights is None else torch.tensor(weights, device=device)
        groups = jackknife_groups(source.val_images)
        self._group_of = np.concatenate([np.full(len(rows), group) for group, rows in enumerate(groups)])
        self._groups, self._classes = len(groups), len(source.class_names)

    @property
    def train_class_pixels(self) -> tuple[int, ...]:
        """Train pixels of each class, without void."""
        return tuple(self._source.data.train.pixels.sum(0)[:-1].tolist())

    def prepare(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return a batch with every second pixel of every second row of masks.

        Classes are int64.

        Which, is drawn: always the same ones would shift what the network learns by half a pixel.
        """
        down, across = torch.randint(_LOSS_STEP, (2,)).tolist()
        return images, targets[:, down::_LOSS_STEP, across::_LOSS_STEP].long()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross entropy of the pixels, ().

        With label smoothing, and weighted by the weights of their classes; 0 if all pixels are void.
        """
        # Contiguous logits are enlarged faster than with channels last.
        logits = enlarged_logits(outputs.contiguous(), targets.shape[1], targets.shape[2])
        total = functional.cross_entropy(
            logits,
            targets,
            weight=self._weights,
            ignore_index=VOID,
            label_smoothing=self._settings.label_smoothing,
            reduction="sum",
        )
        is_counted = targets != VOID
        if self._weights is None:
            return total / is_counted.sum().clamp(min=1)
        weights = self._weights[targets.clamp(max=self._classes - 1)] * is_counted
        return total / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)

    def score(
        self, model: Callable[[Tensor], Tensor], batches: Iterable[ValBatch], processes: ProcessGroup | None = None
    ) -> Score:
        """Return mIoU at the images' own size and the mean cross entropy of their pixels.

        Over the classes that validation images have.
        """
        return self.score_of(*self.confusion(model, batches, processes))

    def score_of(self, confusion: Counts, loss: float) -> Score:
        """Return the score of counted pixels.

        ``confusion``: by group, class and predicted class, (G, K, K). ``loss``: their mean cross entropy.
        """
        scores = intersection_over_union(confusion)
        return Score(
            accuracy=scores.mean,
            loss=loss,
            metrics={PIXEL_ACCURACY: scores.pixel_accuracy},
            standard_error=scores.error,
            class_scores=scores.classes,
            class_errors=scores.class_errors,
            deviations=scores.deviations,
        )

    @torch.inference_mode()
    def confusion(
        self, model: Callable[[Tensor], Tensor], batches: Iterable[ValBatch], processes: ProcessGroup | None = None
    ) -> tuple[Counts, float]:
        """Count pixels by group of images, class and predicted class, (G, K, K).

        With their mean cross entropy.
        """
        shape = (self._groups, self._classes + 1, self._classes)  # the last row is void
        counts = torch.zeros(shape, dtype=torch.int64, device=self._device)
        loss = torch.zeros((), dtype=torch.float64, device=self._device)
        for batch in batches:
            with autocast(self._settings, self._device):
                outputs = model(batch.images.to(self._device).contiguous(memory_format=memory_layout(self._settings)))
            for rows, logits in self.at_own_size(batch.labels.rows.tolist(), outputs):
                masks = np.stack([self._source.data.val.mask(row) for row in rows])
                truth = torch.from_numpy(masks.astype(np.int64)).to(self._device)
                loss += functional.cross_entropy(logits, truth, ignore_index=VOID, reduction="sum")
                groups = torch.from_numpy(self._group_of[rows]).to(self._device).view(-1, 1, 1)
                labels = groups * (self._classes + 1) + truth.clamp(max=self._classes)
                pairs = labels * self._classes + logits.max(1).indices  # ten times as fast as argmax on a CPU
                counts += torch.bincount(pairs.view(-1), minlength=counts.numel()).view(shape)
        if processes is not None:
            counts, loss = processes.sum(counts), processes.sum(loss)
        scored = counts[:, :-1].cpu().numpy()
        return scored, float(loss) / max(1, int(scored.sum()))

    def at_own_size(self, rows: Sequence[int], outputs: Tensor) -> Iterator[tuple[list[int], Tensor]]:
        """Yield rows and logits of validation images at their own size.

        Logits are float32 (n, K, H, W).

        ``outputs``: logits of their squares, (B, K, h, w). Neighbours of one size come together.
        """
        start, outputs = 0, outputs.contiguous()  # which is enlarged faster than with channels last
        for (width, height), found in groupby(rows, self._source.data.val.size):
            same = list(found)
            most = max(1, _ENLARGED_BYTES // (4 * self._classes * width * height))
            for first in range(0, len(same), most):
                part = same[first : first + most]
                yield part, self._enlarged(outputs[start : start + len(part)], width, height)
                start += len(part)

    def predictions(self, rows: Sequence[int], outputs: Tensor) -> list[NDArray[np.uint8]]:
        """Return the class of each pixel of validation images, uint8 (H, W).

        At the images' own size.
        """
        return [
            mask
            for _, logits in self.at_own_size(rows, outputs)
            for mask in logits.argmax(1).to(torch.uint8).cpu().numpy()
        ]

    def _enlarged(self, logits: Tensor, width: int, height: int) -> Tensor:
        """Logits of squares at the size of their images."""
        transform = self._source.transform
        if transform.pads:
            _, (left, top, right, bottom) = transform.placement(transform.whole_area(width, height), width, height)
            logits = enlarged_logits(logits, transform.side_px, transform.side_px)[:, :, top:bottom, left:right]
        return enlarged_logits(logits, height, width)

    def constant_score(self) -> float:
        """Return the mIoU of taking every pixel for the most frequent class."""
        return constant_iou(self._source.data.val.pixels.sum(0)[:-1])
