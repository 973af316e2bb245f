"""Checks of exported files: difference to reference logits, accuracy on images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.arch.heads.task_scores import SCORE_NAMES
from nas.core.errors import NasError
from nas.core.progress import ProgressCallback
from nas.core.statistics import binomial_error
from nas.exporters.formats import ImageBatch, Logits, Outputs, Run, as_outputs, outputs_of


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitDifference:
    """Largest difference between the logits of a file and those of a reference.

    ``absolute``; ``relative`` to the largest absolute value among the reference's logits, of several outputs to that of
    each; infinite where a logit of the file is not finite. ``images``: compared. ``same_class``: how many of
    ``decisions`` have the same highest logit: images, of a map of logits pixels; None for several outputs.
    """

    absolute: float
    relative: float
    images: int
    same_class: int | None
    decisions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAccuracy:
    """Images that were classified, and how many of them correctly."""

    correct: int
    images: int

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy in [0, 1]."""
        return self.correct / self.images

    @property
    def standard_error(self) -> float:
        """Binomial standard error of ``accuracy``."""
        return binomial_error(self.accuracy, self.images)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileScore:
    """Score of a detector or segmenter on ``images``, in [0, 1].

    ``metric``: ``map`` (COCO's AP@[.5:.95]) or ``miou``; ``accuracy``: its value, with its standard error, None where
    it is not known. ``metrics``: further ones by name. ``deviations``: of the value by groups of images, whose squares
    add up to that of its error; () where it is not known.
    """

    metric: str
    accuracy: float
    standard_error: float | None
    images: int
    metrics: Mapping[str, float]
    deviations: tuple[float, ...] = ()

    @property
    def metric_name(self) -> str:
        """Name of the score in texts."""
        return SCORE_NAMES[self.metric]


def noise_images(shape: Sequence[int], seed: int) -> ImageBatch:
    """Standard normal noise of ``shape`` (N, C, H, W), float32.

    Zeros would be unrepresentative: they can be faster or slower.
    """
    return np.random.default_rng(seed).standard_normal(tuple(shape), dtype=np.float32)


def run_in_batches(run: Run, images: npt.NDArray[Any], batch: int = 1) -> Outputs:
    """Run a network of fixed batch size on any number of images.

    ``images``: float32 (N, C, H, W), or pixels of a file with processing; returns the outputs as ``run`` does. The last
    batch is filled up with zeros.
    """
    found: list[tuple[Logits, ...]] = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        missing = batch - len(part)
        filled = np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)]) if missing else part
        # A copy: some runtimes return views of a buffer that the next run overwrites.
        outputs = outputs_of(run(np.ascontiguousarray(filled)))
        found.append(tuple(np.array(output)[: len(part)] for output in outputs))
    return as_outputs(np.concatenate(arrays) for arrays in zip(*found, strict=True))


def classes_in_batches(run: Run, images: ImageBatch, batch: int = 1) -> npt.NDArray[np.int64]:
    """Classes (N,) of images, of a classifier; arguments as ``run_in_batches``."""
    (logits,) = outputs_of(run_in_batches(run, images, batch))
    return np.asarray(logits.argmax(axis=1))


def largest_difference(
    run: Run, reference: Callable[[ImageBatch], Any], images: ImageBatch, batch: int = 1
) -> LogitDifference:
    """Compare the logits of ``run`` with those of ``reference``.

    ``images``: float32 (N, C, H, W). ``batch``: the batch size of ``run``; ``reference`` takes any.

    Raises: NasError if the reference's logits are not finite, or of another shape.
    """
    expected = [np.asarray(output, dtype=np.float64) for output in outputs_of(reference(images))]
    found = outputs_of(run_in_batches(run, images, batch))
    if not all(np.isfinite(output).all() for output in expected):
        raise NasError("weights: the network's logits are not finite; use an earlier checkpoint.")
    shapes, wanted = ([output.shape for output in outputs] for outputs in (found, expected))
    if shapes != wanted:
        raise NasError(f"the file's logits have the shape {_shapes_text(shapes)}, torch's {_shapes_text(wanted)}.")
    differences = [_difference(*pair) for pair in zip(found, expected, strict=True)]
    same, decisions = None, 0
    if len(found) == 1:
        agrees = found[0].argmax(axis=1) == expected[0].argmax(axis=1)
        same, decisions = int(agrees.sum()), agrees.size
    return LogitDifference(
        absolute=max(absolute for absolute, _ in differences),
        relative=max(relative for _, relative in differences),
        images=len(images),
        same_class=same,
        decisions=decisions,
    )


def _difference(found: Logits, expected: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Largest difference of two arrays, absolute and relative to the second's."""
    absolute = float(np.abs(found - expected).max()) if np.isfinite(found).all() else math.inf
    largest = float(np.abs(expected).max())
    return absolute, absolute / largest if largest else absolute


def _shapes_text(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes))


def accuracy_through(
    run: Run,
    images: Iterable[ImageBatch],
    labels: npt.NDArray[np.int64],
    batch: int = 1,
    on_progress: ProgressCallback | None = None,
) -> ImageAccuracy:
    """Classify labelled images through ``run``, whose batch size is ``batch``.

    ``images``: arrays (n, C, H, W), float32 and normalised, with one image for each of ``labels`` (N,) in all; of an
    array in memory pass ``[array]``. ``on_progress(done, total)`` is called after each.

    Raises: NasError if there are more or fewer images than labels.
    """
    correct = correct_images(run, images, labels, batch, on_progress)
    return ImageAccuracy(correct=int(correct.sum()), images=len(correct))


def correct_images(
    run: Run,
    images: Iterable[ImageBatch],
    labels: npt.NDArray[np.int64],
    batch: int = 1,
    on_progress: ProgressCallback | None = None,
) -> npt.NDArray[np.bool_]:
    """Which images are classified correctly, (N,).

    Arguments and errors are those of ``accuracy_through``.
    """
    found: list[npt.NDArray[np.bool_]] = []
    done = 0
    for part in images:
        truth = labels[done : done + len(part)]
        if len(truth) < len(part):
            break
        found.append(classes_in_batches(run, part, batch) == truth)
        done += len(part)
        if on_progress is not None:
            on_progress(done, len(labels))
    if done != len(labels) or not done:
        raise NasError(f"accuracy: {len(labels)} labels, but other than {done} images; pass one label for each image.")
    return np.concatenate(found)
