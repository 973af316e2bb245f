"""Images of an export, prepared as in the training of its network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from nas.core.errors import NasError
from nas.data.decode import open_image, silent_pillow
from nas.data.image_files import shown_name
from nas.data.images import load_images, resize_images
from nas.data.listing import folder_rows, list_folder
from nas.data.sources import DataSettings
from nas.data.streaming import Split
from nas.exporters.deployment.network import ExportedNetwork
from nas.exporters.deployment.preprocessing import Preprocessing
from nas.exporters.formats import ImageBatch

_AT_ONCE: Final = 64  # images that are in memory together
_TRAIN_IMAGES: Final = 4000  # that are loaded beside those of validation, of data sets that come as one


class _SplitImages:
    """Images of one split of a data set: all of them, normalised.

    ``labels``: int64 (N,), by the classes of the network. They are decoded whenever they are iterated over.

    Raises: NasError as ``check_data``, and for images that do not fit the network's classes or channels.
    """

    def __init__(self, settings: DataSettings, network: ExportedNetwork, split: Split) -> None:
        self._steps = network.preprocessing
        self._images: _Files | _Pixels = (
            _Files(settings, self._steps, split)
            if settings.name == "imagefolder"
            else _Pixels(settings, self._steps, split)
        )
        channels = self._images.channels
        if self._steps.channels > channels or (self._steps.channels != 1 and channels == 1):
            raise NasError(
                f"data {settings.name}: the images have {channels} channels, the network takes "
                f"{self._steps.channels}; choose the images that it was trained on."
            )
        rows = _class_rows(self._images.class_names, network)
        self.labels = rows[self._images.labels]
        self.name = settings.name

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[ImageBatch]:
        """Yield the images in order, float32 (n, C, H, W) with n at most 64."""
        for start in range(0, len(self), _AT_ONCE):
            yield self._steps.normalised(self._images.pixels(range(start, min(start + _AT_ONCE, len(self)))))

    def part(self, rows: Sequence[int]) -> PreparedImages:
        """Return the images of ``rows``, which are decoded when they are first used."""
        return PreparedImages(self, rows)

    def decoded(self, rows: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Return the pixels of ``rows``, uint8 (n, C, H, W)."""
        return self._images.pixels(rows)

    def normalised(self, pixels: npt.NDArray[np.uint8]) -> ImageBatch:
        """Return pixels (n, C, H, W) as the network's input, float32."""
        return self._steps.normalised(pixels)

    def sample(self, count: int) -> ImageBatch:
        """Return ``count`` images, evenly spaced; all, if there are fewer."""
        rows = np.linspace(0, len(self) - 1, min(count, len(self))).astype(int)
        return self._steps.normalised(self._images.pixels(rows.tolist()))


class ValidationImages(_SplitImages):
    """Validation images of a data set: all of its split, normalised."""

    def __init__(self, settings: DataSettings, network: ExportedNetwork) -> None:
        super().__init__(settings, network, "val")


class TrainImages(_SplitImages):
    """Train images of a data set, prepared as validation images.

    Without augmentation. Of a data set that is loaded as a whole at most 4,000.
    """

    def __init__(self, settings: DataSettings, network: ExportedNetwork) -> None:
        super().__init__(settings, network, "train")


class PreparedImages:
    """Some images of a split, kept in memory as uint8 once they were decoded.

    ``labels``: int64 (N,).
    """

    def __init__(self, images: _SplitImages, rows: Sequence[int]) -> None:
        self._images, self._rows = images, rows
        self._parts: list[npt.NDArray[np.uint8]] = []
        self.labels = images.labels[np.asarray(rows, dtype=int)]

    def __iter__(self) -> Iterator[ImageBatch]:
        """Yield the images in order, normalised, float32 (n, C, H, W) with n at most 64."""
        for number, start in enumerate(range(0, len(self._rows), _AT_ONCE)):
            if number == len(self._parts):
                self._parts.append(self._images.decoded(self._rows[start : start + _AT_ONCE]))
            yield self._images.normalised(self._parts[number])


class _Files:
    """Images of an image folder, decoded one by one."""

    channels: Final = 3

    def __init__(self, settings: DataSettings, steps: Preprocessing, split: Split) -> None:
        listing = list_folder(settings)
        found = folder_rows(listing, replace(settings, subset=None))
        rows = found.val if split == "val" else found.train
        self._files: Sequence[Path] = [listing.files[row] for row in rows]
        self._settings, self._steps = settings, steps
        self.labels = listing.labels[rows]
        self.class_names = tuple(map(shown_name, listing.splits.class_names))

    def pixels(self, rows: Sequence[int]) -> npt.NDArray[np.uint8]:
        least = (self._steps.whole_px, self._steps.whole_px)
        found = []
        with silent_pillow():
            for row in rows:
                with open_image(self._files[row], self._settings) as image:
                    found.append(self._steps.pixels(image.decode(least)))
        return np.stack(found)


class _Pixels:
    """Images of a data set that is loaded as a whole."""

    def __init__(self, settings: DataSettings, steps: Preprocessing, split: Split) -> None:
        data = load_images(replace(settings, subset=_TRAIN_IMAGES))
        self._images = data.val_images if split == "val" else data.train_images
        self._steps = steps
        self.labels = (data.val_labels if split == "val" else data.train_labels).numpy()
        self.class_names, self.channels = data.class_names, data.channels

    def pixels(self, rows: Sequence[int]) -> npt.NDArray[np.uint8]:
        resized = resize_images(self._images[list(rows)], self._steps.resolution_px)
        if self._steps.crop_pct == 1:
            return resized[:, : self._steps.channels].numpy()
        rgb = resized.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
        return np.stack([self._steps.pixels(Image.fromarray(image)) for image in rgb])


def _class_rows(names: Sequence[str], network: ExportedNetwork) -> npt.NDArray[np.int64]:
    """Class of the network of each class of the images, int64 (classes,).

    Raises: NasError if they do not fit.
    """
    if not network.class_names:
        if len(names) != network.arch.classes:
            raise NasError(
                f"data: the images have {len(names)} classes, the network {network.arch.classes}; choose the images "
                "that it was trained on."
            )
        return np.arange(len(names))
    row_of = {name: row for row, name in enumerate(network.class_names)}
    missing = [name for name in names if name not in row_of]
    if missing:
        raise NasError(
            f"data: among the {len(row_of)} classes of the network is no {missing[0]!r}; choose the images that it was "
            "trained on."
        )
    return np.array([row_of[name] for name in names], dtype=np.int64)
