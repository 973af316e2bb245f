"""Sources of training batches: their protocol, and images in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from nas.data.images import ImageData
from nas.training.distributed import ProcessGroup
from nas.training.evaluation import ValBatch, augmented_images, val_batches
from nas.training.optimization import steps_per_epoch
from nas.training.settings import TrainSettings


class TrainBatch(NamedTuple):
    """One process's share of a training batch.

    ``rows``: index of each image among the train images, int64 (B,). ``images``: augmented and normalised, float32
    (B, C, H, W). ``targets``: labels, int64 (B,), or probabilities, float32 (B, classes); of other tasks tensors, or
    tuples, lists and dictionaries of tensors. ``total``: images of all shares together.
    """

    rows: Tensor
    images: Tensor
    targets: Any
    total: int


class BatchSource(Protocol):
    """Where a training gets its images from; one source serves one training.

    ``mean`` and ``std`` are per channel, for pixels scaled to [0, 1], and are already applied to the images.
    ``steps``: batches per epoch. Tensors may be on any device; the trainer moves them to its own, applies mixup and the
    memory layout.

    A source decides its random draws by itself: it neither uses nor changes the global random states of torch, numpy
    and ``random`` in the process of the training, for those belong to dropout and mixup.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in label order."""

    @property
    def channels(self) -> int:
        """Channels per image."""

    @property
    def resolution_px(self) -> int:
        """Side of the square images in px."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean per channel by which images are normalised."""

    @property
    def std(self) -> tuple[float, ...]:
        """Deviation per channel by which images are normalised."""

    @property
    def train_images(self) -> int:
        """Number of train images."""

    @property
    def val_images(self) -> int:
        """Number of validation images."""

    @property
    def steps(self) -> int:
        """Batches per epoch."""

    def identity(self) -> list[Any]:
        """Return what the images depend on, as JSON data.

        A checkpoint is resumed only with a source of the same identity.
        """

    def train_batches(self, epoch: int, first_step: int = 0) -> Iterator[TrainBatch]:
        """Yield this process's share of the batches of ``epoch``, counted from 1.

        The batches before ``first_step`` are left out. An epoch begun and left in the middle, then continued at the
        next step by a source with the same ``state_dict``, in another process too, has bitwise the same batches.
        """

    def val_batches(self) -> Iterator[ValBatch]:
        """Yield this process's share of the validation images, always in the same order."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return what changes while batches are drawn, as plain containers and tensors."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a ``state_dict``."""


class LabelledSource(BatchSource, Protocol):
    """A source of images with one label each, for classification."""

    @property
    def train_class_images(self) -> tuple[int, ...]:
        """Number of train images of each class, in label order."""

    @property
    def val_class_images(self) -> tuple[int, ...]:
        """Number of validation images of each class, in label order."""

    @property
    def has_fixed_images(self) -> bool:
        """Whether a train image is the same in every epoch, before mixup."""


class InMemorySource:
    """Batches of images in memory, shifted and flipped on ``device``.

    Every process draws the augmentation of the whole batch and takes its share: random states stay equal.
    """

    def __init__(
        self,
        data: ImageData,
        settings: TrainSettings,
        *,
        seed: int,
        device: torch.device,
        processes: ProcessGroup | None = None,
    ) -> None:
        self._data, self._settings = data.to(device), settings
        self._processes = processes or ProcessGroup()
        self._generator = torch.Generator(device).manual_seed(seed)
        self._before_epoch = self._generator.get_state()
        self.steps = steps_per_epoch(len(data.train_labels), settings.batch_size)
        self.has_fixed_images = not (data.flips or round(settings.shift * data.resolution_px))
        self.class_names, self.channels, self.resolution_px = data.class_names, data.channels, data.resolution_px
        self.mean, self.std = data.mean, data.std
        self.train_class_images = tuple(torch.bincount(data.train_labels, minlength=data.classes).tolist())
        self.val_class_images = data.val_class_images
        self.train_images, self.val_images = len(data.train_labels), len(data.val_labels)

    def identity(self) -> list[Any]:
        """Return the identity of the images, and whether they are flipped."""
        return [*self._data.identity(), self._data.flips]

    def train_batches(self, epoch: int, first_step: int = 0) -> Iterator[TrainBatch]:
        """Yield this process's share of the batches of ``epoch`` from ``first_step`` on.

        With mixup an image too many for pairs in all shares is left out.
        """
        multiple = 2 * self._processes.size if self._settings.mixup or self._settings.cutmix else 1
        for rows in self._order(is_new=first_step == 0).tensor_split(self.steps)[first_step:]:
            rows = rows[: len(rows) // multiple * multiple]
            images = augmented_images(self._data, rows, self._settings, self._generator)
            mine = self._processes.share(rows)
            yield TrainBatch(mine, self._processes.share(images), self._data.train_labels[mine], len(rows))

    def val_batches(self) -> Iterator[ValBatch]:
        """Yield every n-th batch of the validation images, for n processes."""
        return val_batches(self._data, self._processes)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the random generator, now and before the epoch."""
        return {"generator": self._generator.get_state(), "before_epoch": self._before_epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a ``state_dict``."""
        self._generator.set_state(state["generator"])
        self._before_epoch = state["before_epoch"]

    def _order(self, *, is_new: bool) -> Tensor:
        """Draw the order of the train images, int64 (N,).

        Of a new epoch, or once more of the present one.
        """
        now = self._generator.get_state()
        if is_new:
            self._before_epoch = now
        self._generator.set_state(self._before_epoch)
        count, device = len(self._data.train_labels), self._data.train_images.device
        order = torch.randperm(count, generator=self._generator, device=device)
        if not is_new:
            self._generator.set_state(now)
        return order
