"""Checks of exported files: difference to reference logits, accuracy on images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.core.errors import NasError
from nas.core.progress import ProgressCallback
from nas.core.statistics import binomial_error
from nas.exporters.formats import ImageBatch, Logits, Run


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitDifference:
    """Largest difference between the logits of a file and those of a reference.

    ``absolute``; ``relative`` to the largest absolute value among the reference's logits; infinite where a logit of
    the file is not finite. ``images``: compared, of which ``same_class`` have the same highest logit.
    """

    absolute: float
    relative: float
    images: int
    same_class: int


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


def noise_images(shape: Sequence[int], seed: int) -> ImageBatch:
    """Standard normal noise of ``shape`` (N, C, H, W), float32.

    Zeros would be unrepresentative: they can be faster or slower.
    """
    return np.random.default_rng(seed).standard_normal(tuple(shape), dtype=np.float32)


def run_in_batches(run: Run, images: ImageBatch, batch: int = 1) -> Logits:
    """Run a network of fixed batch size on any number of images.

    ``images``: float32 (N, C, H, W); returns logits (N, classes). The last batch is filled up with zeros.
    """
    found = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        missing = batch - len(part)
        filled = np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)]) if missing else part
        # A copy: some runtimes return views of a buffer that the next run overwrites.
        found.append(np.array(run(np.ascontiguousarray(filled)))[: len(part)])
    return np.concatenate(found)


def largest_difference(
    run: Run, reference: Callable[[ImageBatch], npt.NDArray[Any]], images: ImageBatch, batch: int = 1
) -> LogitDifference:
    """Compare the logits of ``run`` with those of ``reference``.

    ``images``: float32 (N, C, H, W). ``batch``: the batch size of ``run``; ``reference`` takes any.

    Raises: NasError if the reference's logits are not finite, or of another shape.
    """
    expected, found = np.asarray(reference(images), dtype=np.float64), run_in_batches(run, images, batch)
    if not np.isfinite(expected).all():
        raise NasError("weights: the network's logits are not finite; use an earlier checkpoint.")
    if found.shape != expected.shape:
        raise NasError(f"the file's logits have the shape {found.shape}, torch's {expected.shape}.")
    absolute = float(np.abs(found - expected).max()) if np.isfinite(found).all() else math.inf
    largest = float(np.abs(expected).max())
    return LogitDifference(
        absolute=absolute,
        relative=absolute / largest if largest else absolute,
        images=len(images),
        same_class=int((found.argmax(axis=1) == expected.argmax(axis=1)).sum()),
    )


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
        found.append(run_in_batches(run, part, batch).argmax(axis=1) == truth)
        done += len(part)
        if on_progress is not None:
            on_progress(done, len(labels))
    if done != len(labels) or not done:
        raise NasError(f"accuracy: {len(labels)} labels, but other than {done} images; pass one label for each image.")
    return np.concatenate(found)
