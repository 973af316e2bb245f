"""Conversion of one image to 8-bit RGB: bit depth, transparency, shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nas.core.errors import NasError
from nas.data.pixel_rules import Colour, ValueRange

# Tags of TIFF 6.0, sections 4 and 8.
_BITS_PER_SAMPLE: Final = 258
_PHOTOMETRIC: Final = 262
_WHITE_IS_ZERO: Final = 0
_SAMPLE_FORMAT: Final = 339
_UNSIGNED: Final = 1
_DEEP_MODES: Final = ("I", "F")  # and all that begin with I;16
_GREY_FACTORS: Final = {"L;2": 85, "L;4": 17}  # from 2 and 4 bits to 8

_BILINEAR: Final = Image.Resampling.BILINEAR


class DeepValues(NamedTuple):
    """Lowest and highest value of an image whose file has 16 bits per channel.

    ``is_grey``: of one channel, which ``data.value_range`` applies to.
    """

    low: int
    high: int
    is_grey: bool


class RgbImage(NamedTuple):
    """An image of mode RGB, with what was changed to make it one.

    ``deep``: values of an image of 16 bits per channel, where the bit depth scaled them. ``clipped``: share of the
    values beyond ``data.value_range``. ``shows_background``: parts of it were transparent.
    """

    image: Image.Image
    deep: DeepValues | None
    clipped: float
    shows_background: bool


def rgb_image(image: Image.Image, file: Path, *, background: Colour, value_range: ValueRange | None) -> RgbImage:
    """Convert the opened ``image`` of ``file`` to mode RGB, upright.

    Values of more than 8 bits are scaled by ``value_range``, without it by the bit depth; what is transparent shows
    ``background``.

    Raises: NasError if the values have no known range.
    """
    layout = _raw_mode(image)
    ImageOps.exif_transpose(image, in_place=True)  # loads it
    deep, clipped = None, 0.0
    if image.mode in _DEEP_MODES or image.mode.startswith("I;16"):
        image, deep, clipped = _grey_pixels(image, file, value_range)
    elif ";16" in layout and image.mode in ("RGB", "RGBA"):  # of which Pillow takes the high bytes
        deep = _colour_values(image)
    if "transparency" in image.info:
        image.info["transparency"] = _scaled_key(image.info["transparency"], layout)
    rgb, shows_background = _over(image, background)
    return RgbImage(rgb, deep, clipped, shows_background)


def fit_square(
    image: Image.Image, side_px: int, *, fit: str, background: Colour, resample: Image.Resampling = _BILINEAR
) -> Image.Image:
    """Resize an RGB ``image`` to ``side_px`` x ``side_px`` (antialiased).

    ``fit``: ``crop`` keeps the square in its middle, ``pad`` keeps all of it within bars of ``background``,
    ``stretch`` keeps all of it and distorts it.
    """
    size = (side_px, side_px)
    if image.size == size:
        return image
    if fit == "stretch":
        return image.resize(size, resample)
    if fit == "crop":
        return ImageOps.fit(image, size, resample)
    scale = side_px / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    square = Image.new("RGB", size, background)
    square.paste(image.resize((width, height), resample), ((side_px - width) // 2, (side_px - height) // 2))
    return square


def grey_factor(image: Image.Image) -> int:
    """Factor by which Pillow scales the levels of a grey image of 2 or 4 bits.

    It is known until they are loaded.
    """
    return _GREY_FACTORS.get(_raw_mode(image), 1)


def _raw_mode(image: Image.Image) -> str:
    """Layout of the samples in the file, in Pillow's notation, such as ``RGB;16B``.

    It is known until they are loaded.
    """
    tiles = getattr(image, "tile", ())
    arguments = tiles[0][3] if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _scaled_key(key: Any, layout: str) -> Any:
    """Scale a transparent colour as Pillow scales the samples.

    PNG states it in the depth of the file.
    """
    if isinstance(key, tuple) and ";16" in layout:
        return tuple(level >> 8 for level in key)
    if layout == "1" and key == 1:  # newer versions of Pillow say 255
        return 255
    return key * _GREY_FACTORS[layout] if isinstance(key, int) and layout in _GREY_FACTORS else key


def _colour_values(image: Image.Image) -> DeepValues:
    """Lowest and highest value of red, green and blue, from the high bytes."""
    levels = np.asarray(image)[:, :, :3]
    return DeepValues(257 * int(levels.min()), 257 * int(levels.max()), is_grey=False)


def _grey_pixels(
    image: Image.Image, file: Path, value_range: ValueRange | None
) -> tuple[Image.Image, DeepValues | None, float]:
    """Scale an image of one channel of more than 8 bits to 8 bits.

    It gets an alpha channel if one of its values is transparent. Also returned: ``deep`` and ``clipped`` as in
    ``RgbImage``.
    """
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if values.dtype == np.int32 and image.format == "TIFF" and tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] == _UNSIGNED:
        values = values.view(np.uint32)  # Pillow has no mode of its own for it
    low, high = values.min(), values.max()
    if np.isnan(low):
        raise NasError(f"data: {file} (mode {image.mode}) contains NaN; replace these values or remove this file.")
    bits = _bits(image)
    if value_range is None and bits is None:
        raise NasError(
            f"data.value_range: null does not say which values of {file} (mode {image.mode}, here {low:g} to "
            f"{high:g}) are black and white; set data.value_range=[BLACK,WHITE], such as [0,1] or [0,4095], or "
            "convert the images to 8 bits."
        )
    black, white = value_range or (0, 2 ** (bits or 0) - 1)
    clipped = float(((values < black) | (values > white)).mean()) if low < black or high > white else 0.0
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        black, white = white, black
    grey = Image.fromarray(_scaled(values, black, white))
    if isinstance(key := image.info.get("transparency"), int):
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    by_depth = value_range is None and bits == 16
    return grey, DeepValues(int(low), int(high), is_grey=True) if by_depth else None, clipped


def _bits(image: Image.Image) -> int | None:
    """Bit depth that the file states.

    None for samples whose range it does not state: signed, float, or of 32 bits.
    """
    if image.mode.startswith("I;16"):
        depth = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))
        return int(depth[0])
    # PPM: Pillow scales by the maximum in the header. PNG: mode I in versions of Pillow before 11.
    return 16 if image.mode == "I" and image.format in ("PPM", "PNG") else None


def _scaled(values: NDArray[Any], black: float, white: float) -> NDArray[np.uint8]:
    """Map ``values`` (H, W) from [black, white] to [0, 255], clipped and rounded."""
    scaled = values.astype(np.float32)
    scaled -= black
    scaled *= 255 / (white - black)
    return np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled).astype(np.uint8)


def _over(image: Image.Image, background: Colour) -> tuple[Image.Image, bool]:
    """Compose ``image`` over ``background``, as mode RGB; whether that shows."""
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB"), False
    layer = image if image.mode == "RGBA" else image.convert("RGBA")
    canvas = Image.new("RGB", layer.size, background)
    canvas.paste(layer, mask=layer)
    return canvas, layer.getchannel("A").getextrema() != (255, 255)
