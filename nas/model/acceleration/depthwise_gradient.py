"""Depthwise convolution whose weight gradient avoids a slow kernel of torch.

oneDNN's vectorised kernel for the weight gradient takes kernels of at most 3 columns, maps at least as large as the
kernel, and padding that is a multiple of the stride (jit_uni_dw_conv_kernel_f32.cpp, init_conf). For all others torch
runs a kernel that was 2 to 4 times as slow as the way of this module: three kernel columns at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

_COLUMNS: Final = 3

_Pair: TypeAlias = tuple[int, int]


class KernelBlock(NamedTuple):
    """Rectangle of taps that are not zero, for a run of channels of a weight."""

    channels: int
    top: int
    left: int
    rows: int
    columns: int


class DepthwiseConvolution(torch.autograd.Function):
    """Depthwise convolution without dilation and bias.

    Maps x (N, C, H, W) and weight (C, 1, K, K') to (N, C, H', W'). ``blocks`` cover all channels in order. The weight's
    gradient is computed for their taps and is zero elsewhere.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, blocks: Sequence[KernelBlock], stride: _Pair, padding: _Pair) -> Tensor:
        return functional.conv2d(x, weight, None, stride, padding, 1, len(weight))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, ctx.blocks, ctx.stride, ctx.padding = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = _input_gradient(grads[0], x, weight, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[1]:
            grad_weight = _weight_gradient(grads[0], x, weight, ctx.blocks, ctx.stride, ctx.padding)
        return grad_x, grad_weight, None, None, None


def is_vectorised(x: Sequence[int], weight: Sequence[int], outputs: _Pair, stride: _Pair, padding: _Pair) -> bool:
    """Return whether oneDNN's vectorised weight gradient takes these shapes."""
    return (
        stride[1] <= weight[3] <= _COLUMNS
        and _takes_padding(x[2], weight[2], outputs[0], stride[0], padding[0])
        and _takes_padding(x[3], weight[3], outputs[1], stride[1], padding[1])
    )


def _takes_padding(side: int, kernel: int, outputs: int, stride: int, padding: int) -> bool:
    """Return whether it takes equal padding before and after one axis."""
    after = (outputs - 1) * stride + kernel - side - padding
    return (
        0 <= padding - after < stride  # torch finds the same number of outputs
        and side >= kernel + -padding % stride
        and all(amount <= kernel // 2 and (amount <= 1 or amount % stride == 0) for amount in (padding, after))
    )


def _input_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: _Pair, padding: _Pair) -> Tensor:
    """Return the gradient by the input, (N, C, H, W).

    With stride 1 it is a convolution with the flipped kernel, up to twice as fast as oneDNN's own.
    """
    full = weight.shape[2] - 1 - padding[0], weight.shape[3] - 1 - padding[1]
    if stride == (1, 1) and min(full) >= 0:
        return functional.conv2d(grad, weight.flip(2, 3), None, 1, full, 1, len(weight))
    return _torch_gradient(grad, x, weight, stride, padding, (True, False, False))


def _weight_gradient(
    grad: Tensor, x: Tensor, weight: Tensor, blocks: Sequence[KernelBlock], stride: _Pair, padding: _Pair
) -> Tensor:
    """Return the gradient by the weight, (C, 1, K, K'), computed within ``blocks``."""
    channels = [block.channels for block in blocks]
    parts = []
    for block, image, gradient, kernel in zip(
        blocks, torch.split(x, channels, 1), torch.split(grad, channels, 1), torch.split(weight, channels), strict=True
    ):
        top, left = padding[0] - block.top, padding[1] - block.left
        image = image[:, :, max(0, -top) :, max(0, -left) :]
        kernel = kernel[:, :, block.top : block.top + block.rows, block.left : block.left + block.columns]
        part = _block_gradient(gradient, image, kernel, stride, (max(0, top), max(0, left)))
        right, bottom = weight.shape[3] - block.left - block.columns, weight.shape[2] - block.top - block.rows
        parts.append(functional.pad(part, (block.left, right, block.top, bottom)))
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _block_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: _Pair, padding: _Pair) -> Tensor:
    """Return the gradient by a weight (C, 1, K, K') without zeros.

    It is computed for ``_COLUMNS`` kernel columns at a time. In memory of rows (N, H, W, C) that end with zeros, x
    shifted by a column is the same memory from C elements later: nothing is copied. Outputs past the last column have
    gradient 0. ``padding`` is that before the map.
    """
    outputs = grad.shape[2], grad.shape[3]
    if is_vectorised(x.shape, weight.shape, outputs, stride, padding):
        return _torch_gradient(grad, x, weight, stride, padding, (False, True, False))
    height, kernel_columns = x.shape[2], weight.shape[3]
    columns, row_pad, top = min(_COLUMNS, kernel_columns), padding[0], 0
    if not _takes_padding(height, weight.shape[2], outputs[0], stride[0], row_pad):
        height, row_pad, top = stride[0] * (outputs[0] - 1) + weight.shape[2], 0, row_pad
    reach = stride[1] * (outputs[1] - 1)
    width = max(x.shape[3] + padding[1], reach + kernel_columns - padding[1], reach + columns)
    shifted = _ShiftedRows.copy(
        x, height=height, width=width, top=top, left=padding[1], shifts=kernel_columns - columns
    )
    grad = functional.pad(grad, (0, (width - columns) // stride[1] + 1 - outputs[1]))
    grad = grad.contiguous(memory_format=torch.channels_last)
    parts, done = [], 0
    while done < kernel_columns:
        first = min(done, kernel_columns - columns)  # the last part overlaps the one before it
        part = _torch_gradient(
            grad, shifted.view(first), weight[..., :columns], stride, (row_pad, 0), (False, True, False)
        )
        parts.append(part[..., done - first :])
        done = first + columns
    return torch.cat(parts, 3) if len(parts) > 1 else parts[0]


class _ShiftedRows(NamedTuple):
    """Copy of x (N, C, H, W) in memory, with zeros before, between and after its rows.

    ``shape``: (N, H', W', C) of the rows with the zeros after them.
    """

    memory: Tensor
    shape: tuple[int, int, int, int]

    @classmethod
    def copy(cls, x: Tensor, *, height: int, width: int, top: int, left: int, shifts: int) -> _ShiftedRows:
        """Copy ``x`` to rows (N, ``height``, ``width``, C).

        ``top`` rows of zeros are above it. ``left`` columns of padding are the zeros at the end of the row before.
        """
        count, channels = x.shape[:2]
        shape = count, height, width, channels
        size, start = count * height * width * channels, left * channels
        memory = x.new_zeros(max(start, shifts * channels) + size)
        rows = min(x.shape[2], height - top)
        body = memory[start : start + size].view(shape)
        body[:, top : top + rows, : x.shape[3]] = x.permute(0, 2, 3, 1)[:, :rows]
        return cls(memory, shape)

    def view(self, shift: int) -> Tensor:
        """Return x moved left by ``shift`` - ``left`` columns, (N, C, H', W')."""
        count, height, width, channels = self.shape
        start, size = shift * channels, count * height * width * channels
        return self.memory[start : start + size].view(self.shape).permute(0, 3, 1, 2)


def _torch_gradient(
    grad: Tensor, x: Tensor, weight: Tensor, stride: _Pair, padding: _Pair, mask: tuple[bool, bool, bool]
) -> Tensor:
    """Return torch's gradient by the input or the weight, as ``mask`` selects."""
    gradients = torch.ops.aten.convolution_backward(
        grad, x, weight, None, stride, padding, (1, 1), False, (0, 0), len(weight), mask
    )
    gradient: Tensor = gradients[mask.index(True)]
    return gradient
