"""Files below a folder of images: those that are read, and why others are not.

Imports no image library.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final, NamedTuple, overload

# What Pillow decodes in every build, by the names that cameras, browsers and data sets give such files.
IMAGE_SUFFIXES: Final = frozenset(
    {
        ".apng", ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm",
        ".tga", ".tif", ".tiff", ".webp",
    }
)  # fmt: skip
_SYSTEM_FOLDERS: Final = frozenset({"__MACOSX", "@eaDir"})  # of macOS archives and Synology devices

HIDDEN: Final = "hidden"


class FoundFile(NamedTuple):
    """A file below a folder.

    ``reason``: why it is not read as an image; empty if it is.
    """

    path: Path
    reason: str


class PathTable(Sequence[Path]):
    """Paths in one block of memory.

    A list of a million paths takes half a GB, of which each forked process makes a copy by counting references.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        encoded = [os.fsencode(path) for path in paths]
        self._text = b"".join(encoded)
        self._starts = array("q", accumulate(map(len, encoded), initial=0))

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, row: int) -> Path: ...
    @overload
    def __getitem__(self, row: slice) -> list[Path]: ...
    def __getitem__(self, row: int | slice) -> Path | list[Path]:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        place = range(len(self))[row]
        return Path(os.fsdecode(self._text[self._starts[place] : self._starts[place + 1]]))

    def digest(self) -> str:
        """Hash of the paths, hex."""
        return hashlib.sha256(self._text + self._starts.tobytes()).hexdigest()


def shown_name(path: Path | str) -> str:
    """The name as text for files and pages; bytes that are not UTF-8 as ``\\xe9``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over without a look into it."""
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def walk_files(
    folder: Path, *, without: Collection[Path] = (), _above: frozenset[str] = frozenset()
) -> Iterator[FoundFile]:
    """Yield all files below ``folder`` at any depth, in no particular order.

    Links are followed. A folder that is hidden, cannot be listed, or links to one above itself is yielded as one file
    with that reason. The folders ``without`` are passed over.
    """
    above = _above | {os.path.realpath(folder)}
    try:
        entries = os.scandir(folder)
    except OSError as error:
        yield FoundFile(folder, f"folder cannot be listed ({error.strerror})")
        return
    with entries:
        for entry in entries:
            path = folder / entry.name
            if is_hidden(entry.name):
                yield FoundFile(path, HIDDEN)
            elif not entry.is_dir():
                yield FoundFile(path, _reason(entry))
            elif entry.is_symlink() and os.path.realpath(path) in above:
                yield FoundFile(path, "link to a folder above it")
            elif path not in without:
                yield from walk_files(path, without=without, _above=above)


def images_in(folder: Path) -> Iterator[Path]:
    """Yield the image files below ``folder`` at any depth, without hidden files.

    The order is unspecified.
    """
    return (found.path for found in walk_files(folder) if not found.reason)


def sorted_images(folder: Path) -> tuple[list[Path], Counter[str]]:
    """The sorted image files below ``folder``, and the others counted by reason."""
    images: list[Path] = []
    left_out: Counter[str] = Counter()
    for path, reason in walk_files(folder):
        if reason:
            left_out[reason] += 1
        else:
            images.append(path)
    return sorted(images), left_out


def _reason(file: os.DirEntry[str]) -> str:
    """Why a visible ``file`` is not read as an image; empty if it is."""
    suffix = os.path.splitext(file.name)[1].lower()
    if suffix not in IMAGE_SUFFIXES:
        return f"extension {shown_name(suffix)} is not read" if suffix else "no extension"
    if not file.is_file():
        return "broken link" if file.is_symlink() else "not a regular file"
    return "" if os.access(file.path, os.R_OK) else "no permission to read"
