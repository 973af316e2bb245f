"""Masks of images: read as numbers, counted, turned into class indices."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nas.core.errors import NasError
from nas.core.progress import ProgressCallback
from nas.data.decode import silent_pillow, stored_values
from nas.data.dense.checks import is_same_shape
from nas.data.dense.classes import VALUES
from nas.data.dense.pixels import Size, each, reason_of
from nas.data.dense.problems import LabelProblems
from nas.data.image_files import shown_name

Mask = NDArray[np.uint8]  # (H, W)
_LOSSY: Final = ("JPEG", "MPO")


class RawMask(NamedTuple):
    """A mask as stored: number of pixels by value, size, hash.

    ``pixels`` is None if they are not held.
    """

    counts: dict[int, int]
    size: Size
    digest: bytes
    pixels: NDArray[Any] | None


def read_masks(
    masks: Sequence[Path | Mask],
    names: Sequence[str],
    most_bytes: int,
    problems: LabelProblems,
    on_progress: ProgressCallback | None,
) -> list[RawMask | None]:
    """Read all masks, files or arrays (H, W); None for those that are faulty.

    Faults are added to ``problems``. Pixels are held until they take ``most_bytes``. ``names``: of the images.
    """
    held = 0

    def read(mask: Path | Mask) -> RawMask | tuple[str, str]:
        return _raw(mask) if isinstance(mask, np.ndarray) else _read_file(mask)

    found: list[RawMask | None] = []
    with silent_pillow():
        for name, mask in zip(names, each(read, masks, on_progress), strict=True):
            if not isinstance(mask, RawMask):
                problems.add(mask[0], mask[1] or name)
                found.append(None)
                continue
            held += 0 if mask.pixels is None else mask.pixels.nbytes
            found.append(mask if held <= most_bytes else mask._replace(pixels=None))
    return found


class MaskStore:
    """Masks of a split, as class indices at the size of their image.

    ``sources``: the pixels as stored, or files to decode at each access; ``index_of`` (65536,): class of each value.
    """

    def __init__(
        self, sources: Sequence[NDArray[Any] | Path], sizes: Sequence[Size], index_of: NDArray[np.uint8]
    ) -> None:
        self._index_of, self._sizes = index_of, sizes
        self._masks = [
            self._indices(one, size) if isinstance(one, np.ndarray) else one
            for one, size in zip(sources, sizes, strict=True)
        ]

    def subset(self, rows: Sequence[int]) -> MaskStore:
        """Return the store of some of its masks, which are not copied."""
        found = copy.copy(self)
        found._masks, found._sizes = [self._masks[row] for row in rows], [self._sizes[row] for row in rows]
        return found

    def mask(self, row: int) -> Mask:
        """Class indices of an image, uint8 (H, W).

        Raises: NasError naming a file that was changed or removed.
        """
        mask = self._masks[row]
        if isinstance(mask, np.ndarray):
            return mask
        values = mask_values(stored_values(mask)[0])
        if values is None:
            raise NasError(f"data.root: {mask} has changed since the data was loaded; leave the files as they are.")
        return self._indices(values, self._sizes[row])

    def _indices(self, values: NDArray[Any], size: Size) -> Mask:
        return resized_mask(self._index_of[values], size)


def resized_mask(mask: Mask, size: Size) -> Mask:
    """``mask`` (H, W) at ``size`` (width, height), by the nearest pixel."""
    if mask.shape == (size[1], size[0]):
        return mask
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))


def fits_image(mask: RawMask, size: Size, place: str, problems: LabelProblems) -> bool:
    """Whether a mask has the ``size`` of its image, or its shape."""
    if mask.size == size:
        return True
    problems.add("mask_size", f"{place} ({mask.size[0]}x{mask.size[1]}, the image {size[0]}x{size[1]})")
    return is_same_shape(mask.size, size)


def mask_values(values: NDArray[Any]) -> NDArray[Any] | None:
    """Values of a mask as uint8 or uint16 (H, W); None for colours.

    Values beyond 16 bits become 65535. Grey pixels stored as RGB, and an alpha channel, are not colours.
    """
    if values.ndim == 3:
        grey = values[..., 0]
        if values.shape[2] > 2 and not (values[..., :3] == grey[..., None]).all():
            return None
        values = grey
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    whole = np.nan_to_num(values, nan=VALUES - 1).clip(0, VALUES - 1)
    return np.where((values < 0) | (whole % 1 != 0), VALUES - 1, whole).astype(np.uint16)


def _read_file(file: Path) -> RawMask | tuple[str, str]:
    """A mask, or the kind of its fault and the place."""
    try:
        stored, kind = stored_values(file)
    except NasError as error:
        return "label_unreadable", reason_of(error)
    if kind in _LOSSY:
        return "mask_lossy", shown_name(file)
    values = mask_values(stored)
    return ("mask_colour", shown_name(file)) if values is None else _raw(values)


def _raw(values: NDArray[Any]) -> RawMask:
    counts = np.bincount(values.reshape(-1))
    present = np.flatnonzero(counts)
    return RawMask(
        counts=dict(zip(present.tolist(), counts[present].tolist(), strict=True)),
        size=(values.shape[1], values.shape[0]),
        digest=hashlib.blake2b(np.ascontiguousarray(values).data, digest_size=16).digest(),
        pixels=values,
    )
