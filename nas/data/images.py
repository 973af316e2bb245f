"""In-memory image data sets: uint8 tensors with a stratified validation split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nas.core.errors import NasError
from nas.core.progress import ProgressCallback
from nas.data.decode import decode_images
from nas.data.description import DatasetDescription, IdenticalImages
from nas.data.identical import equal_files, equal_images
from nas.data.image_checks import check_constant, check_depth, image_notices
from nas.data.image_files import shown_name
from nas.data.listing import SplitRows, class_counts, describe_folder, folder_rows, list_folder
from nas.data.packaged import PACKAGED_TABLES, existing_table
from nas.data.sources import TORCHVISION_FOLDERS, DataSettings, check_data, existing_root
from nas.data.split import Labels, draw_subset, split_rows

_RESIZE_CHUNK: Final = 4096  # images resized at once: bounds the float copy


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageData:
    """Classification data set in memory.

    Images are uint8 of shape (N, C, H, W) with H = W, labels int64 of shape (N,) with values in [0, classes).
    ``mean`` and ``std`` are per channel, for pixels scaled to [0, 1], computed on the train images only. ``flips``:
    horizontal flips preserve the label. ``description``: where the images come from; None where nobody loaded them.
    ``notices``: what the user should know of how the images were made.

    Raises: NasError for tensors of another dtype or shape, or labels out of range.
    """

    train_images: Tensor
    train_labels: Tensor
    val_images: Tensor
    val_labels: Tensor
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flips: bool
    description: DatasetDescription | None = None
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for split, images, labels in (
            ("train", self.train_images, self.train_labels),
            ("val", self.val_images, self.val_labels),
        ):
            if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[2] != images.shape[3]:
                raise NasError(f"{split}_images: {images.dtype} {tuple(images.shape)} must be uint8 (N, C, H, H).")
            if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
                raise NasError(f"{split}_labels: {labels.dtype} {tuple(labels.shape)} must be int64 ({len(images)},).")
            if len(labels) == 0 or int(labels.min()) < 0 or int(labels.max()) >= self.classes:
                raise NasError(f"{split}_labels: must be numbers from 0 to {self.classes - 1}, and not empty.")
        if self.train_images.shape[1:] != self.val_images.shape[1:]:
            raise NasError(
                f"val_images: {tuple(self.val_images.shape)} must equal the train images' shape "
                f"{tuple(self.train_images.shape)} except for N."
            )
        if not len(self.mean) == len(self.std) == self.channels:
            raise NasError(f"mean, std: {self.mean}, {self.std} must have one value per channel ({self.channels}).")

    @property
    def channels(self) -> int:
        """Channels per image."""
        return int(self.train_images.shape[1])

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def resolution_px(self) -> int:
        """Side of the square images in px."""
        return int(self.train_images.shape[2])

    @property
    def val_class_images(self) -> tuple[int, ...]:
        """Number of validation images of each class, in label order."""
        return tuple(torch.bincount(self.val_labels, minlength=self.classes).tolist())

    def identity(self) -> list[Any]:
        """Return shapes, statistics, classes and a digest of the pixels, as JSON data."""
        digest = hashlib.sha256()
        for part in (self.train_images, self.train_labels, self.val_images, self.val_labels):
            digest.update(part.contiguous().numpy(force=True).data)
        shapes = [list(images.shape) for images in (self.train_images, self.val_images)]
        return [*shapes, self.mean, self.std, self.classes, digest.hexdigest()]

    def resized(self, side_px: int) -> ImageData:
        """Return the data with images resized to (N, C, side_px, side_px), uint8.

        Bilinear and antialiased; returns self if they have this size already.
        """
        if side_px == self.resolution_px:
            return self
        train, val = resize_images(self.train_images, side_px), resize_images(self.val_images, side_px)
        return replace(self, train_images=train, val_images=val)

    def to(self, device: torch.device) -> ImageData:
        """Return the data with all tensors on ``device`` (self if they are already)."""
        if self.train_images.device == device:
            return self
        return replace(
            self,
            train_images=self.train_images.to(device),
            train_labels=self.train_labels.to(device),
            val_images=self.val_images.to(device),
            val_labels=self.val_labels.to(device),
        )


def load_images(settings: DataSettings, *, on_progress: ProgressCallback | None = None) -> ImageData:
    """Load, split, decode and resize the images of ``settings``.

    The split is stratified and determined by ``settings.seed``.

    Raises: NasError as ``check_data`` does, for an image that is corrupt, too large or has values of unknown range
    (naming the file), for train images of one colour, and for data larger than ``settings.max_memory_bytes``.
    """
    if settings.name == "imagefolder":
        return _load_folder(settings, on_progress)
    check_data(settings)
    packaged = settings.name in PACKAGED_TABLES
    images, labels, names = _load_packaged(settings.name) if packaged else _load_torchvision(settings)
    found, val = split_rows(labels, settings.val_fraction, settings.seed)
    train = draw_subset(found, labels, settings.subset, settings.seed)
    side_px = settings.resolution_px or images.shape[-1]
    _check_memory(len(train) + len(val), images.shape[1], side_px, settings.max_memory_bytes)
    description = DatasetDescription(
        name=settings.name,
        path="" if settings.root is None else shown_name(Path(settings.root).expanduser().absolute()),
        classes=class_counts(names, labels[found], labels[train], labels[val]),
        identical=IdenticalImages(count=sum(len(same.val) for same in equal_images(images[train], images[val]))),
    )
    resized = resize_images(images[train], side_px), resize_images(images[val], side_px)
    check_constant(resized[0], settings, lambda row: f"number {train[row]} of {settings.name}")
    return _image_data(resized[0], labels[train], resized[1], labels[val], settings, description)


def _load_packaged(name: str) -> tuple[Tensor, Labels, tuple[str, ...]]:
    """Read the table of data set ``name`` inside its package.

    Returns images uint8 (N, 1, H, H), labels int64 (N,) and class names. Raises: NasError as ``existing_table``, and
    for a damaged table.
    """
    table, path = PACKAGED_TABLES[name], existing_table(name)
    try:
        rows = np.loadtxt(path, delimiter=",", dtype=np.uint8, ndmin=2)
        levels = rows[:, :-1].reshape(-1, 1, table.side_px, table.side_px)
    except (OSError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise NasError(f"{path}: is damaged ({reason}); install {table.distribution} anew.") from error
    grey = np.rint(levels * np.float32(255 / table.white)).astype(np.uint8)
    return torch.from_numpy(grey), rows[:, -1].astype(np.int64), tuple(str(digit) for digit in range(10))


def _load_torchvision(settings: DataSettings) -> tuple[Tensor, Labels, tuple[str, ...]]:
    """Read the train split of a torchvision data set.

    The test split of a benchmark must not be used to select networks. Returns images uint8 (N, C, H, W), labels int64
    (N,) and class names.
    """
    from torchvision import datasets

    reader: Any = {
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
        "fashion_mnist": datasets.FashionMNIST,
    }[settings.name]
    root = existing_root(settings)
    try:  # torchvision verifies the published checksums of CIFAR's files before unpickling them
        raw = reader(root=str(root), train=True, download=False)
    except (RuntimeError, OSError, ValueError, EOFError, AssertionError) as error:
        folder = root / TORCHVISION_FOLDERS[settings.name]
        raise NasError(f"data.root: {folder} is not a complete {settings.name} ({error}); unpack it again.") from error
    pixels = torch.as_tensor(raw.data)
    images = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    return images, np.asarray(raw.targets, dtype=np.int64), tuple(raw.classes)


def _load_folder(settings: DataSettings, on_progress: ProgressCallback | None) -> ImageData:
    listing = list_folder(settings)
    labels, (found, train, val) = listing.labels, folder_rows(listing, settings)
    files = [listing.files[row] for row in np.concatenate([train, val])]
    images, facts = decode_images(
        files,
        settings,
        check_size=lambda count, side_px: _check_memory(count, 3, side_px, settings.max_memory_bytes),
        on_progress=on_progress,
    )
    cut = len(train)
    check_depth(files, facts)
    check_constant(images[:cut], settings, lambda row: str(files[row]))
    pairs = [
        pair
        for same in equal_images(images[:cut], images[cut:])
        for pair in equal_files([files[row] for row in same.train], [files[cut + row] for row in same.val])
    ]
    description = describe_folder(listing, SplitRows(found, train, val), pairs)
    data = _image_data(images[:cut], labels[train], images[cut:], labels[val], settings, description)
    return replace(data, notices=image_notices(files, facts, settings))


def _check_memory(count: int, channels: int, side_px: int, limit_bytes: int) -> None:
    need = count * channels * side_px * side_px
    if need > limit_bytes:
        raise NasError(
            f"data: {count} images of {side_px} px need {need / 1e9:.2f} GB in memory, data.max_memory_bytes allows "
            f"{limit_bytes / 1e9:.2f} GB; lower data.resolution_px or data.subset, or raise the limit."
        )


def resize_images(images: Tensor, side_px: int) -> Tensor:
    """Resize uint8 images (N, C, H, W) to uint8 (N, C, side_px, side_px), in chunks."""
    if images.shape[-1] == side_px:
        return images.contiguous()
    out = torch.empty((*images.shape[:2], side_px, side_px), dtype=torch.uint8)
    for start in range(0, len(images), _RESIZE_CHUNK):
        part = images[start : start + _RESIZE_CHUNK].float()
        part = functional.interpolate(part, (side_px, side_px), mode="bilinear", antialias=True)
        out[start : start + len(part)] = part.round_().clamp_(0, 255).to(torch.uint8)
    return out


def _image_data(
    train: Tensor,
    train_labels: Labels,
    val: Tensor,
    val_labels: Labels,
    settings: DataSettings,
    description: DatasetDescription,
) -> ImageData:
    mean, std = channel_statistics(train)
    return ImageData(
        train_images=train,
        train_labels=torch.from_numpy(train_labels),
        val_images=val,
        val_labels=torch.from_numpy(val_labels),
        class_names=description.class_names,
        mean=mean,
        std=std,
        flips=settings.flips,
        description=description,
    )


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute mean and standard deviation per channel of uint8 images (N, C, H, W).

    Both are tuples of C floats, for pixels scaled to [0, 1]. Exact, from a histogram of the 256 levels. The deviation
    is at least one level (1/255), so that a constant channel does not give zero.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        weight = torch.bincount(images[:, channel].reshape(-1), minlength=256).double()
        weight /= weight.sum()
        mean = float(weight @ levels)
        means.append(mean)
        deviations.append(max(float(weight @ (levels - mean) ** 2) ** 0.5, 1 / 255))
    return tuple(means), tuple(deviations)
