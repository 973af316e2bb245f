"""Batched augmentation on the data's device: shift, flip and timm's mixup."""

from __future__ import annotations

import torch
from timm.data import Mixup
from torch import Generator, Tensor

from nas.training.settings import TrainSettings


def take_shifted(images: Tensor, rows: Tensor, *, shift_px: int, flips: bool, generator: Generator) -> Tensor:
    """Gather ``images[rows]`` with random shifts and horizontal flips.

    ``images`` (N, C, H, W) with H = W, ``rows`` int64 (B,); returns (B, C, H, W) of the same dtype in channels_last
    layout. Each image is shifted by up to ``shift_px`` in both directions, borders replicated, and with ``flips``
    mirrored with probability 0.5. All random numbers come from ``generator``, which must be on the images' device.
    """
    batch, side_px, device = len(rows), images.shape[-1], images.device
    line = torch.arange(side_px, device=device)
    shifts = torch.randint(-shift_px, shift_px + 1, (2, batch, 1), generator=generator, device=device)
    down, across = (line + shifts).clamp_(0, side_px - 1)
    if flips:
        mirrored = torch.rand(batch, 1, generator=generator, device=device) < 0.5
        across = torch.where(mirrored, across.flip(1), across)
    # Indices on both sides of the channel dimension move it last: (B, H, W, C) in memory, which is channels_last.
    picked = images[rows[:, None, None], :, down[:, :, None], across[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise uint8 images (B, C, H, W) to float32, zero mean and unit deviation.

    ``mean`` and ``std`` are (1, C, 1, 1), for pixels scaled to [0, 1].
    """
    return images.to(torch.float32).sub_(mean * 255).div_(std * 255)


def make_mixup(settings: TrainSettings, classes: int) -> Mixup | None:
    """Create timm's mixup and cutmix, or None if both are off.

    It maps images (B, C, H, W) with B even and labels int64 (B,) to mixed images and soft targets (B, classes). Draws
    come from numpy's global random state.
    """
    if settings.mixup == 0 and settings.cutmix == 0:
        return None
    return Mixup(
        mixup_alpha=settings.mixup,
        cutmix_alpha=settings.cutmix,
        label_smoothing=settings.label_smoothing,
        num_classes=classes,
    )
