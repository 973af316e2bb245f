"""1x1 convolutions as matrix products; their groups without copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

# Pixels of a map up to which a matrix product was at least as fast as oneDNN's 1x1 convolution, for 8 to 1536 channels.
_MATRIX_PIXELS: Final = 16
# Groups of few channels on large maps are bound by memory: one convolution with a block-diagonal weight took 0.5 to 0.8
# of the time of splitting, convolving and concatenating, although it multiplies by zeros.
_MIN_DIAGONAL_PIXELS: Final = 512
_MAX_DIAGONAL_CHANNELS: Final = 64


def convolve_pointwise(convs: Sequence[nn.Conv2d], x: Tensor) -> Tensor | None:
    """Convolve channel groups of ``x``, one per 1x1 convolution.

    Maps (N, C, H, W) to (N, C', H, W); None where neither form is a gain.
    """
    count, channels, height, width = x.shape
    pixels = height * width
    if pixels > 1 and not x.is_contiguous(memory_format=torch.channels_last):
        return None
    if pixels <= _MATRIX_PIXELS:
        rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
        parts = torch.split(rows, [conv.in_channels for conv in convs], 1) if len(convs) > 1 else [rows]
        products = [
            functional.linear(part, conv.weight.flatten(1), conv.bias) for part, conv in zip(parts, convs, strict=True)
        ]
        product = torch.cat(products, 1) if len(products) > 1 else products[0]
        return product.view(count, height, width, -1).permute(0, 3, 1, 2)
    outputs = sum(conv.out_channels for conv in convs)
    if len(convs) == 1 or pixels < _MIN_DIAGONAL_PIXELS or max(channels, outputs) > _MAX_DIAGONAL_CHANNELS:
        return None
    if any(conv.bias is not None for conv in convs):
        return None
    weight = torch.block_diag(*(conv.weight.flatten(1) for conv in convs))  # type: ignore[no-untyped-call]
    return functional.conv2d(x, weight.view(outputs, channels, 1, 1))
