"""Depthwise convolutions and MixConv on the taps that meet the map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from timm.layers import Conv2dSame, get_same_padding
from torch import Tensor, nn
from torch.nn import functional

from nas.model.acceleration.depthwise_gradient import DepthwiseConvolution, KernelBlock, is_vectorised


class _Taps(NamedTuple):
    """Kernel taps of one axis that meet the map.

    From ``first`` to ``end`` (exclusive), with the padding ``before`` the map and the number of ``outputs``.
    """

    first: int
    end: int
    before: int
    outputs: int


def convolve_depthwise(convs: Sequence[nn.Conv2d], x: Tensor) -> Tensor | None:
    """Convolve channel groups of ``x``, one per depthwise convolution.

    Maps (N, C, H, W) to (N, C, H', W'). Only kernel taps that meet the map are computed: of a 9x9 kernel on a 2x2 map
    these are 3x3, on a 1x1 map a single one, a multiplication per channel. Groups are convolved together, with zeros
    around the smaller kernels, which costs less than to split and concatenate the maps. None where that does not apply:
    in another layout than channels_last, where groups differ in stride, or one of several is dilated.
    """
    taps = [(_taps(conv, x, 0), _taps(conv, x, 1)) for conv in convs]
    if len(convs) > 1 and not _can_merge(convs, taps, x):
        return None
    padding = max(rows.before for rows, _ in taps), max(columns.before for _, columns in taps)
    weight, blocks = _merged(convs, taps, padding)
    bias = convs[0].bias
    if x.shape[2:] == weight.shape[2:] == (1, 1) and padding == (0, 0):
        return _with_bias(x * weight.view(1, -1, 1, 1), bias)
    stride, outputs = (convs[0].stride[0], convs[0].stride[1]), (taps[0][0].outputs, taps[0][1].outputs)
    bottom, right = (_padding_after(convs[0], x, weight, axis, padding[axis], outputs[axis]) for axis in (0, 1))
    if not (0 <= padding[0] - bottom < stride[0] and 0 <= padding[1] - right < stride[1]):
        # Equal padding on both sides, all that torch has, would give more outputs.
        x, padding = functional.pad(x, (padding[1], right, padding[0], bottom)), (0, 0)
    if (
        not torch.is_grad_enabled()
        or convs[0].dilation != (1, 1)
        or (len(blocks) == 1 and is_vectorised(x.shape, weight.shape, outputs, stride, padding))
    ):
        return functional.conv2d(x, weight, bias, stride, padding, convs[0].dilation, len(weight))
    return _with_bias(DepthwiseConvolution.apply(x, weight, blocks, stride, padding), bias)


def _with_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    return y if bias is None else y + bias.view(1, -1, 1, 1)


def _padding_after(conv: nn.Conv2d, x: Tensor, weight: Tensor, axis: int, before: int, outputs: int) -> int:
    """Return the padding after ``axis`` of ``x``; negative for pixels not read."""
    last = conv.stride[axis] * (outputs - 1) + conv.dilation[axis] * (weight.shape[2 + axis] - 1)
    return last + 1 - before - x.shape[2 + axis]


def _can_merge(convs: Sequence[nn.Conv2d], taps: Sequence[tuple[_Taps, _Taps]], x: Tensor) -> bool:
    """Return whether groups can be one convolution that is fast in this layout."""
    return x.is_contiguous(memory_format=torch.channels_last) and all(
        conv.stride == convs[0].stride
        and conv.dilation == (1, 1)
        and conv.bias is None
        and (rows.outputs, columns.outputs) == (taps[0][0].outputs, taps[0][1].outputs)
        for conv, (rows, columns) in zip(convs, taps, strict=True)
    )


def _taps(conv: nn.Conv2d, x: Tensor, axis: int) -> _Taps:
    """Return the taps of ``conv`` along ``axis`` that meet a pixel of ``x``.

    ``axis``: 0 rows, 1 columns. Tap t of output j reads pixel j * stride - padding + t * dilation; taps that read none
    for any output are left out, unless the padding cannot be cut with them.
    """
    side, kernel, stride, dilation = x.shape[2 + axis], conv.kernel_size[axis], conv.stride[axis], conv.dilation[axis]
    if isinstance(conv, Conv2dSame):
        padding, outputs = get_same_padding(side, kernel, stride, dilation) // 2, -(-side // stride)
    else:
        padding = int(conv.padding[axis])
        outputs = (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    first = max(0, -((stride * (outputs - 1) - padding) // dilation))
    end = min(kernel, (padding + side - 1) // dilation + 1)
    if first >= end or padding < first * dilation:
        first, end = 0, kernel
    return _Taps(first=first, end=end, before=padding - first * dilation, outputs=outputs)


def _merged(
    convs: Sequence[nn.Conv2d], taps: Sequence[tuple[_Taps, _Taps]], padding: tuple[int, int]
) -> tuple[Tensor, list[KernelBlock]]:
    """Return one weight (C, 1, K, K') for all groups, and where it is not zero.

    ``padding``: rows and columns before the map that the largest taps need; the others lie within theirs.
    """
    blocks, weights = [], []
    for conv, (rows, columns) in zip(convs, taps, strict=True):
        weights.append(conv.weight[:, :, rows.first : rows.end, columns.first : columns.end])
        blocks.append(
            KernelBlock(
                channels=conv.out_channels,
                top=padding[0] - rows.before,
                left=padding[1] - columns.before,
                rows=rows.end - rows.first,
                columns=columns.end - columns.first,
            )
        )
    if len(blocks) == 1:
        return weights[0], blocks
    height = max(block.top + block.rows for block in blocks)
    width = max(block.left + block.columns for block in blocks)
    padded = [
        functional.pad(
            weight,
            (block.left, width - block.left - block.columns, block.top, height - block.top - block.rows),
        )
        for weight, block in zip(weights, blocks, strict=True)
    ]
    runs = blocks[:1]
    for block in blocks[1:]:
        if block[1:] == runs[-1][1:]:
            runs[-1] = block._replace(channels=runs[-1].channels + block.channels)
        else:
            runs.append(block)
    return torch.cat(padded), runs
