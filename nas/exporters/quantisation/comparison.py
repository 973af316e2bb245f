"""Accuracy of a quantised network beside float32's, image by image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from nas.core.statistics import binomial_error, paired_difference_error
from nas.exporters.check import classes_in_batches, correct_images
from nas.exporters.formats import ImageBatch, Run

_FIRST_LOOK: Final = 500  # images
_ONE_SIDED: Final = 1.645  # standard normal deviate of a one-sided 95% bound


class LabelledImages(Protocol):
    """Normalised images in parts, float32 (n, C, H, W), with a label for each of all."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Classes (N,)."""

    def __iter__(self) -> Iterator[ImageBatch]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedAccuracy:
    """Accuracy of a network and of its float32 form on the same ``images``.

    ``correct``: classified correctly by the network; ``lost``: by float32 alone, ``gained``: by the network alone.
    """

    correct: int
    lost: int
    gained: int
    images: int

    @classmethod
    def of(cls, correct: npt.NDArray[np.bool_], float_correct: npt.NDArray[np.bool_]) -> PairedAccuracy:
        """Compare which images the two classify correctly, both bool (N,)."""
        return cls(
            correct=int(correct.sum()),
            lost=int((float_correct & ~correct).sum()),
            gained=int((correct & ~float_correct).sum()),
            images=len(correct),
        )

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy in [0, 1]."""
        return self.correct / self.images

    @property
    def standard_error(self) -> float:
        """Binomial standard error of ``accuracy``."""
        return binomial_error(self.accuracy, self.images)

    @property
    def loss(self) -> float:
        """Accuracy of float32 minus that of the network."""
        return (self.lost - self.gained) / self.images

    @property
    def loss_error(self) -> float:
        """Standard error of ``loss``."""
        return paired_difference_error(self.lost, self.gained, self.images)

    def is_below(self, tolerance: float) -> bool:
        """Whether the loss is below ``tolerance`` with a confidence of 95%."""
        return self.loss + _ONE_SIDED * self.loss_error <= tolerance

    def is_above(self, tolerance: float) -> bool:
        """Whether the loss is above ``tolerance`` with a confidence of 95%."""
        return self.loss - _ONE_SIDED * self.loss_error > tolerance


def correct_images_of(run: Run, images: LabelledImages, batch: int) -> npt.NDArray[np.bool_]:
    """Which ``images`` a network of fixed ``batch`` size classifies correctly, (N,)."""
    return correct_images(run, images, images.labels, batch)


class FloatComparison:
    """Compares networks with float32, on as many images as it takes.

    ``float_run``: the network in float32. ``batch``: of it and of the others.
    """

    def __init__(self, float_run: Run, images: LabelledImages, batch: int) -> None:
        self._float_run, self._images, self._batch = float_run, images, batch
        self._float_correct: list[npt.NDArray[np.bool_]] = []  # by part of the images

    def accuracy(self, run: Run, tolerance: float) -> PairedAccuracy:
        """Accuracy of ``run``, on as many images as it takes.

        500 first, and twice as many until the loss is significantly below or above ``tolerance``. The interim looks
        make the error probability of that somewhat larger than 5%.
        """
        correct: list[npt.NDArray[np.bool_]] = []
        count, look = 0, _FIRST_LOOK
        for number, part in enumerate(self._images):
            labels = self._images.labels[count : count + len(part)]
            count += len(part)
            if number == len(self._float_correct):
                self._float_correct.append(classes_in_batches(self._float_run, part, self._batch) == labels)
            correct.append(classes_in_batches(run, part, self._batch) == labels)
            if count >= look:
                found = PairedAccuracy.of(np.concatenate(correct), np.concatenate(self._float_correct[: number + 1]))
                if found.is_below(tolerance) or found.is_above(tolerance):
                    return found
                look *= 2
        return PairedAccuracy.of(np.concatenate(correct), np.concatenate(self._float_correct[: len(correct)]))
