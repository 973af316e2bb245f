"""Multi-threaded decoding of image files into one uint8 tensor."""

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
    """Decode ``files`` to RGB images, uint8 (N, 3, H, H) with H = ``resolution_px``.

    Images are center-cropped to a square and resized (bilinear, antialiased, with Pillow). With ``resolution_px``
    None all must be squares of the same size. ``check_size(count, side_px)`` is called before memory is allocated and
    may raise. ``on_progress(done, total)`` is called every 256 images and at the end.

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
            pool.shutdown(cancel_futures=True)  # otherwise the error is raised only after all files are decoded
            raise
    return torch.from_numpy(out)


def _decode(file: Path, side_px: int, *, resize: bool) -> np.ndarray:
    """Decode one image to uint8 (3, side_px, side_px)."""
    try:
        with Image.open(file) as image:
            image.draft("RGB", (side_px, side_px))  # JPEG: decode at the smallest scale that is not below it
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise NasError(f"data.root: cannot decode {file} ({error}); replace or remove this file.") from error
    if upright.size != (side_px, side_px):
        if not resize:
            raise NasError(
                f"data.resolution_px: null needs equal image sizes, but {file} is {upright.size[0]}x{upright.size[1]} "
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
        raise NasError(
            f"data.resolution_px: null needs square images, but {file} is {width}x{height}; set data.resolution_px."
        )
    return width
