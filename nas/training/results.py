"""What a proxy training leaves behind: figures per epoch and for the whole, without torch."""

from __future__ import annotations

from dataclasses import dataclass

from nas.core.errors import NasError


class TrainingError(NasError):
    """A training that cannot be scored, with the reason: its network or settings are at fault, not the program."""


class OutOfMemoryError(TrainingError):
    """A training that needs more memory than there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Top-1 accuracy in [0, 1] and mean cross entropy (nats) on the validation images."""

    accuracy: float
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochResult:
    """One epoch, counted from 1. ``train_loss`` is the mean of its steps (with smoothing and mixing)."""

    epoch: int
    accuracy: float
    val_loss: float
    train_loss: float
    duration_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """A whole training. ``duration_s`` is wall time, ``cpu_s`` CPU time of all threads, scoring included in both.

    ``images_per_s`` counts train images per second of training alone (wall), ``images_per_cpu_s`` per CPU-second.
    """

    epochs: tuple[EpochResult, ...]
    duration_s: float
    cpu_s: float
    images_per_s: float
    images_per_cpu_s: float

    @property
    def accuracy(self) -> float:
        """Accuracy after the last epoch, in [0, 1]: what trials are compared on (the best epoch flatters noise)."""
        return self.epochs[-1].accuracy

    @property
    def loss(self) -> float:
        """Validation loss after the last epoch, in nats."""
        return self.epochs[-1].val_loss
