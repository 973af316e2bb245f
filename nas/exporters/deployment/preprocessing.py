"""How an image becomes the input of a network, as it did in the training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from nas.arch.limits import MAX_RESOLUTION_PX
from nas.core.errors import NasError, quoted, unknown_choice
from nas.core.validation import check_number
from nas.data.dense import DenseDataSettings
from nas.data.pixel_rules import FITS, Colour, background_colour
from nas.data.sources import DataSettings

if TYPE_CHECKING:
    from PIL import Image

RESIZING: Final = ("bilinear", "bicubic")
# Of ImageNet's train images, red, green and blue: what timm's models expect unless they say otherwise.
IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
_PREPROCESSING: Final = "provenance.preprocessing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """Steps from an image to a network's input.

    An upright RGB image is made a square of ``resolution_px / crop_pct`` px by ``fit`` (crop, pad or stretch,
    antialiased by ``interpolation``), of which the middle is kept. ``background`` shows where it is transparent, and in
    the bars of pad. Values are scaled to [0, 1] and normalised by ``mean`` and ``std``, one number per channel: red,
    green and blue, or the first alone of a grey image.

    Raises: NasError for values out of range.
    """

    resolution_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float = 1.0
    interpolation: str = "bilinear"
    fit: str = "crop"
    background: Colour = (255, 255, 255)

    def __post_init__(self) -> None:
        check_number("resolution_px", self.resolution_px, low=1, high=MAX_RESOLUTION_PX, whole=True)
        check_number(f"{_PREPROCESSING}.crop_pct", self.crop_pct, low=0.1, high=1)
        for name, allowed in (("interpolation", RESIZING), ("fit", FITS)):
            if getattr(self, name) not in allowed:
                raise unknown_choice(f"{_PREPROCESSING}.{name}", getattr(self, name), allowed)
        for value in self.std:
            check_number("provenance.normalisation.std", value, low=0, open_low=True)

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return len(self.mean)

    @property
    def whole_px(self) -> int:
        """Side of the square of which the middle is kept, in px."""
        return math.floor(self.resolution_px / self.crop_pct)

    @property
    def colour(self) -> str:
        """What the channels are, in a word or two."""
        return {1: "grey", 3: "RGB"}.get(self.channels, f"{self.channels} channels")

    def as_json(self) -> dict[str, Any]:
        """Return the steps as plain data."""
        return {
            "resolution_px": self.resolution_px,
            "channels": self.channels,
            "colour": self.colour,
            "crop_pct": self.crop_pct,
            "interpolation": self.interpolation,
            "fit": self.fit,
            "background": list(self.background),
            "scale": 1 / 255,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def pixels(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Return the pixels of an upright RGB image, uint8 (C, H, W)."""
        from PIL import Image as Pillow

        from nas.data.pixels import fit_square

        resample = Pillow.Resampling[self.interpolation.upper()]
        square = fit_square(image, self.whole_px, fit=self.fit, background=self.background, resample=resample)
        start = round((self.whole_px - self.resolution_px) / 2)
        box = (start, start, start + self.resolution_px, start + self.resolution_px)
        return np.asarray(square.crop(box))[:, :, : self.channels].transpose(2, 0, 1)

    def normalised(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return pixels (N, C, H, W) as the network's input, float32."""
        mean, std = (np.array(values, np.float32).reshape(-1, 1, 1) * 255 for values in (self.mean, self.std))
        return (pixels.astype(np.float32) - mean) / std


def preprocessing_of(
    provenance: Mapping[str, Any],
    statistics: Mapping[str, list[float]] | None,
    data: DataSettings | DenseDataSettings | None,
    *,
    resolution_px: int,
    channels: int,
    fit: str = "crop",
) -> Preprocessing:
    """Read the steps from the ``provenance`` of a spec file.

    What it lacks has the default. ``statistics``: mean and std of the images; None for those of ImageNet, of which a
    grey image has the average. ``data``: the images at hand, whose ``fit`` and ``background`` are taken where the
    provenance says none; without any, ``fit``.

    Raises: NasError for values out of range.
    """
    source = "preprocessing" if provenance.get("preprocessing") is not None else "recipe"  # of older versions
    found = provenance.get(source) or {}
    if not isinstance(found, Mapping):
        raise NasError(f"provenance.{source} {quoted(found)}: must be a mapping.")
    if found.get("interpolation") == "random":  # of a recipe: bilinear for validation
        found = {name: value for name, value in found.items() if name != "interpolation"}
    steps: dict[str, Any] = {"fit": fit}
    if data is not None:
        steps = {"fit": data.fit, "background": data.background_colour}
    steps |= {name: found[name] for name in ("crop_pct", "interpolation", "fit") if name in found}
    if "background" in found:
        steps["background"] = background_colour(found["background"])
    mean, std = (statistics["mean"], statistics["std"]) if statistics else _imagenet(channels)
    return Preprocessing(resolution_px=resolution_px, mean=tuple(mean), std=tuple(std), **steps)


def _imagenet(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if channels == 3:
        return IMAGENET_MEAN, IMAGENET_STD
    mean, std = (round(sum(values) / 3, 6) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (mean,) * channels, (std,) * channels
