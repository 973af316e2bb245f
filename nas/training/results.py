"""Results of a training per epoch and in total, and its errors; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nas.core.errors import NasError
from nas.core.statistics import binomial_error


class TrainingError(NasError):
    """A training without a score, caused by its network or settings.

    The message gives the reason, such as a loss that is not finite.
    """


class OutOfMemoryError(TrainingError):
    """A training that needs more memory than is available."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Main score of a task in [0, 1] and mean loss on the validation images.

    ``accuracy``: top-1 accuracy of classification, COCO's AP of detection, mIoU of segmentation. ``loss``: cross
    entropy in nats, or the task's. ``class_correct``: of classification, the number of images classified correctly, by
    class in label order. ``metrics``: further figures of the task by name. ``standard_error``: of ``accuracy``; None:
    of classification the binomial one of the number of images, else not known. ``class_scores`` and ``class_errors``:
    the task's score of each class (AP, IoU) with its standard error, in label order, None where a class has no object
    or pixel; empty for classification. ``deviations``: of ``accuracy`` by groups of images, whose squares add up to
    that of ``standard_error`` (``nas.training.tasks.jackknife``).
    """

    accuracy: float
    loss: float
    class_correct: tuple[int, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    standard_error: float | None = None
    class_scores: tuple[float | None, ...] = ()
    class_errors: tuple[float | None, ...] = ()
    deviations: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochResult:
    """Result of one epoch, counted from 1.

    ``accuracy`` is the task's main score in [0, 1] (top-1, AP or mIoU) and ``val_loss`` in nats, on the validation
    images. ``train_loss`` is the mean of the steps, with label smoothing and mixup. ``duration_s`` is wall time,
    ``cpu_s`` CPU time of all threads, both including validation. The other fields are those of ``Score``; checkpoints
    of older versions lack all but ``class_correct``.
    """

    epoch: int
    accuracy: float
    val_loss: float
    train_loss: float
    duration_s: float
    cpu_s: float
    class_correct: tuple[int, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    standard_error: float | None = None
    class_scores: tuple[float | None, ...] = ()
    class_errors: tuple[float | None, ...] = ()

    def error_of(self, images: int) -> float | None:
        """Standard error of ``accuracy``; None where a task cannot tell it.

        Of classification the binomial one of ``images`` validation images.
        """
        if self.standard_error is None and not self.class_scores:
            return binomial_error(self.accuracy, images)
        return self.standard_error


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """Result of a complete training.

    ``duration_s`` is wall time, ``cpu_s`` CPU time of all threads, both including validation. ``images_per_s`` counts
    train images per wall second of training steps, ``images_per_cpu_s`` per CPU-second of them.
    """

    epochs: tuple[EpochResult, ...]
    duration_s: float
    cpu_s: float
    images_per_s: float
    images_per_cpu_s: float

    @property
    def accuracy(self) -> float:
        """Main score after the last epoch, in [0, 1], by which trials are compared.

        The best epoch would be biased upwards by noise.
        """
        return self.epochs[-1].accuracy

    @property
    def class_correct(self) -> tuple[int, ...]:
        """Validation images classified correctly after the last epoch, by class."""
        return self.epochs[-1].class_correct

    @property
    def loss(self) -> float:
        """Validation loss after the last epoch, in nats."""
        return self.epochs[-1].val_loss
