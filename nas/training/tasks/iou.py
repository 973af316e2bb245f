"""Intersection over union from confusion matrices, with standard errors."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas.training.tasks.jackknife import jackknife_deviations, jackknife_error

Counts = NDArray[np.int64]

PIXEL_ACCURACY: Final = "pixel_accuracy"


class IntersectionOverUnion(NamedTuple):
    """Scores of a segmenter, in [0, 1], with standard errors.

    ``mean``: mIoU, the mean of ``classes`` where it is not None. ``classes``: IoU by class in label order, None for a
    class that no validation pixel has. ``pixel_accuracy``: share of the pixels. Errors are None for fewer than two
    groups of images. ``deviations``: of ``mean`` (``jackknife_deviations``).
    """

    mean: float
    error: float | None
    classes: tuple[float | None, ...]
    class_errors: tuple[float | None, ...]
    pixel_accuracy: float
    deviations: tuple[float, ...]


def intersection_over_union(confusion: Counts) -> IntersectionOverUnion:
    """Score pixels by class and predicted class, (G, K, K), of G groups of images.

    A class's IoU is the number of its pixels that are found, divided by the number of pixels that have the class or are
    taken for it, over all images together; void pixels are not counted. Source: Everingham et al., The PASCAL Visual
    Object Classes Challenge: A Retrospective, section 5.2. Errors are those of a delete-a-group jackknife
    (``jackknife_error``), over the groups.
    """
    total = confusion.sum(0)
    without = [class_iou(total - one) for one in confusion]
    means = [mean_iou(one) for one in without]
    classes = class_iou(total)
    return IntersectionOverUnion(
        mean=mean_iou(classes) or 0.0,
        error=jackknife_error(means),
        classes=classes,
        class_errors=tuple(
            None if score is None else jackknife_error([one[label] for one in without])
            for label, score in enumerate(classes)
        ),
        pixel_accuracy=float(total.trace() / max(1, total.sum())),
        deviations=jackknife_deviations(means),
    )


def class_iou(confusion: Counts) -> tuple[float | None, ...]:
    """Return the IoU of each class, from pixels by class and predicted class (K, K).

    None for a class without pixels, whatever is taken for it: what is, counts against the true class.
    """
    found, true, taken = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    return tuple(int(hit) / int(of + by - hit) if of else None for hit, of, by in zip(found, true, taken, strict=True))


def mean_iou(classes: tuple[float | None, ...]) -> float | None:
    """Return the mean over the classes that have pixels; None if none has."""
    scores = [score for score in classes if score is not None]
    return sum(scores) / len(scores) if scores else None


def constant_iou(class_pixels: Any) -> float:
    """Return the mIoU of taking every pixel for the most frequent class.

    ``class_pixels``: validation pixels of each class (K,), without void. It is the best of all constant outputs: the
    IoU of the class is its share of the pixels, that of all others is 0.
    """
    pixels = np.asarray(class_pixels, dtype=np.int64)
    return float(pixels.max() / max(1, pixels.sum()) / max(1, (pixels > 0).sum()))
