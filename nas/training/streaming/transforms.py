"""Augmentation of train images and crop of validation images, by timm's parts."""

from __future__ import annotations

import functools
import math
import random
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation
from timm.data.transforms_factory import transforms_imagenet_train
from torch import Tensor

from nas.data import ImageSet, UndecodedImage, fit_square
from nas.training.augmentation_settings import AugmentationSettings
from nas.training.streaming.draws import restored_global_states, seed_global_states

Pixels = NDArray[np.uint8]  # (H, W, C) with H = W

_CROP_RATIO: Final = (3 / 4, 4 / 3)  # width to height, as in Inception and timm
_RESAMPLING: Final = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_RANDOM_RESAMPLING: Final = tuple(_RESAMPLING.values())  # in timm's order


class TrainTransform:
    """Random crop or shift, flip, automatic augmentation and colour jitter.

    Draws come from the global random states of Python, numpy and torch, in timm's order: with a random resized crop and
    the same states the result is that of ``timm.data.create_transform`` bit for bit, except that a JPEG is decoded at a
    lower scale where the crop needs no more.
    """

    def __init__(self, images: ImageSet, settings: AugmentationSettings) -> None:
        self._images, self._settings = images, settings
        self._side_px = images.resolution_px
        self._shift_px = round(settings.shift * self._side_px)
        _, self._colours, _ = transforms_imagenet_train(
            self._side_px,
            auto_augment=settings.auto_augment,
            color_jitter=settings.color_jitter or None,
            force_color_jitter=True,  # timm leaves it out beside auto_augment otherwise
            interpolation=settings.interpolation,
            mean=images.mean * (3 // images.channels),  # colour of what rotations uncover
            separate=True,
        )

    def crop(self, image: UndecodedImage) -> Image.Image:
        """Random crop of ``image``, or all of it shifted, at the side that networks see."""
        return self._shifted(image) if self._settings.crop_scale is None else self._random_crop(image)

    def augment(self, crop: Image.Image) -> Pixels:
        """Flip a crop and change its colours and shape."""
        if self._images.flips and torch.rand(1) < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return _pixels(self._colours(crop), self._images.channels)

    def _shifted(self, image: UndecodedImage) -> Image.Image:
        side_px, shift_px = self._side_px, self._shift_px
        square = _fitted(image, side_px, self._images, _resampling(self._settings))
        if shift_px == 0:
            return square
        line = np.arange(side_px)
        down, across = (
            np.clip(line + random.randint(-shift_px, shift_px), 0, side_px - 1)  # borders are replicated
            for _ in range(2)
        )
        return Image.fromarray(np.asarray(square)[down[:, None], across])

    def _random_crop(self, image: UndecodedImage) -> Image.Image:
        width, height = image.size
        top, left, *sides = RandomResizedCropAndInterpolation.get_params(
            _of_size(width, height), (self._settings.crop_scale, 1.0), _CROP_RATIO
        )
        crop_height, crop_width = (max(1, side) for side in sides)  # timm's may be 0 in images of a few px
        is_random = self._settings.interpolation == "random"
        resampling = random.choice(_RANDOM_RESAMPLING) if is_random else _RESAMPLING[self._settings.interpolation]
        least = math.ceil(width * self._side_px / crop_width), math.ceil(height * self._side_px / crop_height)
        decoded = image.decode(least)
        across, down = decoded.width / width, decoded.height / height
        box = (left * across, top * down, (left + crop_width) * across, (top + crop_height) * down)
        crop = decoded.crop(tuple(round(edge) for edge in box))
        return crop.resize((self._side_px, self._side_px), resampling)


class ValTransform:
    """The middle of an image, made square by ``data.fit``."""

    def __init__(self, images: ImageSet, settings: AugmentationSettings) -> None:
        self._images, self._resampling = images, _resampling(settings)
        self._whole_px = math.floor(images.resolution_px / settings.crop_pct)

    def __call__(self, image: UndecodedImage) -> Pixels:
        """Pixels of ``image``."""
        side_px = self._images.resolution_px
        square = _fitted(image, self._whole_px, self._images, self._resampling)
        start = round((self._whole_px - side_px) / 2)
        return _pixels(square.crop((start, start, start + side_px, start + side_px)), self._images.channels)


class BatchErasing:
    """timm's random erasing of normalised images."""

    def __init__(self, settings: AugmentationSettings) -> None:
        self._is_on = settings.random_erasing > 0
        # Noise is drawn on the CPU, so that it does not depend on the device of the images.
        self._erase = RandomErasing(settings.random_erasing, mode=settings.erase_mode, device="cpu")

    def __call__(self, images: Tensor, rows: Tensor, seed: int, epoch: int) -> None:
        """Erase rectangles of ``images``, float32 (B, C, H, W), in place.

        ``rows``: those of the images, int64 (B,), which with ``seed`` and ``epoch`` decide the draws.
        """
        if not self._is_on:
            return
        with restored_global_states():
            for image, row in zip(images, rows.tolist(), strict=True):
                seed_global_states(seed, epoch, row, "erase")
                self._erase(image)


def is_of_one_colour(image: Image.Image) -> bool:
    """Whether all pixels of an RGB ``image`` are equal."""
    first_row = image.crop((0, 0, image.width, 1))  # which decides it mostly, in a tenth of the time
    return _is_constant(first_row) and _is_constant(image)


def _is_constant(image: Image.Image) -> bool:
    return all(low == high for low, high in cast("tuple[tuple[int, int], ...]", image.getextrema()))


@functools.lru_cache(maxsize=64)
def _of_size(width: int, height: int) -> Tensor:
    """Stand-in for an image that is not decoded yet; timm needs its size alone."""
    return torch.empty(3, height, width, device="meta")


def _fitted(image: UndecodedImage, side_px: int, images: ImageSet, resample: Image.Resampling) -> Image.Image:
    whole = image.decode((side_px, side_px))
    return fit_square(whole, side_px, fit=images.fit, background=images.background, resample=resample)


def _resampling(settings: AugmentationSettings) -> Image.Resampling:
    """Resampling without a draw, for which timm takes bilinear too."""
    return _RESAMPLING.get(settings.interpolation, Image.Resampling.BILINEAR)


def _pixels(image: Image.Image, channels: int) -> Pixels:
    """Pixels of an RGB ``image``; the first channel of a grey one."""
    pixels: NDArray[Any] = np.asarray(image)
    return pixels[:, :, :channels]
