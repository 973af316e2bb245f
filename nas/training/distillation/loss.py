"""Loss of a student that learns from labels and from its teacher's outputs."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor
from torch.nn import functional

from nas.training.distillation.settings import DistillationSettings


class Teacher(Protocol):
    """What a student learns from."""

    def identity(self) -> list[Any]:
        """Return what the outputs depend on, as JSON data.

        A checkpoint is resumed only with a teacher of the same identity.
        """

    def targets(self, rows: Tensor, images: Tensor) -> Tensor:
        """Return the logits of ``images``, float32 (B, classes), without gradients.

        ``rows``: index of each image among the train images, int64 (B,). ``images``: as the student sees them, float32
        (B, C, H, W). Random states stay as they are.
        """


class Distillation:
    """Loss of a student with ``teacher``."""

    def __init__(self, teacher: Teacher, settings: DistillationSettings) -> None:
        self._teacher, self._settings = teacher, settings

    def identity(self) -> list[Any]:
        """Return what the loss depends on, as JSON data."""
        return ["distillation", self._settings.temperature, self._settings.share, *self._teacher.identity()]

    def loss(self, label_loss: Tensor, logits: Tensor, rows: Tensor, images: Tensor) -> Tensor:
        """Add the loss of soft targets to that of the labels, both ().

        (1 - share) * ``label_loss`` + share * ``soft_target_loss``. ``logits``: of the student, (B, classes).
        """
        share = self._settings.share
        soft = soft_target_loss(logits, self._teacher.targets(rows, images), self._settings.temperature)
        return (1 - share) * label_loss + share * soft


def soft_target_loss(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(targets / T) || softmax(logits / T)), mean over the batch, ().

    T^2 keeps the size of the gradients, which shrink as 1/T^2 (arXiv:1503.02531, section 2). Both are logits
    (B, classes).
    """
    student = functional.log_softmax(logits.float() / temperature, dim=1)
    teacher = functional.log_softmax(targets / temperature, dim=1)
    return temperature**2 * functional.kl_div(student, teacher, reduction="batchmean", log_target=True)
