"""Images that are in both the train and the validation split."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor


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


def equal_files(train: Sequence[Path], val: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Pair each file of ``val`` with one of ``train`` of the same bytes, if there is."""
    by_content = {_file_digest(path): path for path in reversed(train)}
    pairs = [(by_content.get(_file_digest(path)), path) for path in val]
    return [(first, second) for first, second in pairs if first is not None]


def _digest(image: Tensor) -> bytes:
    return hashlib.blake2b(image.contiguous().numpy().data, digest_size=16).digest()


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
