"""Results of a training per epoch and in total, and its errors; without torch."""

from __future__ import annotations

from dataclasses import dataclass

from nas.core.errors import NasError


class TrainingError(NasError):
    """A training without a score, caused by its network or settings.

    The message gives the reason, such as a loss that is not finite.
    """


class OutOfMemoryError(TrainingError):
    """A training that needs more memory than is available."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Top-1 accuracy in [0, 1] and mean cross entropy (nats) on the validation images.

    ``class_correct``: the number of images classified correctly, by class in label order.
    """

    accuracy: float
    loss: float
    class_correct: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochResult:
    """Result of one epoch, counted from 1.

    ``accuracy`` is top-1 in [0, 1] and ``val_loss`` in nats, on the validation images. ``train_loss`` is the mean of
    the steps, with label smoothing and mixup. ``duration_s`` is wall time, ``cpu_s`` CPU time of all threads, both
    including validation. ``class_correct``: validation images classified correctly, by class in label order.
    """

    epoch: int
    accuracy: float
    val_loss: float
    train_loss: float
    duration_s: float
    cpu_s: float
    class_correct: tuple[int, ...] = ()


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
        """Top-1 accuracy after the last epoch, in [0, 1], by which trials are compared.

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
