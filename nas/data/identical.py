"""Images that are in both the train and the validation split."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

ImageT = TypeVar("ImageT")


class EqualImages(NamedTuple):
    """Rows of the train and of the validation images that have equal pixels."""

    train: list[int]
    val: list[int]


def equal_images(train: Tensor, val: Tensor) -> list[EqualImages]:
    """Group the images that are in both splits, by their pixels.

    Both are uint8 (N, C, H, W) of the same C, H and W.
    """
    groups: dict[bytes, EqualImages] = defaultdict(lambda: EqualImages([], []))
    for row in range(len(val)):
        groups[_digest(val[row])].val.append(row)
    for row in range(len(train)):
        digest = _digest(train[row])
        if digest in groups:
            groups[digest].train.append(row)
    return [group for group in groups.values() if group.train]


def equal_files_by_size(train: Sequence[Path], val: Sequence[Path], most_bytes: int) -> list[tuple[Path, Path]] | None:
    """``equal_files`` of those whose size is that of a file in the other split.

    None if these are larger than ``most_bytes`` together, so that reading them would take long.
    """
    train_sizes, val_sizes = ([_size(path) for path in paths] for paths in (train, val))
    common = set(train_sizes) & set(val_sizes) - {None}
    if sum(size for size in (*train_sizes, *val_sizes) if size in common and size is not None) > most_bytes:
        return None
    return equal_files(
        [path for path, size in zip(train, train_sizes, strict=True) if size in common],
        [path for path, size in zip(val, val_sizes, strict=True) if size in common],
    )


def equal_files(train: Sequence[Path], val: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Pair each file of ``val`` with one of ``train`` of the same bytes, if there is."""
    return [(train[first], val[second]) for first, second in _equal_rows(train, val, _file_digest)]


def equal_arrays(train: Sequence[NDArray[np.uint8]], val: Sequence[NDArray[np.uint8]]) -> list[tuple[int, int]]:
    """Pair images of ``val`` with those of ``train`` that have the same pixels.

    Rows of both; a pair for each image of ``val`` that is in ``train``.
    """
    return _equal_rows(train, val, _array_digest)


def _equal_rows(
    train: Sequence[ImageT], val: Sequence[ImageT], digest: Callable[[ImageT], bytes]
) -> list[tuple[int, int]]:
    """Pair rows of equal digests: each one of ``val`` with the first of ``train``."""
    by_content = {digest(one): row for row, one in reversed(list(enumerate(train)))}
    pairs = [(by_content.get(digest(one)), row) for row, one in enumerate(val)]
    return [(first, second) for first, second in pairs if first is not None]


def _array_digest(image: NDArray[np.uint8]) -> bytes:
    return repr(image.shape).encode() + hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()


def _digest(image: Tensor) -> bytes:
    return hashlib.blake2b(image.contiguous().numpy().data, digest_size=16).digest()


def _size(path: Path) -> int | None:
    """Size in bytes; None if unknown, which is an error once the file is decoded."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
