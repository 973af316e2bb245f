"""COCO's average precision by pycocotools, from boxes in memory, with its error."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval

from nas.training.tasks.jackknife import jackknife_deviations, jackknife_error, jackknife_groups

MAX_DETECTIONS: Final = 100  # per image, of COCO's main score; of each class, by falling score

Floats = NDArray[np.floating[Any]]


class TrueBoxes(NamedTuple):
    """Boxes of an image as labelled.

    ``boxes``: left, top, right, bottom in px, (n, 4). ``labels``: from 0, (n,). ``is_ignored``, bool (n,): COCO's
    ``iscrowd`` or Pascal VOC's ``difficult``. These need not be found, and a detection is not counted as wrong if the
    share of its area in one of them reaches the threshold, as COCO has it.
    """

    boxes: Floats
    labels: NDArray[np.int64]
    is_ignored: NDArray[np.bool_]


class FoundBoxes(NamedTuple):
    """Boxes found in an image: as ``TrueBoxes``, with scores (n,)."""

    boxes: Floats
    labels: NDArray[np.int64]
    scores: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class AveragePrecision:
    """COCO's scores of a set of images, in [0, 1].

    ``mean``: AP@[.5:.95], the mean over classes and ten thresholds of the intersection over union; ``at_50`` and
    ``at_75``: at one threshold. ``small``, ``medium``, ``large``: of objects of under 32², up to 96² and more px (area
    of the box); None without such objects. ``recall``: mean recall with 100 detections per image. ``class_mean`` and
    ``class_at_50``: of each class, None for one without objects, which the means leave out. ``error``, ``error_at_50``
    and ``class_errors``: standard errors of ``mean``, ``at_50`` and ``class_mean`` by a jackknife over groups of images
    (``nas.training.tasks.jackknife``), None for a single image or a class without objects. ``deviations``: of ``mean``
    (``jackknife_deviations``).
    """

    mean: float
    at_50: float
    at_75: float
    small: float | None
    medium: float | None
    large: float | None
    recall: float
    class_mean: tuple[float | None, ...]
    class_at_50: tuple[float | None, ...]
    class_errors: tuple[float | None, ...]
    error: float | None
    error_at_50: float | None
    deviations: tuple[float, ...]


def score_detections(truth: Sequence[TrueBoxes], found: Sequence[FoundBoxes], classes: int) -> AveragePrecision:
    """Score the boxes ``found`` in images against those that are there.

    All zeros if no image has a box.
    """
    evaluation = BoxEvaluation(truth, found, classes)
    with redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0]  # (thresholds, recalls, classes, areas)
    every, by_area = precision[..., 0], [_mean(precision[..., area]) for area in (1, 2, 3)]
    left_out = [evaluation.precision_without(rows) for rows in jackknife_groups(len(truth))]
    means = [_mean(some) for some in left_out]
    return AveragePrecision(
        mean=_mean(every) or 0.0,
        at_50=_mean(every[0]) or 0.0,
        at_75=_mean(every[5]) or 0.0,
        small=by_area[0],
        medium=by_area[1],
        large=by_area[2],
        recall=_mean(evaluation.eval["recall"][:, :, 0, 0]) or 0.0,
        class_mean=tuple(_mean(every[:, :, one]) for one in range(classes)),
        class_at_50=tuple(_mean(every[0, :, one]) for one in range(classes)),
        class_errors=tuple(jackknife_error([_mean(some[one]) for some in left_out]) for one in range(classes)),
        error=jackknife_error(means),
        error_at_50=jackknife_error([_mean(some[:, 0]) for some in left_out]),
        deviations=jackknife_deviations(means),
    )


class BoxEvaluation(COCOeval):  # type: ignore[misc]
    """COCO's evaluation of boxes in memory; images and classes are numbered from 0.

    Matching and precision are pycocotools'. Detections that overlap with no object enough for the lowest threshold are
    kept out of its loops, which are in Python and take three quarters of the time for them.
    """

    def __init__(self, truth: Sequence[TrueBoxes], found: Sequence[FoundBoxes], classes: int) -> None:
        super().__init__(iouType="bbox")
        self.params.imgIds, self.params.catIds = list(range(len(truth))), list(range(classes))
        self.params.maxDets = [MAX_DETECTIONS]
        self._truth, self._found = truth, found

    def evaluateImg(self, imgId: int, catId: int, aRng: Any, maxDet: int) -> dict[str, Any] | None:
        """Match the detections of a class in an image; None if there is nothing."""
        key = imgId, catId
        detections, overlaps = self._dts[key], self.ious[key]
        if not detections or not self._gts[key]:
            matched: dict[str, Any] | None = super().evaluateImg(imgId, catId, aRng, maxDet)
            return matched
        is_near = overlaps.max(1) >= self.params.iouThrs[0]
        self._dts[key] = [one for one, is_one in zip(detections, is_near, strict=True) if is_one]
        self.ious[key] = overlaps[is_near]
        near: dict[str, Any] = super().evaluateImg(imgId, catId, aRng, maxDet)
        self._dts[key], self.ious[key] = detections, overlaps
        areas = np.array([one["area"] for one in detections])
        ignored = np.tile((areas < aRng[0]) | (areas > aRng[1]), (len(self.params.iouThrs), 1))
        matches = np.zeros(ignored.shape)
        ignored[:, is_near], matches[:, is_near] = near["dtIgnore"], near["dtMatches"]
        return near | {
            "dtIds": [one["id"] for one in detections],
            "dtScores": [one["score"] for one in detections],
            "dtMatches": matches,
            "dtIgnore": ignored,
        }

    def precision_without(self, rows: Sequence[int]) -> Floats:
        """Return the precision of each class without the images of ``rows``.

        Average precision at each threshold, (classes, T); -1 for a class without objects. To be called after
        ``evaluate``. pycocotools' ``accumulate`` on the other images gives the same, in Python loops over all
        detections.
        """
        images, areas, left_out = len(self.params.imgIds), len(self.params.areaRng), set(rows)
        return np.stack(
            [
                _precision(
                    [self.evalImgs[one * areas * images + row] for row in range(images) if row not in left_out],
                    self.params,
                )
                for one in range(len(self.params.catIds))
            ]
        )

    def _prepare(self) -> None:
        """Give pycocotools the boxes, in its form."""
        self._gts: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
        self._dts: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
        self.evalImgs: list[dict[str, Any] | None] = []
        number = 0  # of objects and detections, from 1: pycocotools takes 0 for none
        for row, (true, found) in enumerate(zip(self._truth, self._found, strict=True)):
            for box, label, is_ignored in zip(_corner_sizes(true.boxes), true.labels, true.is_ignored, strict=True):
                number += 1
                crowd = int(is_ignored)
                self._gts[row, int(label)].append({**_entry(box, number), "iscrowd": crowd, "ignore": crowd})
            order = np.argsort(-found.scores, kind="stable")
            for box, label, score in zip(
                _corner_sizes(found.boxes)[order], found.labels[order], found.scores[order], strict=True
            ):
                if len(self._dts[row, int(label)]) < MAX_DETECTIONS:
                    number += 1
                    self._dts[row, int(label)].append({**_entry(box, number), "score": float(score)})


def _corner_sizes(boxes: Floats) -> Floats:
    """COCO's form of boxes (n, 4): left, top, width, height."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)


