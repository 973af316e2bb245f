"""Pixels of image files, in memory or decoded at each access; mean and deviation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nas.core.errors import NasError
from nas.core.progress import ProgressCallback
from nas.data.decode import open_image, silent_pillow, upright_size
from nas.data.image_files import PathTable
from nas.data.sources import DataSettings

Pixels = NDArray[np.uint8]  # (H, W, 3)
Size = tuple[int, int]  # width, height in px

_MAX_THREADS: Final = 8
_REPORT_EVERY: Final = 64  # images between two calls of on_progress
_SAMPLE: Final = 512  # images of which mean and deviation are computed where not all are decoded
_TAIL: Final = 4096  # bytes at the end of a file where the mark of its end is looked for
_END_MARKS: Final = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}  # JPEG and PNG, by their first bytes
_LEVELS: Final = 256

T = TypeVar("T")
R = TypeVar("R")


class ImageStore:
    """Images of a split: RGB, upright, at their own size.

    ``decoded``: the pixels (H, W, 3) of each image; None to decode ``files`` at each access by ``rules``.
    """

    def __init__(
        self, files: PathTable, sizes: Sequence[Size], rules: DataSettings, decoded: Sequence[Pixels] | None
    ) -> None:
        self._files, self._rules, self._decoded = files, rules, decoded
        self._sizes = np.array(sizes, dtype=np.int32).reshape(-1, 2)

    @property
    def in_memory(self) -> bool:
        """Whether the images are decoded."""
        return self._decoded is not None

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def files(self) -> Sequence[Path]:
        """Files of the images; empty for those of an array."""
        return self._files

    def subset(self, rows: Sequence[int]) -> ImageStore:
        """Return the store of some of its images, which are not copied."""
        decoded = None if self._decoded is None else [self._decoded[row] for row in rows]
        files = PathTable(self._files[row] for row in rows) if len(self._files) else self._files
        return ImageStore(files, [self.size(row) for row in rows], self._rules, decoded)

    def size(self, row: int) -> Size:
        """Width and height of an image in px."""
        width, height = self._sizes[row].tolist()
        return width, height

    def size_bytes(self) -> bytes:
        """Sizes of all images, for a hash."""
        return self._sizes.tobytes()

    def image(self, row: int) -> Pixels:
        """Image of a row, uint8 (H, W, 3).

        Raises: NasError naming a file that is damaged or has changed.
        """
        if self._decoded is not None:
            return self._decoded[row]
        file, size = self._files[row], self.size(row)
        with open_image(file, self._rules) as opened:
            if opened.size != size:
                raise NasError(
                    f"data.root: {file} is {opened.size[0]}x{opened.size[1]}, but was {size[0]}x{size[1]} when the "
                    "data was loaded; leave the files as they are while networks are trained."
                )
            return np.asarray(opened.decode(size))


def read_sizes(
    files: Sequence[Path], on_fault: Callable[[Path, str], None], on_progress: ProgressCallback | None = None
) -> list[Size | None]:
    """Width and height of the upright images of ``files`` from their headers.

    None for those that ``on_fault(file, reason)`` is called for.
    """
    return _without_faults(upright_size, files, on_fault, on_progress)


def decode_files(
    files: Sequence[Path],
    rules: DataSettings,
    on_fault: Callable[[Path, str], None],
    on_progress: ProgressCallback | None = None,
) -> list[Pixels | None]:
    """Images of ``files``, uint8 (H, W, 3).

    None for those that ``on_fault(file, reason)`` is called for.
    """

    def decode(file: Path) -> Pixels:
        with open_image(file, rules) as opened:
            return np.asarray(opened.decode(opened.size))

    return _without_faults(decode, files, on_fault, on_progress)


def _without_faults(
    read: Callable[[Path], R],
    files: Sequence[Path],
    on_fault: Callable[[Path, str], None],
    on_progress: ProgressCallback | None,
) -> list[R | None]:
    """What ``read`` returns of each file.

    None for those for which it raises NasError; ``on_fault(file, reason)`` is called for them.
    """

    def attempt(file: Path) -> tuple[R | None, str]:
        try:
            return read(file), ""
        except NasError as error:
            return None, reason_of(error)

    found = []
    with silent_pillow():
        for file, (result, reason) in zip(files, each(attempt, files, on_progress), strict=True):
            if result is None:
                on_fault(file, reason)
            found.append(result)
    return found


def check_ends(files: Sequence[Path], rules: DataSettings, on_fault: Callable[[Path, str], None]) -> list[bool]:
    """Whether each file is whole, as far as its end tells.

    A file without a mark of its end is decoded. ``on_fault(file, reason)`` is called for those that are not whole.
    """
    return [_has_end(file) or decode_files([file], rules, on_fault)[0] is not None for file in files]


def pixel_statistics(images: Iterator[Pixels]) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation per channel of ``images`` (H, W, 3).

    For pixels scaled to [0, 1]; exact, from a histogram; the deviation is at least one level (1/255).
    """
    counts = np.zeros(3 * _LEVELS, dtype=np.float64)
    for pixels in images:
        counts += Image.fromarray(pixels).histogram()
    weights = counts.reshape(3, _LEVELS) / max(1.0, counts[:_LEVELS].sum())
    levels = np.arange(_LEVELS) / 255
    means = weights @ levels
    deviations = np.sqrt((weights * (levels - means[:, None]) ** 2).sum(axis=1)).clip(min=1 / 255)
    return tuple(means.tolist()), tuple(deviations.tolist())


def store_statistics(store: ImageStore, seed: int) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and deviation of the images of ``store``.

    Of 512 drawn by ``seed`` where they are not in memory.
    """
    rows = np.arange(len(store))
    if not store.in_memory and len(rows) > _SAMPLE:
        rows = np.sort(np.random.RandomState(seed).choice(rows, _SAMPLE, replace=False))
    return pixel_statistics(store.image(int(row)) for row in rows)


def each(call: Callable[[T], R], items: Sequence[T], on_progress: ProgressCallback | None = None) -> Iterator[R]:
    """Results of ``call`` for ``items`` in order, by threads.

    ``on_progress(done, total)`` is called now and then.
    """
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        try:
            for done, result in enumerate(pool.map(call, items), 1):
                yield result
                if on_progress is not None and (done % _REPORT_EVERY == 0 or done == len(items)):
                    on_progress(done, len(items))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def reason_of(error: NasError) -> str:
    """Text of an error of ``nas.data.decode`` without the name of the setting."""
    return str(error).removeprefix("data.root: ").removeprefix("data: ").rstrip(".")


def _has_end(file: Path) -> bool:
    """Whether a JPEG or PNG has the mark of its end; True for other formats."""
    try:
        with file.open("rb") as stream:
            mark: Any = _END_MARKS.get(stream.read(2))
            if mark is None:
                return True
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL))
            return mark in stream.read()
    except OSError:
        return False
