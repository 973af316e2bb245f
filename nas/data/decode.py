"""Image files into one uint8 tensor, with threads, naming the file that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from nas.core.errors import NasError
from nas.core.progress import ProgressCallback

_MAX_THREADS: Final = 8
_REPORT_EVERY: Final = 256  # images between two calls of on_progress


def decode_images(
    files: Sequence[Path],
    *,
    resolution_px: int | None,
    check_size: Callable[[int, int], None],
    on_progress: ProgressCallback | None = None,
) -> Tensor:
    """``files`` as RGB, uint8, (N, 3, H, H), where H is ``resolution_px``.

    Images are cropped in the middle to a square and resized (bilinear, antialiased, as Pillow does). With
    ``resolution_px`` None all must be squares of one size already. ``check_size(count, side_px)`` is called before
    memory is taken and may raise.

    Raises: NasError naming a file that is corrupt or of another size.
    """
    side_px = resolution_px or _square_side(files[0])
    check_size(len(files), side_px)
    out = np.empty((len(files), 3, side_px, side_px), dtype=np.uint8)

    def decode(row: int) -> None:
        out[row] = _decode(files[row], side_px, resize=resolution_px is not None)

    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        done = 0
        try:
            for _ in pool.map(decode, range(len(files))):
                done += 1
                if on_progress is not None and (done % _REPORT_EVERY == 0 or done == len(files)):
                    on_progress(done, len(files))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # otherwise a corrupt first file waits for all the others
            raise
    return torch.from_numpy(out)


def _decode(file: Path, side_px: int, *, resize: bool) -> np.ndarray:
    """One image as uint8 (3, side_px, side_px)."""
    try:
        with Image.open(file) as image:
            image.draft("RGB", (side_px, side_px))  # JPEG: decode at the nearest smaller scale
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise NasError(f"data.root: cannot decode {file} ({error}); replace or remove this file.") from error
    if upright.size != (side_px, side_px):
        if not resize:
            raise NasError(
                f"data.resolution_px: null needs images of one size, but {file} is {upright.size[0]}x{upright.size[1]} "
                f"where {side_px}x{side_px} was expected; set data.resolution_px."
            )
        upright = ImageOps.fit(upright, (side_px, side_px), Image.Resampling.BILINEAR)
    return np.asarray(upright).transpose(2, 0, 1)


def _square_side(file: Path) -> int:
    try:
        with Image.open(file) as image:
            width, height = image.size
    except OSError as error:
        raise NasError(f"data.root: cannot decode {file} ({error}); replace or remove this file.") from error
    if width != height:
        raise NasError(f"data.resolution_px: null needs square images, but {file} is {width}x{height}; set it.")
    return width
