"""Checks of decoded images: range of values, lost area, constant images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from torch import Tensor

from nas.core.errors import NasError
from nas.data.decode import ImageFacts
from nas.data.sources import DataSettings

_WHITE: Final = 65535  # highest value of 16 bits
_LEAST_SPAN: Final = _WHITE / 4  # leaves 64 of the 256 levels that a network sees
_USUAL_BITS: Final = (8, 10, 12, 14)
_NOTED_LOSS: Final = 0.1  # share of an image's area, or of its values


def check_depth(files: Sequence[Path], facts: Sequence[ImageFacts]) -> None:
    """Refuse images of 16 bits whose values all lie within a quarter of that range.

    They hold fewer bits, such as 12, or a narrow band: scaled by 16 bits they would be nearly uniform.

    Raises: NasError with the range to set.
    """
    for is_grey in (True, False):
        deep = [(file, fact.deep) for file, fact in zip(files, facts, strict=True) if fact.deep is not None]
        deep = [(file, values) for file, values in deep if values.is_grey == is_grey]
        if not deep:
            continue
        low, high = min(values.low for _, values in deep), max(values.high for _, values in deep)
        if low == high or high - low >= _LEAST_SPAN:  # images of one value are told as such
            continue
        example = f"{deep[0][0]}" + (f" and {len(deep) - 1} more" if len(deep) > 1 else "")
        black, white = _likely_range(low, high)
        advice = (
            f"set data.value_range=[{black},{white}], or [0,{_WHITE}] to take them so"
            if is_grey
            else "scale them to 8 bits before"
        )
        raise NasError(
            f"data.value_range: null takes 0 to {_WHITE} of 16-bit images as black to white, but the values of "
            f"{example} are only {low} to {high}; {advice}."
        )


def _likely_range(low: int, high: int) -> tuple[int, int]:
    """The range of the fewest usual bits that hold the values.

    The values' own range if they are a narrow band of that.
    """
    white = next((2**bits - 1 for bits in _USUAL_BITS if high < 2**bits), _WHITE)
    return (0, white) if high - low >= white / 4 else (low, high)


def check_constant(images: Tensor, settings: DataSettings, name_of: Callable[[int], str]) -> None:
    """Refuse train ``images``, uint8 (N, C, H, W), of which some are of one colour.

    ``name_of`` names the image of a row.

    Raises: NasError with their number and an example.
    """
    if settings.allow_constant:
        return
    pixels = images.flatten(2)
    rows = (pixels.amax(2) == pixels.amin(2)).all(1).nonzero().flatten().tolist()
    if rows:
        raise NasError(
            f"data.allow_constant false: {len(rows)} of {len(images)} train images are of one colour at "
            f"{images.shape[-1]} px, such as {name_of(rows[0])}; remove them, or set it to true. If they have details, "
            "raise the resolution, or choose another data.background for drawings of its colour."
        )


def constant_image(name: str) -> NasError:
    """The error for the train image ``name``, which is of one colour."""
    return NasError(f"data.allow_constant false: {name} is of one colour; remove it, or set it to true.")


def image_notices(files: Sequence[Path], facts: Sequence[ImageFacts], settings: DataSettings) -> tuple[str, ...]:
    """Return what the user should know of what the images lost.

    That is said where most lose more than a tenth of their area, where a tenth of the values of one is clipped, where
    parts are transparent, and where files hold more images than one.
    """
    notices = list(_crop_notices(files, facts, settings))
    for concerned, text in (
        (
            [fact.clipped > _NOTED_LOSS for fact in facts],
            "have more than a tenth of their values beyond data.value_range, which become black or white",
        ),
        (
            [fact.shows_background for fact in facts],
            f"are transparent in parts, which show {_background_text(settings)}",
        ),
        ([fact.has_more for fact in facts], "hold several images (pages or frames), of which the first is used"),
    ):
        if any(concerned):
            example = files[concerned.index(True)]
            notices.append(f"{sum(concerned)} of {len(files)} files {text}; for instance {example}")
    return tuple(notices)


def _background_text(settings: DataSettings) -> str:
    background = settings.background
    return f"data.background={background if isinstance(background, str) else list(background)}"


def _crop_notices(files: Sequence[Path], facts: Sequence[ImageFacts], settings: DataSettings) -> tuple[str, ...]:
    if settings.fit != "crop":
        return ()
    lost = [1 - min(fact.width, fact.height) / max(fact.width, fact.height) for fact in facts]
    cut = [row for row, share in enumerate(lost) if share > _NOTED_LOSS]
    if 2 * len(cut) <= len(files):
        return ()
    fact = facts[cut[0]]
    return (
        f"data.fit=crop: {len(cut)} of {len(files)} images ({len(cut) / len(files):.0%}) lose more than a tenth of "
        f"their area when they are cropped to squares, {median(lost[row] for row in cut):.0%} at the median; for "
        f"instance {files[cut[0]]} ({fact.width}x{fact.height}). data.fit=pad keeps all of it, within bars of "
        "data.background; data.fit=stretch keeps all of it, distorted",
    )
