"""Accuracy of a quantised network beside float32's, on the same images."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from nas.core.statistics import binomial_error, paired_difference_error
from nas.exporters.check import FileScore, classes_in_batches, correct_images
from nas.exporters.formats import ImageBatch, Run

_FIRST_LOOK: Final = 500  # images
_ONE_SIDED: Final = 1.645  # standard normal deviate of a one-sided 95% bound


@runtime_checkable
class LabelledImages(Protocol):
    """Normalised images in parts, float32 (n, C, H, W), with a label for each of all."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Classes (N,)."""

    def __iter__(self) -> Iterator[ImageBatch]: ...


class ScoredImages(Protocol):
    """Images with boxes or masks, by which detectors or segmenters are scored."""

    def __len__(self) -> int: ...

    def score(self, run: Run, batch: int, count: int) -> FileScore:
        """Score a network of fixed ``batch`` size on the first ``count`` images."""


class PairedScore(ABC):
    """Score of a network beside that of its float32 form, on the same images."""

    __slots__ = ()
    images: int

    @property
    @abstractmethod
    def metric_name(self) -> str:
        """Name of the score in texts."""

    @property
    @abstractmethod
    def accuracy(self) -> float:
        """Score of the network in [0, 1]."""

    @property
    @abstractmethod
    def standard_error(self) -> float | None:
        """Standard error of ``accuracy``, None where it is not known."""

    @property
    @abstractmethod
    def loss(self) -> float:
        """Score of float32 minus that of the network."""

    @property
    @abstractmethod
    def loss_error(self) -> float:
        """Standard error of ``loss``, infinite where it is not known."""

    def is_below(self, tolerance: float) -> bool:
        """Whether the loss is below ``tolerance`` with a confidence of 95%."""
        return self.loss + _ONE_SIDED * self.loss_error <= tolerance

    def is_above(self, tolerance: float) -> bool:
        """Whether the loss is above ``tolerance`` with a confidence of 95%."""
        return self.loss - _ONE_SIDED * self.loss_error > tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedAccuracy(PairedScore):
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
    def metric_name(self) -> str:
        """Name of the score."""
        return "accuracy"

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedFileScore(PairedScore):
    """Scores of a detector or segmenter and of its float32 form.

    On the same ``images``.
    """

    images: int
    score: FileScore
    float_score: FileScore

    @property
    def metric_name(self) -> str:
        """Name of the score: AP, mIoU."""
        return self.score.metric_name

    @property
    def accuracy(self) -> float:
        """Score of the network in [0, 1]."""
        return self.score.accuracy

    @property
    def standard_error(self) -> float | None:
        """Standard error of ``accuracy``, None where it is not known."""
        return self.score.standard_error

    @property
    def loss(self) -> float:
        """Score of float32 minus that of the network."""
        return self.float_score.accuracy - self.score.accuracy

    @property
    def loss_error(self) -> float:
        """Standard error of ``loss`` by the jackknife, infinite where it is not known."""
        of_both = self.score.deviations, self.float_score.deviations
        return math.dist(*of_both) if all(of_both) else math.inf


def correct_images_of(run: Run, images: LabelledImages, batch: int) -> npt.NDArray[np.bool_]:
    """Which ``images`` a network of fixed ``batch`` size classifies correctly, (N,)."""
    return correct_images(run, images, images.labels, batch)


class Comparison(Protocol):
    """Compares networks with float32, on as many images as it takes."""

    def accuracy(self, run: Run, tolerance: float) -> PairedScore:
        """Score of ``run`` beside float32's.

        On 500 images first, and on twice as many until the loss is significantly below or above ``tolerance``. The
        interim looks make the error probability of that somewhat larger than 5%.
        """


def comparison_of(float_run: Run, images: LabelledImages | ScoredImages, batch: int) -> Comparison:
    """Return the comparison of networks by ``images``.

    ``float_run``: the network in float32. ``batch``: of it and of the others.
    """
    if isinstance(images, LabelledImages):
        return FloatComparison(float_run, images, batch)
    return ScoreComparison(float_run, images, batch)


class FloatComparison:
    """Compares classifiers with float32, image by image.

    ``float_run``: the network in float32. ``batch``: of it and of the others.
    """

    def __init__(self, float_run: Run, images: LabelledImages, batch: int) -> None:
        self._float_run, self._images, self._batch = float_run, images, batch
        self._float_correct: list[npt.NDArray[np.bool_]] = []  # by part of the images

    def accuracy(self, run: Run, tolerance: float) -> PairedAccuracy:
        """Accuracy of ``run``, as of ``Comparison``."""
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


class ScoreComparison:
    """Compares detectors or segmenters with float32 by their score.

    ``float_run``: the network in float32. ``batch``: of it and of the others.
    """

    def __init__(self, float_run: Run, images: ScoredImages, batch: int) -> None:
        self._float_run, self._images, self._batch = float_run, images, batch
        self._float_scores: dict[int, FileScore] = {}  # by number of images

    def accuracy(self, run: Run, tolerance: float) -> PairedFileScore:
        """Score of ``run``, as of ``Comparison``."""
        look = _FIRST_LOOK
        while True:
            count = min(look, len(self._images))
            if count not in self._float_scores:
                self._float_scores[count] = self._images.score(self._float_run, self._batch, count)
            score = self._images.score(run, self._batch, count)
            found = PairedFileScore(images=count, score=score, float_score=self._float_scores[count])
            if count == len(self._images) or found.is_below(tolerance) or found.is_above(tolerance):
                return found
            look *= 2
