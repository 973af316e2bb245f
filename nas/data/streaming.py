"""Image data sets of which every image is decoded when it is needed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nas.core.progress import ProgressCallback
from nas.data.decode import decode_images, open_image
from nas.data.description import DatasetDescription
from nas.data.identical import equal_files_by_size
from nas.data.image_checks import check_constant, check_depth, constant_image, image_notices
from nas.data.image_files import PathTable
from nas.data.images import ImageData, channel_statistics
from nas.data.listing import describe_folder, folder_rows, list_folder
from nas.data.pixel_rules import Colour
from nas.data.sources import DataSettings

Split = Literal["train", "val"]

_SAMPLE: Final = 512  # images of which mean and deviation are computed
_MOST_COMPARED_BYTES: Final = 2_000_000_000  # of files that may be in both splits
_BLACK: Final = (0, 0, 0)


class UndecodedImage(Protocol):
    """An image that may not be decoded yet."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright image in px."""

    def decode(self, least: tuple[int, int]) -> Image.Image:
        """The image as RGB, of at least ``least`` = (width, height) px or its ``size``."""


class ImageSet(Protocol):
    """Classification data set whose images are decoded one by one."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in label order."""

    @property
    def channels(self) -> int:
        """Channels per image."""

    @property
    def resolution_px(self) -> int:
        """Side of the squares that networks see, in px."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean per channel, for pixels scaled to [0, 1]."""

    @property
    def std(self) -> tuple[float, ...]:
        """Deviation per channel, for pixels scaled to [0, 1]."""

    @property
    def flips(self) -> bool:
        """Whether horizontal flips preserve the label."""

    @property
    def train_labels(self) -> Tensor:
        """Labels of the train images, int64 (N,)."""

    @property
    def val_labels(self) -> Tensor:
        """Labels of the validation images, int64 (N,)."""

    @property
    def fit(self) -> str:
        """How images become squares: crop, pad or stretch."""

    @property
    def background(self) -> Colour:
        """Colour of the bars around images that are padded."""

    def open(self, split: Split, row: int) -> AbstractContextManager[UndecodedImage]:
        """Context with the image of a row of a split. Raises: NasError naming its file."""

    def check_row(self, row: int) -> None:
        """Check a train image that may be of one colour. Raises: NasError."""

    def identity(self) -> list[Any]:
        """Return what the images depend on, as JSON data."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageFiles:
    """Classification data set of image files, of which memory holds the paths alone.

    The attributes are those of ``ImageSet`` and ``ImageData``; ``settings``: how files become pixels.
    """

    train_files: PathTable
    train_labels: Tensor
    val_files: PathTable
    val_labels: Tensor
    resolution_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    settings: DataSettings
    description: DatasetDescription
    notices: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """Channels per image."""
        return 3

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in label order."""
        return self.description.class_names

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def flips(self) -> bool:
        """Whether horizontal flips preserve the label."""
        return self.settings.flips

    @property
    def fit(self) -> str:
        """How images become squares."""
        return self.settings.fit

    @property
    def background(self) -> Colour:
        """Colour of the bars around images that are padded."""
        return self.settings.background_colour

    def open(self, split: Split, row: int) -> AbstractContextManager[UndecodedImage]:
        """Context with the image of a row of a split. Raises: NasError naming its file."""
        return open_image(self._files(split)[row], self.settings)

    def check_row(self, row: int) -> None:
        """Check a train image that may be of one colour. Raises: NasError."""
        if self.settings.allow_constant:
            return
        with self.open("train", row) as image:
            pixels = np.asarray(image.decode(image.size))
        if (pixels == pixels[0, 0]).all():
            raise constant_image(str(self.train_files[row]))

    def squares(self, rows: Sequence[int]) -> Tensor:
        """Decode train images of ``rows`` as ``load_images`` does, uint8 (n, 3, H, H)."""
        if not rows:
            return torch.empty(0, 3, self.resolution_px, self.resolution_px, dtype=torch.uint8)
        settings = replace(self.settings, resolution_px=self.resolution_px)
        return decode_images([self.train_files[row] for row in rows], settings, check_size=lambda *_: None)[0]

    def identity(self) -> list[Any]:
        """Return what the images depend on, as JSON data.

        Of the files these are paths and labels.
        """
        labels = [hashlib.sha256(part.numpy().tobytes()).hexdigest() for part in (self.train_labels, self.val_labels)]
        files = [self.train_files.digest(), self.val_files.digest()]
        return [*files, *labels, self.resolution_px, self.mean, self.std, self.settings.identity()]

    def _files(self, split: Split) -> PathTable:
        return self.train_files if split == "train" else self.val_files


