"""Detection as a task: SSD's loss, and COCO's average precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from nas.arch.spec import ArchSpec
from nas.data.dense import DetectionData
from nas.model.dense.detection import default_boxes, detector_head, find_boxes, flatten_outputs
from nas.training.distributed import ProcessGroup
from nas.training.evaluation import ValBatch, autocast, memory_layout
from nas.training.results import Score
from nas.training.settings import TrainSettings
from nas.training.tasks.average_precision import (
    MAX_DETECTIONS,
    AveragePrecision,
    FoundBoxes,
    TrueBoxes,
    score_detections,
)
from nas.training.tasks.constant_boxes import constant_boxes
from nas.training.tasks.detection_loss import BoxTargets, ssd_losses
from nas.training.tasks.detection_source import DetectionSource

_COLUMNS: Final = 6  # of a detection: corners, score, label
# Scores of constant boxes by data and default boxes, which are the same for most networks of a search: 1.5 CPU-s for
# 291 images.
_CONSTANTS: Final[WeakKeyDictionary[DetectionData, dict[bytes, AveragePrecision]]] = WeakKeyDictionary()


class Detection:
    """Detection of objects in the images of ``source`` by a network with SSDLite.

    ``spec``: of the network. Outputs are the maps of ``nas.arch.ops.output_ops``: class predictions, then boxes.
    Targets are ``BoxTargets``.
    """

    name: Final = "detection"
    metric: Final = "map"

    def __init__(self, spec: ArchSpec, source: DetectionSource, settings: TrainSettings, device: torch.device) -> None:
        detector_head(spec)
        self._spec, self._source, self._settings, self._device = spec, source, settings, device
        self._classes = len(source.class_names)
        self._boxes = default_boxes(spec, source.resolution_px).to(device)

    @cached_property
    def _truth(self) -> list[TrueBoxes]:
        """Boxes of the validation images, which a training alone does not need."""
        return [_true_boxes(self._source.data.val, row) for row in range(self._source.val_images)]

    def prepare(self, images: Tensor, targets: BoxTargets) -> tuple[Tensor, BoxTargets]:
        """Return the batch as it is."""
        return images, targets

    def loss(self, outputs: Sequence[Tensor], targets: BoxTargets) -> Tensor:
        """Return the sum of SSD's losses of classes and boxes, ()."""
        logits, offsets = self._predictions(outputs)
        classes, boxes = ssd_losses(
            logits, offsets, targets, self._boxes, label_smoothing=self._settings.label_smoothing
        )
        return classes + boxes

    @torch.inference_mode()
    def score(
        self,
        model: Callable[[Tensor], Any],
        batches: Iterable[ValBatch],
        processes: ProcessGroup | None = None,
    ) -> Score:
        """Return COCO's scores of the boxes that ``model`` finds, and SSD's loss.

        At the images' own size; 100 boxes per image are scored. With several ``processes`` each has the boxes of all.
        """
        found = torch.zeros(self._source.val_images, MAX_DETECTIONS, _COLUMNS, device=self._device)
        loss, count = torch.zeros((), device=self._device), torch.zeros((), device=self._device)
        for batch in batches:
            logits, offsets, of_batch = self._validated(model, batch)
            loss += of_batch * len(logits)
            count += len(logits)
            for row, one in zip(
                batch.labels.rows.tolist(),
                find_boxes(logits, offsets, self._boxes, max_detections=MAX_DETECTIONS),
                strict=True,
            ):
                found[row, : len(one.scores)] = torch.cat([one.boxes, one.scores[:, None], one.labels[:, None]], 1)
        if processes is not None:
            found, loss, count = processes.sum(found), processes.sum(loss), processes.sum(count)
        return detection_score(self.precision_of(found.cpu().numpy()), float(loss / count))

    @torch.inference_mode()
    def validation_loss(self, model: Callable[[Tensor], Any], batches: Iterable[ValBatch]) -> float:
        """Return the loss of ``score`` alone, without looking for boxes."""
        loss, count = torch.zeros((), device=self._device), 0
        for batch in batches:
            logits, _, of_batch = self._validated(model, batch)
            loss += of_batch * len(logits)
            count += len(logits)
        return float(loss / count)

    def precision_of(self, found: Any) -> AveragePrecision:
        """Return COCO's scores of boxes found in the validation images.

        At the images' own size. ``found``: float32 (N, 100, 6), of each box its corners as shares of the network's
        input, score, and label; with a score of 0 where there is none.
        """
        images_found = [self._at_own_size(row, one) for row, one in enumerate(found)]
        return score_detections(self._truth, images_found, self._classes)

    def constant_score(self) -> float:
        """Return the precision of the best boxes that are the same for every image."""
        return self.constant_precision().mean

    def constant_precision(self) -> AveragePrecision:
        """Return the scores of the best boxes that are the same for every image.

        They are chosen on the train images, among the default boxes.
        """
        data, boxes = self._source.data, self._boxes.cpu()
        known, key = _CONSTANTS.setdefault(data, {}), boxes.numpy().tobytes()
        if key not in known:
            found = constant_boxes(data.train, self._classes, boxes)
            rows = range(self._source.val_images)
            scaled = [found._replace(boxes=found.boxes * np.tile(data.val.size(row), 2)) for row in rows]
            known[key] = score_detections(self._truth, scaled, self._classes)
        return known[key]

    def predictions(self, rows: Sequence[int], outputs: Sequence[Tensor]) -> list[FoundBoxes]:
        """Return the boxes that are found in validation images, in px of the images."""
        found = find_boxes(*self._predictions(outputs), self._boxes, max_detections=MAX_DETECTIONS)
        return [
            self._at_own_size(row, torch.cat([one.boxes, one.scores[:, None], one.labels[:, None]], 1).cpu().numpy())
            for row, one in zip(rows, found, strict=True)
        ]

    def _validated(self, model: Callable[[Tensor], Any], batch: ValBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, offsets and loss, (), of a batch of validation images."""
        images = batch.images.to(self._device)
        with autocast(self._settings, self._device):
            outputs = model(images.contiguous(memory_format=memory_layout(self._settings)))
        logits, offsets = self._predictions(outputs)
        boxes = BoxTargets(*(part.to(self._device) for part in batch.labels.targets))
        classes, of_boxes = ssd_losses(logits, offsets, boxes, self._boxes)
        return logits, offsets, classes + of_boxes

    def _predictions(self, outputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (B, A, classes + 1) and offsets (B, A, 4) of outputs, float32."""
        logits, offsets = flatten_outputs(self._spec, outputs)
        return logits.float(), offsets.float()

    def _at_own_size(self, row: int, found: Any) -> FoundBoxes:
        """Detections in px of the image; ``found`` (100, 6) as of ``precision_of``."""
        found = found[found[:, 4] > 0]
        width, height = self._source.data.val.size(row)
        boxes = self._source.transform.at_own_size(found[:, :4], width, height)
        return FoundBoxes(boxes.clip(0, np.tile([width, height], 2)), found[:, 5].astype(np.int64), found[:, 4])


def _true_boxes(split: Any, row: int) -> TrueBoxes:
    return TrueBoxes(split.boxes(row), split.labels(row), split.is_ignored(row))


def detection_score(precision: AveragePrecision, loss: float) -> Score:
    """Return the score of a detector; ``loss``: SSD's, per matched default box."""
    by_area = {"map_small": precision.small, "map_medium": precision.medium, "map_large": precision.large}
    return Score(
        accuracy=precision.mean,
        loss=loss,
        metrics={
            "map50": precision.at_50,
            "map75": precision.at_75,
            **{name: value for name, value in by_area.items() if value is not None},
            "recall": precision.recall,
            **({} if precision.error_at_50 is None else {"map50_error": precision.error_at_50}),
        },
        standard_error=precision.error,
        class_scores=precision.class_mean,
        class_errors=precision.class_errors,
        deviations=precision.deviations,
    )
