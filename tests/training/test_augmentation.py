"""Batched augmentation against per-image slicing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from nas.training.augmentation import make_mixup, normalise, take_shifted
from nas.training.settings import TrainSettings


def distinct_pixels(count: int = 5, channels: int = 3, side_px: int = 6) -> Tensor:
    """Images (count, channels, side_px, side_px), values distinct within a channel."""
    return torch.arange(count * channels * side_px**2).remainder(251).to(torch.uint8).view(count, channels, side_px, -1)


def shifted_image(image: Tensor, down: int, across: int, *, mirrored: bool) -> Tensor:
    """Shift ``image`` (C, H, W) pixel by pixel with replicated border.

    ``down`` and ``across`` are the source position of pixel (0, 0).
    """
    _, height, width = image.shape
    shifted = torch.empty_like(image)
    for y in range(height):
        for x in range(width):
            shifted[:, y, x] = image[:, min(max(y + down, 0), height - 1), min(max(x + across, 0), width - 1)]
    return shifted.flip(2) if mirrored else shifted


@pytest.mark.parametrize("flips", [False, True])
def test_results_match_per_image_shifts(flips: bool) -> None:
    images, rows = distinct_pixels(), torch.tensor([4, 0, 0, 2, 1, 3, 3])
    out = take_shifted(images, rows, shift_px=2, flips=flips, generator=Generator().manual_seed(0))
    assert out.shape == (7, 3, 6, 6)
    assert out.is_contiguous(memory_format=torch.channels_last)
    for result, row in zip(out, rows, strict=True):
        options = [
            shifted_image(images[row], down, across, mirrored=mirrored)
            for down in range(-2, 3)
            for across in range(-2, 3)
            for mirrored in ((False, True) if flips else (False,))
        ]
        assert any(torch.equal(result, option) for option in options)


def test_without_shift_and_flip_nothing_changes() -> None:
    images = distinct_pixels()
    rows = torch.tensor([3, 1])
    assert torch.equal(take_shifted(images, rows, shift_px=0, flips=False, generator=Generator()), images[rows])


def test_half_of_the_images_are_mirrored_and_all_shifts_occur() -> None:
    images = torch.zeros(1, 1, 5, 5, dtype=torch.uint8)
    images[0, 0, 2, 1] = 255  # one bright pixel, off the middle column, reveals shift and flip
    rows = torch.zeros(2000, dtype=torch.int64)
    out = take_shifted(images, rows, shift_px=0, flips=True, generator=Generator().manual_seed(1))
    mirrored = int((out[:, 0, 2, 3] == 255).sum())
    assert abs(mirrored - 1000) < 5 * (2000 * 0.25) ** 0.5  # five standard deviations of a binomial
    out = take_shifted(images, rows, shift_px=1, flips=False, generator=Generator().manual_seed(1))
    places = (out[:, 0].reshape(2000, -1) == 255).sum(0).view(5, 5)
    assert (places[1:4, 0:3] > 0).all()
    assert int(places[1:4, 0:3].sum()) == 2000


def test_draws_depend_on_the_generator_only() -> None:
    images, rows = distinct_pixels(), torch.arange(5)
    first = take_shifted(images, rows, shift_px=2, flips=True, generator=Generator().manual_seed(7))
    torch.manual_seed(99)
    again = take_shifted(images, rows, shift_px=2, flips=True, generator=Generator().manual_seed(7))
    assert torch.equal(first, again)


def test_normalise_equals_the_formula() -> None:
    images = distinct_pixels()
    mean, std = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1), torch.tensor([0.5, 0.6, 0.7]).view(1, 3, 1, 1)
    torch.testing.assert_close(normalise(images, mean, std), (images / 255 - mean) / std)


def test_mixup_targets_are_distributions() -> None:
    assert make_mixup(TrainSettings(), 10) is None
    mixup = make_mixup(TrainSettings(mixup=0.2, cutmix=1.0, label_smoothing=0.1), 10)
    assert mixup is not None
    np.random.seed(0)
    images, targets = mixup(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3]))
    assert images.shape == (4, 3, 8, 8)
    torch.testing.assert_close(targets.sum(1), torch.ones(4))
