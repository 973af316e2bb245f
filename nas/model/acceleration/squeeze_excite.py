"""Squeeze-excite with a backward pass that moves less memory."""

from __future__ import annotations

from typing import Any, Final

import torch
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor

# Elements of a tensor that stay in the second-level cache of a core, together with two more of that size.
_CACHED: Final = 2**16
_MIN_PIXELS: Final = 64  # on smaller maps its steps cost as much as they save


def squeeze_excite(layer: SqueezeExcite, x: Tensor) -> Tensor | None:
    """Scale the channels of ``x`` (N, C, H, W); None where it is no gain."""
    if x.shape[2] * x.shape[3] < _MIN_PIXELS or not torch.is_grad_enabled():
        return None
    squeezed: Tensor = _Mean.apply(x)
    gate = layer.gate(layer.conv_expand(layer.act1(layer.conv_reduce(squeezed))))
    product: Tensor = _Product.apply(x, gate)
    return product


class _Mean(torch.autograd.Function):
    """Mean over pixels: (N, C, H, W) to (N, C, 1, 1).

    Its gradient is not written out for every pixel, as torch's is, and in another layout than that of the input.
    """

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.shape = inputs[0].shape

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        count, channels, height, width = ctx.shape
        gradient: Tensor = (grads[0] / (height * width)).expand(count, channels, height, width)
        return gradient


class _Product(torch.autograd.Function):
    """Product of x (N, C, H, W) and a gate (N, C, 1, 1).

    The gate's gradient is summed while the products are in the cache.
    """

    @staticmethod
    def forward(x: Tensor, gate: Tensor) -> Tensor:
        return x * gate

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        x, gate = ctx.saved_tensors
        count = max(1, _CACHED // x[0].numel())
        sums = [
            (images * gradients).sum((2, 3), keepdim=True)
            for images, gradients in zip(torch.split(x, count), torch.split(grads[0], count), strict=True)
        ]
        return grads[0] * gate, torch.cat(sums)
