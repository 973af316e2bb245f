"""Rules by which image files become pixels; loads neither torch nor Pillow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, TypeGuard

from nas.core.errors import NasError, quoted

Colour = tuple[int, int, int]  # red, green, blue, 0 to 255
ValueRange = tuple[float, float]  # values of a pixel that become black and white

FITS: Final = ("crop", "pad", "stretch")
COLOURS: Final[dict[str, Colour]] = {"white": (255, 255, 255), "gray": (128, 128, 128), "black": (0, 0, 0)}


def background_colour(background: object) -> Colour:
    """Return the colour that ``background`` (a name, or three levels) stands for.

    Raises: NasError.
    """
    if isinstance(background, str) and background in COLOURS:
        return COLOURS[background]
    if _is_list(background, 3) and all(_is_level(level) for level in background):
        red, green, blue = background
        return red, green, blue
    raise NasError(
        f"data.background {quoted(background)}: must be {', '.join(COLOURS)} or three whole numbers from 0 to 255 "
        "for red, green and blue, such as [240,240,240]."
    )


def checked_value_range(value_range: object) -> ValueRange | None:
    """Return ``value_range`` as a tuple, or None.

    Raises: NasError unless it is None or two finite numbers of which the second is larger.
    """
    if value_range is None:
        return None
    if _is_list(value_range, 2) and all(_is_number(value) for value in value_range):
        black, white = value_range
        if black < white:
            return black, white
    raise NasError(
        f"data.value_range {quoted(value_range)}: must be null or two numbers, the value that is black and the larger "
        "one that is white, such as [0,4095]."
    )


def _is_list(value: object, length: int) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple) and len(value) == length


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_level(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255