def _entry(box: Floats, number: int) -> dict[str, Any]:
    return {"id": number, "bbox": box.tolist(), "area": float(box[2] * box[3])}


def _precision(images: Sequence[Mapping[str, Any] | None], params: Any) -> Floats:
    """Average precision of a class at each threshold, (T,); -1 without objects.

    As COCO defines it: the mean, over 101 recalls, of the largest precision at that recall or a larger one.
    """
    present = [one for one in images if one is not None]
    objects = sum(int((one["gtIgnore"] == 0).sum()) for one in present)
    if not objects:
        return np.full(len(params.iouThrs), -1.0)
    order = np.argsort(-np.concatenate([one["dtScores"] for one in present]), kind="mergesort")
    matched, ignored = (
        np.concatenate([one[name] for one in present], axis=1)[:, order] != 0 for name in ("dtMatches", "dtIgnore")
    )
    right = np.cumsum(matched & ~ignored, axis=1)
    wrong = np.cumsum(~matched & ~ignored, axis=1)
    precision = right / np.maximum(right + wrong, 1)
    largest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    largest = np.concatenate([largest, np.zeros((len(largest), 1))], axis=1)  # a recall that is not reached
    at = [np.searchsorted(one / objects, params.recThrs, side="left") for one in right]
    return np.array([row[places].mean() for row, places in zip(largest, at, strict=True)])


def _mean(values: Floats) -> float | None:
    """Mean without the -1 of classes and areas without objects; None without any."""
    present = values[values > -1]
    return float(present.mean()) if present.size else None