class DecodedImages:
    """An image set whose images are in memory, as ``ImageData`` has them."""

    def __init__(self, data: ImageData) -> None:
        self._data = data
        self.class_names, self.channels, self.flips = data.class_names, data.channels, data.flips
        self.resolution_px, self.mean, self.std = data.resolution_px, data.mean, data.std
        self.train_labels, self.val_labels = data.train_labels, data.val_labels
        self.fit, self.background = "crop", _BLACK  # they are squares

    @contextmanager
    def open(self, split: Split, row: int) -> Iterator[UndecodedImage]:
        """Context with the image of a row of a split; grey ones become RGB."""
        images = self._data.train_images if split == "train" else self._data.val_images
        yield _PixelImage(images[row])

    def check_row(self, row: int) -> None:
        """Images in memory were checked when they were loaded."""

    def identity(self) -> list[Any]:
        """Return what the images depend on, as JSON data."""
        return self._data.identity()


class _PixelImage:
    """An image in memory, uint8 (C, H, W) with C 1 or 3."""

    def __init__(self, pixels: Tensor) -> None:
        self._pixels = pixels
        self.size = (pixels.shape[2], pixels.shape[1])

    def decode(self, least: tuple[int, int]) -> Image.Image:
        return Image.fromarray(self._pixels.expand(3, -1, -1).permute(1, 2, 0).numpy(force=True))


def list_images(
    settings: DataSettings,
    resolution_px: int,
    *,
    normalisation: tuple[Sequence[float], Sequence[float]] | None = None,
    on_progress: ProgressCallback | None = None,
) -> ImageFiles:
    """List, split and describe the files of an image folder, to be decoded later.

    Splits and subset are those of ``load_images``. Networks see squares of ``resolution_px``. ``normalisation``: mean
    and deviation per channel, as of pretrained weights; None computes them of 512 train images drawn by
    ``settings.seed``, which gives the mean to about 0.01 of the range of pixels (one standard error, of photographs).
    These images are checked as those of ``load_images`` are, all others when they are decoded.

    Raises: NasError as ``check_data`` does, and for images of the sample as ``load_images`` does.
    """
    listing = list_folder(settings)
    rows = folder_rows(listing, settings)
    train, val = ([listing.files[row] for row in part] for part in (rows.train, rows.val))
    sample = _sample(train, settings.seed)
    mean, std, notices = _sample_statistics(sample, replace(settings, resolution_px=resolution_px), on_progress)
    identical = equal_files_by_size(train, val, _MOST_COMPARED_BYTES)
    looked_at = f"a sample of {len(sample)} of the {len(train)}" if len(sample) < len(train) else f"the {len(train)}"
    notices = tuple(f"among {looked_at} train images: {notice}" for notice in notices)
    if identical is None:
        notices = (
            *notices,
            "it was not checked whether validation images are among the train images, which takes long",
        )
    return ImageFiles(
        train_files=PathTable(train),
        train_labels=torch.from_numpy(listing.labels[rows.train]),
        val_files=PathTable(val),
        val_labels=torch.from_numpy(listing.labels[rows.val]),
        resolution_px=resolution_px,
        mean=mean if normalisation is None else tuple(normalisation[0]),
        std=std if normalisation is None else tuple(normalisation[1]),
        settings=settings,
        description=describe_folder(listing, rows, identical or []),
        notices=notices,
    )


def _sample(files: Sequence[Path], seed: int) -> list[Path]:
    if len(files) <= _SAMPLE:
        return list(files)
    drawn = np.random.RandomState(seed).choice(len(files), _SAMPLE, replace=False)
    return [files[row] for row in np.sort(drawn)]


def _sample_statistics(
    files: Sequence[Path], settings: DataSettings, on_progress: ProgressCallback | None
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[str, ...]]:
    """Check some train images; mean, deviation and what the user should know."""
    images, facts = decode_images(files, settings, check_size=lambda *_: None, on_progress=on_progress)
    check_depth(files, facts)
    check_constant(images, settings, lambda row: str(files[row]))
    return *channel_statistics(images), image_notices(files, facts, settings)
