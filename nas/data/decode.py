"""Decoding of image files: all into one uint8 tensor by threads, or one by one."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from torch import Tensor

from nas.core.errors import NasError
from nas.core.progress import ProgressCallback
from nas.data.pixels import DeepValues, fit_square, grey_factor, rgb_image
from nas.data.sources import DataSettings

_MAX_THREADS: Final = 8
_REPORT_EVERY: Final = 256  # images between two calls of on_progress
# Measured peaks, over the file itself: 12 for RGBA and for 16 bits, 15 for a palette with transparency. libjpeg keeps
# all coefficients of a progressive image, at its full size.
_BYTES_PER_PIXEL: Final = 15
_PROGRESSIVE_BYTES_PER_PIXEL: Final = 6
_MAX_BYTES: Final = 1_400_000_000  # larger images are refused
_LARGE_BYTES: Final = 250_000_000  # larger ones are decoded one at a time
# By their content, whatever the suffix says. Of the other formats that Pillow reads, one runs a program (EPS).
_FORMATS: Final = ("JPEG", "PNG", "BMP", "DIB", "GIF", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000", "TGA")
_ORIENTATION: Final = 274  # tag of Exif
_TURNED: Final = (5, 6, 7, 8)  # orientations that exchange width and height
_TIFF_SAMPLES: Final = {1: "unsigned", 2: "signed", 3: "float", 5: "complex", 6: "complex float"}

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it logs is in the exceptions that it raises


class ImageFacts(NamedTuple):
    """What an image file lost or may have lost on the way to its pixels.

    ``width`` and ``height`` in px, as stored; ``deep``, ``clipped`` and ``shows_background`` as in ``RgbImage``;
    ``has_more``: the file holds further images (pages, frames of an animation).
    """

    width: int
    height: int
    deep: DeepValues | None
    clipped: float
    shows_background: bool
    has_more: bool


def decode_images(
    files: Sequence[Path],
    settings: DataSettings,
    *,
    check_size: Callable[[int, int], None],
    on_progress: ProgressCallback | None = None,
) -> tuple[Tensor, list[ImageFacts]]:
    """Decode ``files`` to RGB images.

    uint8 (N, 3, H, H) with H = ``settings.resolution_px``, and what is known of each file.

    Images become squares by ``settings.fit``. With ``resolution_px`` None all must be squares of the same size.
    ``check_size(count, side_px)`` is called before memory is allocated and may raise. ``on_progress(done, total)`` is
    called every 256 images and at the end.

    Raises: NasError naming a file that is corrupt, too large, of another size, or has values of unknown range.
    """
    Image.init()  # once, before there are threads
    with silent_pillow():
        side_px = settings.resolution_px or _square_side(files[0])
        check_size(len(files), side_px)
        out = np.empty((len(files), 3, side_px, side_px), dtype=np.uint8)
        return torch.from_numpy(out), _decode_all(files, settings, out, on_progress)


def _decode_all(
    files: Sequence[Path], settings: DataSettings, out: np.ndarray, on_progress: ProgressCallback | None
) -> list[ImageFacts]:
    """Decode ``files`` into ``out``, uint8 (N, 3, H, H)."""
    large = Lock()

    def decode(row: int) -> ImageFacts:
        square, facts = _decode(files[row], out.shape[-1], settings, large)
        out[row] = np.asarray(square).transpose(2, 0, 1)
        return facts

    found: list[ImageFacts] = []
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        try:
            for facts in pool.map(decode, range(len(files))):
                found.append(facts)
                if on_progress is not None and (len(found) % _REPORT_EVERY == 0 or len(found) == len(files)):
                    on_progress(len(found), len(files))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # otherwise the error is raised only after all files are decoded
            raise
    return found


def _decode(file: Path, side_px: int, settings: DataSettings, large: Lock) -> tuple[Image.Image, ImageFacts]:
    """Decode one image to an RGB square of ``side_px``.

    Images that take much memory are decoded one at a time, with ``large`` held.
    """
    background = settings.background_colour
    with _opened(file) as image:
        size = image.size
        # Of MPO, which telephones write as .jpg, the others are previews and maps of the first.
        has_more = bool(getattr(image, "is_animated", False)) and image.format != "MPO"
        if settings.resolution_px is not None:
            image.draft("RGB", (side_px, side_px))  # JPEG: decode at the smallest scale that is not below it
        elif size != (side_px, side_px):
            raise NasError(
                f"data.resolution_px: null needs equal image sizes, but {file} is {size[0]}x{size[1]} where "
                f"{side_px}x{side_px} was expected; set data.resolution_px."
            )
        need = _checked_bytes(image, size, file)
        with large if need > _LARGE_BYTES else nullcontext():
            rgb = rgb_image(image, file, background=background, value_range=settings.value_range)
            square = fit_square(rgb.image, side_px, fit=settings.fit, background=background)
        return square, ImageFacts(*size, rgb.deep, rgb.clipped, rgb.shows_background, has_more)


class OpenedImage:
    """An open image file, of which parts may be needed at a lower resolution only.

    ``size``: width and height of the upright image in px.
    """

    def __init__(self, image: Image.Image, file: Path, settings: DataSettings) -> None:
        self._image, self._file, self._settings = image, file, settings
        self._stored = image.size
        self._decoded: Image.Image | None = None
        if image.format in ("JPEG", "MPO"):
            self._turned = image.getexif().get(_ORIENTATION, 1) in _TURNED
            self.size = image.size[::-1] if self._turned else image.size
        else:  # some formats tell the orientation after the pixels, and none has a smaller scale
            self._decoded = self._upright()
            self.size = self._decoded.size

    def decode(self, least: tuple[int, int]) -> Image.Image:
        """The whole image as RGB, upright, of at least ``least`` = (width, height) px.

        A JPEG is decoded at the smallest scale that suffices: the result may be smaller than ``size``. Call it once.
        """
        if self._decoded is not None:
            return self._decoded
        self._image.draft("RGB", least[::-1] if self._turned else least)
        return self._upright()

    def _upright(self) -> Image.Image:
        _checked_bytes(self._image, self._stored, self._file)
        settings = self._settings
        background = settings.background_colour
        return rgb_image(self._image, self._file, background=background, value_range=settings.value_range).image


@contextmanager
def open_image(file: Path, settings: DataSettings) -> Iterator[OpenedImage]:
    """Context with the image in ``file``.

    Raises: NasError naming the file, as ``decode_images`` does, for whatever goes wrong with it in this context.
    """
    Image.init()
    with _opened(file) as image:
        yield OpenedImage(image, file, settings)


def upright_size(file: Path) -> tuple[int, int]:
    """Width and height in px of the upright image in ``file``, from its header.

    Raises: NasError naming the file.
    """
    Image.init()
    with _opened(file) as image:
        turned = image.getexif().get(_ORIENTATION, 1) in _TURNED
        return image.size[::-1] if turned else image.size


def stored_values(file: Path) -> tuple[NDArray[Any], str]:
    """Values in ``file`` as stored, and its format.

    Neither turned, scaled nor converted to RGB.

    (H, W) integers of one channel (indices of a palette, the bits of 1, 2 and 4 bits), or (H, W, C).

    Raises: NasError naming the file.
    """
    Image.init()
    with _opened(file) as image:
        _checked_bytes(image, image.size, file)
        divisor = grey_factor(image)
        values = np.asarray(image)
        return values // divisor if divisor > 1 else values, image.format or ""


def _known_formats() -> list[str]:
    return [name for name in _FORMATS if name in Image.OPEN]  # AVIF is missing in some builds of Pillow


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """The image in ``file``, still to be decoded within this context.

    Raises: NasError naming the file, for whatever goes wrong with it there.
    """
    try:
        # By name, Pillow 13 maps the file into memory, and scrambles an uncompressed TIFF of orientation 5 to 8.
        with file.open("rb") as stream, Image.open(stream, formats=_known_formats()) as image:
            yield image
    except NasError:
        raise
    except UnidentifiedImageError:
        raise _undecodable(file, _unidentified_reason(file)) from None
    except Image.DecompressionBombError:
        raise _too_large(file, f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million pixels") from None
    except Exception as error:  # of a damaged file Pillow raises whatever its readers run into
        reason = " ".join(str(error).split()) or type(error).__name__
        raise _undecodable(file, reason) from error


def _checked_bytes(image: Image.Image, size: tuple[int, int], file: Path) -> int:
    """Bytes that decoding ``image`` takes at most.

    Its ``file`` holds ``size`` = (width, height) pixels. Raises: NasError if it is too much.
    """
    coefficients = _PROGRESSIVE_BYTES_PER_PIXEL * size[0] * size[1] if "progressive" in image.info else 0
    need = _BYTES_PER_PIXEL * image.size[0] * image.size[1] + coefficients
    if need > _MAX_BYTES:
        limit = f"{_MAX_BYTES / 1e9:.1f} GB are the limit"
        raise _too_large(file, f"{size[0]}x{size[1]} pixels take {need / 1e9:.1f} GB of memory, {limit}")
    return need


def _unidentified_reason(file: Path) -> str:
    """Why Pillow does not identify ``file``.

    Of TIFF it reads some kinds of samples only.
    """
    try:
        with file.open("rb") as stream:
            tags = ImageFileDirectory_v2(stream.read(8))
            stream.seek(tags.next)
            tags.load(stream)
        bits, kind = tags[258], _TIFF_SAMPLES[tags.get(339, (1,))[0]]
    except Exception:  # it is no TIFF
        return f"it is of no known format: {', '.join(_known_formats())}"
    return f"a TIFF of {len(bits)} x {bits[0]}-bit {kind} samples is not read; save it as 8 or 16 bits, or float of 32"


def _undecodable(file: Path, reason: str) -> NasError:
    return NasError(f"data.root: cannot decode {file} ({reason}); replace or remove this file.")


def _too_large(file: Path, reason: str) -> NasError:
    return NasError(
        f"data.root: {file} is too large to be decoded ({reason}); shrink it, cut it into tiles or remove it."
    )


@contextmanager
def silent_pillow() -> Iterator[None]:
    """Context manager that suppresses Pillow's warnings.

    They are of sizes and metadata and name no file; what matters is refused here by name.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _square_side(file: Path) -> int:
    with _opened(file) as image:
        width, height = image.size
    if width != height:
        raise NasError(
            f"data.resolution_px: null needs square images, but {file} is {width}x{height}; set data.resolution_px."
        )
    return width
