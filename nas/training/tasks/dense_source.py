"""Batches of images with boxes or masks: drawn per seed, epoch and image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.data.dense import AnyDenseData, DenseData, DetectionData
from nas.training.augmentation import normalise
from nas.training.batches import BatchSource, TrainBatch
from nas.training.distributed import ProcessGroup
from nas.training.evaluation import ValBatch
from nas.training.optimization import steps_per_epoch
from nas.training.settings import TrainSettings
from nas.training.streaming.draws import epoch_order
from nas.training.streaming.loader import BatchLoader, BatchRequest, automatic_workers
from nas.training.tasks.square import SquareTransform

if TYPE_CHECKING:
    from nas.training.tasks.detection import Detection
    from nas.training.tasks.detection_source import DetectionSource
    from nas.training.tasks.segmentation import Segmentation
    from nas.training.tasks.segmentation_source import SegmentationSource

_VAL_BATCH: Final = 32
_VAL_CACHE_BYTES: Final = 2**28  # of validation images as networks see them, which are the same in every epoch


def check_train_images(count: int) -> None:
    """Check that batches can be made of ``count`` train images.

    Raises: NasError for a single one.
    """
    if count < 2:
        raise NasError(
            "data.root: there is one train image to use; networks are trained on batches of two or more: add images, "
            "or raise data.subset."
        )


class DenseBatch(NamedTuple):
    """Images as networks see them, and their labels.

    ``pixels``: uint8 (B, 3, H, W). ``targets``: as a task has them.
    """

    pixels: Tensor
    targets: Any


class ValTargets(NamedTuple):
    """Rows of validation images, int64 (B,), and their labels as a task has them."""

    rows: Tensor
    targets: Any


ImagesT = TypeVar("ImagesT", bound=DenseData[Any])
TransformT = TypeVar("TransformT", bound=SquareTransform)


class DenseSource(Generic[ImagesT, TransformT]):
    """Batches of the images of ``data``, for a network of ``resolution_px``.

    The order of an epoch depends on ``seed`` and epoch, the draws of an image on these and its row: wherever in an
    epoch a training goes on, and whatever the number of loader processes, batches are bitwise the same. ``transform``:
    what happens to the images, None for what the settings ask for.
    """

    def __init__(
        self,
        data: ImagesT,
        settings: TrainSettings,
        *,
        resolution_px: int,
        seed: int,
        device: torch.device,
        processes: ProcessGroup | None = None,
        transform: TransformT | None = None,
    ) -> None:
        self.data, self.transform = data, transform or self._transform_of(data, settings, resolution_px)
        self._seed, self._device = seed, device
        self._processes = processes or ProcessGroup()
        self.class_names, self.channels, self.resolution_px = data.class_names, 3, resolution_px
        self.mean, self.std = data.mean, data.std
        self.train_images, self.val_images = len(data.train), len(data.val)
        self.steps = steps_per_epoch(self.train_images, settings.batch_size)
        self._statistics = [torch.tensor(values, device=device).view(1, -1, 1, 1) for values in (data.mean, data.std)]
        workers = getattr(settings, "loader_workers", 0)  # proxies have none
        if workers is None:
            workers = automatic_workers(device, settings.threads, self._processes.size)
        batches = self._batches(data, self.transform, seed)
        self._loader = BatchLoader(cast(Any, batches), workers, pin_memory=device.type == "cuda")
        self._val: list[DenseBatch] = []

    def _transform_of(self, data: ImagesT, settings: TrainSettings, resolution_px: int) -> TransformT:
        """Return the transform that the settings of ``data`` and of a training ask for."""
        raise NotImplementedError

    def _batches(self, data: ImagesT, transform: TransformT, seed: int) -> Dataset[Any]:
        """Return what gives a ``DenseBatch``, or the error of a file, for a request."""
        raise NotImplementedError

    def identity(self) -> list[Any]:
        """Return what the batches depend on beside the settings, as JSON data."""
        return [type(self).__name__, self.data.identity(), self.resolution_px, self._seed, asdict(self.transform)]

    def train_batches(self, epoch: int, first_step: int = 0) -> Iterator[TrainBatch]:
        """Yield this process's share of the batches of ``epoch`` from ``first_step`` on.

        Raises: NasError for an image that cannot be decoded, naming it.
        """
        batches = epoch_order(self.train_images, self._seed, epoch).tensor_split(self.steps)[first_step:]
        shares = [self._processes.share(rows) for rows in batches]
        requests = [BatchRequest(epoch, rows.tolist()) for rows in shares]
        for rows, share, batch in zip(batches, shares, self._load(requests), strict=True):
            yield TrainBatch(share, self._normalised(batch.pixels), batch.targets, len(rows))

    def val_batches(self) -> Iterator[ValBatch]:
        """Yield every n-th batch of the validation images, for n processes.

        Labels are ``ValTargets``.

        Raises: NasError for an image that cannot be decoded, naming it.
        """
        rows = torch.split(torch.arange(self.val_images), _VAL_BATCH)[self._processes.rank :: self._processes.size]
        requests = [BatchRequest.of_validation(one.tolist()) for one in rows]
        is_kept = 3 * self.resolution_px**2 * self.val_images // self._processes.size <= _VAL_CACHE_BYTES
        if is_kept and not self._val:
            self._val = list(self._load(requests))
        for one, batch in zip(rows, self._val if is_kept else self._load(requests), strict=True):
            yield ValBatch(self._normalised(batch.pixels), ValTargets(one, batch.targets))

    def val_inputs(self, rows: Sequence[int]) -> Tensor:
        """Return validation images as networks see them, normalised, float32 (B, 3, H, W)."""
        (batch,) = self._load([BatchRequest.of_validation(list(rows))])
        return self._normalised(batch.pixels)

    def train_inputs(self, rows: Sequence[int]) -> Tensor:
        """Return whole train images, without augmentation, as ``val_inputs`` does."""
        return self._normalised(torch.stack([self.transform.show_whole(self.data.train.image(row)) for row in rows]))

    def state_dict(self) -> Mapping[str, Any]:
        """Return nothing: batches are functions of seed, epoch and step."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore nothing."""

    def _load(self, requests: list[BatchRequest]) -> Iterator[DenseBatch]:
        yield from cast(Iterator[DenseBatch], self._loader.load(requests))

    def _normalised(self, pixels: Tensor) -> Tensor:
        return normalise(pixels.to(self._device, non_blocking=True), *self._statistics)


def make_dense_source(
    data: AnyDenseData,
    settings: TrainSettings,
    *,
    resolution_px: int,
    seed: int,
    device: torch.device,
    processes: ProcessGroup | None = None,
) -> DetectionSource | SegmentationSource:
    """Make the batches of ``data``; arguments as of ``DenseSource``.

    The other task's modules are not loaded.
    """
    given: dict[str, Any] = {"resolution_px": resolution_px, "seed": seed, "device": device, "processes": processes}
    if isinstance(data, DetectionData):
        from nas.training.tasks.detection_source import DetectionSource

        return DetectionSource(data, settings, **given)
    from nas.training.tasks.segmentation_source import SegmentationSource

    return SegmentationSource(data, settings, **given)


def make_dense_task(
    spec: ArchSpec, source: BatchSource, settings: TrainSettings, device: torch.device
) -> Detection | Segmentation:
    """Make the task of the network ``spec`` and of batches of ``make_dense_source``."""
    if spec.task == "detection":
        from nas.training.tasks.detection import Detection

        return Detection(spec, cast("DetectionSource", source), settings, device)
    from nas.training.tasks.segmentation import Segmentation

    return Segmentation(cast("SegmentationSource", source), settings, device)
