"""Batched augmentation where the data lie: one gather shifts and flips a whole batch, timm mixes it."""

from __future__ import annotations

import torch
from timm.data import Mixup
from torch import Generator, Tensor

from nas.training.settings import TrainSettings


def take_shifted(images: Tensor, rows: Tensor, *, shift_px: int, flips: bool, generator: Generator) -> Tensor:
    """The images at ``rows``, each shifted by up to ``shift_px`` both ways and mirrored half of the time.

    ``images`` (N, C, H, W), ``rows`` (B,); returns (B, C, H, W) of the same type in channels_last layout. Pixels that a
    shift uncovers repeat the border. All draws come from ``generator``, which lives where the images live.
    """
    batch, side_px, device = len(rows), images.shape[-1], images.device
    line = torch.arange(side_px, device=device)
    shifts = torch.randint(-shift_px, shift_px + 1, (2, batch, 1), generator=generator, device=device)
    down, across = (line + shifts).clamp_(0, side_px - 1)
    if flips:
        mirrored = torch.rand(batch, 1, generator=generator, device=device) < 0.5
        across = torch.where(mirrored, across.flip(1), across)
    # The index on both sides of the channels moves them last: (B, H, W, C) in memory, which is channels_last.
    picked = images[rows[:, None, None], :, down[:, :, None], across[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 (B, C, H, W) as float32 of zero mean and unit deviation; ``mean``, ``std`` (1, C, 1, 1) on [0, 1]."""
    return images.to(torch.float32).sub_(mean * 255).div_(std * 255)


def make_mixup(settings: TrainSettings, classes: int) -> Mixup | None:
    """timm's mixup and cutmix for ``settings``, or None where both are off. It draws from numpy's global state."""
    if settings.mixup == 0 and settings.cutmix == 0:
        return None
    return Mixup(
        mixup_alpha=settings.mixup,
        cutmix_alpha=settings.cutmix,
        label_smoothing=settings.label_smoothing,
        num_classes=classes,
    )
