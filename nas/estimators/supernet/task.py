"""What a supernet needs of a task: batches, losses and scores, for any network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from nas.arch.spec import ArchSpec
from nas.data.images import ImageData
from nas.estimators.proxy.evaluator import TaskData
from nas.estimators.supernet.network import Outputs
from nas.training.distributed import ProcessGroup
from nas.training.results import Score
from nas.training.settings import TrainSettings


class SupernetBatch(NamedTuple):
    """A process's share of a batch at one resolution.

    ``images``: augmented and normalised, float32 (B, C, H, W). ``targets``: as the losses of the task take them.
    ``weight``: the share's part of the batch.
    """

    images: Tensor
    targets: Any
    weight: float


class SupernetTask(Protocol):
    """Batches, losses and scores of networks that share weights.

    It serves one training or one scorer, whose settings and device it is made for. All networks of a step see the same
    images, each at its own resolution.
    """

    @property
    def train_images(self) -> int:
        """Number of train images."""

    @property
    def steps(self) -> int:
        """Batches per epoch."""

    def start_epoch(self, epoch: int, generator: torch.Generator) -> None:
        """Order the train images for ``epoch``, counted from 0.

        ``generator``: that of the training, on its device.
        """

    def batch(self, index: int, spec: ArchSpec) -> SupernetBatch:
        """Return batch ``index`` of the present epoch as ``spec`` sees it.

        Networks of one resolution get the same batch, so that it is asked for once.
        """

    def loss(self, spec: ArchSpec, outputs: Any, targets: Any) -> Tensor:
        """Return the loss of the outputs of ``spec`` with the labels, ()."""

    def soft_targets(self, outputs: Any) -> Tensor | None:
        """Return what other networks learn from the outputs of a teacher.

        None for a task without: they learn from the labels.
        """

    def soft_loss(self, outputs: Any, targets: Any, soft_targets: Tensor) -> Tensor:
        """Return the loss of outputs with those of a teacher, ()."""

    def statistics_images(self, side_px: int, rows: Tensor) -> Tensor:
        """Return the train images of ``rows``, int64 (B,), normalised and not augmented.

        float32 (B, C, H, W) on the device.
        """

    def score(self, spec: ArchSpec, outputs_of: Callable[[Tensor], Outputs]) -> Score:
        """Score a function of normalised images on the validation images.

        ``outputs_of``: from (B, C, H, W), as ``spec`` sees them, to the outputs of ``spec``.
        """

    def loss_of(self, spec: ArchSpec, outputs_of: Callable[[Tensor], Outputs]) -> float:
        """Return the loss of ``score`` alone."""


def make_supernet_task(
    data: TaskData,
    settings: TrainSettings,
    *,
    seed: int,
    device: torch.device,
    processes: ProcessGroup | None = None,
) -> SupernetTask:
    """Create the task of ``data``; ``processes`` share its batches.

    The other tasks' modules are not loaded.
    """
    processes = processes or ProcessGroup()
    if isinstance(data, ImageData):
        from nas.estimators.supernet.classification import ClassificationSupernet

        return ClassificationSupernet(data, settings, device=device, processes=processes)
    from nas.estimators.supernet.dense import DenseSupernet

    return DenseSupernet(data, settings, seed=seed, device=device, processes=processes)
