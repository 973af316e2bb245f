"""What a training needs to know of its task: the loss, and the validation score."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor

from nas.training.distributed import ProcessGroup
from nas.training.evaluation import ValBatch
from nas.training.results import Score


class Task(Protocol):
    """Loss and score of what a network is trained for.

    A task serves one training, whose settings, images and device it is made for. Neither of its methods uses or changes
    the global random states, except ``prepare``, whose draws may come from those of torch and numpy: they are saved
    with the training.

    Example of a task whose network returns one number per image: ``prepare`` returns what it gets, ``loss`` is
    ``functional.mse_loss(outputs, targets)``, and ``score`` one minus the relative error.
    """

    @property
    def name(self) -> str:
        """Name of the task, as ``ArchSpec.task``."""

    @property
    def metric(self) -> str:
        """Name of the main score: accuracy, map, miou."""

    def prepare(self, images: Tensor, targets: Any) -> tuple[Tensor, Any]:
        """Return a batch as the network is trained on it, on the device of the training.

        ``images``: float32 (B, C, H, W). ``targets``: what the source of batches gives, a tensor or tuples, lists and
        dictionaries of tensors. Mixup happens here.
        """

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """Return the loss of a batch, ().

        ``outputs``: of the network, a tensor or a tuple of them, under autocast. ``targets``: as ``prepare`` gives
        them. Shares of several processes are weighted by their images: they add up to the loss of the whole batch if it
        is a mean over images, and nearly so if it is one over boxes or pixels.
        """

    def score(
        self, model: Callable[[Tensor], Any], batches: Iterable[ValBatch], processes: ProcessGroup | None = None
    ) -> Score:
        """Score ``model`` on validation batches.

        It is in evaluation mode; the ``batches`` are those of this process, of ``processes``.

        ``Score.accuracy`` is the main score in [0, 1], by which epochs and trials are compared.
        """

    def constant_score(self) -> float:
        """Return the main score of the best output that is the same for every image.

        On the validation images; a network that learned anything is above it.
        """


def moved(targets: Any, device: torch.device) -> Any:
    """Return ``targets`` on ``device``.

    A tensor, or tuples, lists and dictionaries of tensors.
    """
    if isinstance(targets, Tensor):
        return targets.to(device)
    if isinstance(targets, dict):
        return {name: moved(value, device) for name, value in targets.items()}
    if isinstance(targets, tuple) and hasattr(targets, "_fields"):
        return type(targets)(*(moved(value, device) for value in targets))
    if isinstance(targets, tuple | list):
        return type(targets)(moved(value, device) for value in targets)
    return targets
