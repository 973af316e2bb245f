"""Weights of rewritten convolutions, from those of the convolutions they replace."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from nas.arch.ops.network import Op
from nas.arch.spec import Padding
from nas.exporters.rewriting.channels import Channels
from nas.exporters.rewriting.kernels import left_pad
from nas.exporters.rewriting.segments import Derivation

WeightArray = npt.NDArray[np.float32]
Parameters = tuple[WeightArray, WeightArray]  # weight and bias
Folded = Callable[[Op], Parameters]


def weight_shape(op: Op) -> tuple[int, ...]:
    """Return the shape of a layer's weight.

    (out, in / groups, kernel, kernel) of a convolution, (out, in) of a linear layer, (out,) of a norm.
    """
    if op.kind == "norm":
        return (op.out_channels,)
    if op.kind == "linear":
        return (op.out_channels, op.in_channels)
    return (op.out_channels, 1 if op.kind == "depthwise" else op.in_channels // op.groups, op.kernel, op.kernel)


def derived_parameters(op: Op, derivation: Derivation, folded: Folded, padding: Padding) -> Parameters:
    """Weight and bias of a rewritten convolution, float32.

    Shapes: ``weight_shape(op)`` and (out_channels,). ``folded``: weight and bias of a convolution of the plain block.
    """
    sources = [(source, first, *folded(source)) for source, first in derivation.sources]
    outs = _indices(derivation.outs)
    biases = np.concatenate([*(bias for _, _, _, bias in sources), np.zeros(1, dtype=np.float32)])
    bias = biases[outs] if derivation.has_bias else np.zeros(len(outs), dtype=np.float32)
    if op.kind == "depthwise":
        kernels = [_placed(weight, source, op, padding) for source, _, weight, _ in sources]
        blank = np.zeros((1, 1, op.kernel, op.kernel), dtype=np.float32)
        return np.concatenate([*kernels, blank])[outs], bias
    whole = _dense([(first, weight.reshape(len(weight), -1)) for _, first, weight, _ in sources])
    chosen = whole[np.ix_(outs, _indices(derivation.ins))]
    return _diagonal_blocks(chosen, op.groups).reshape(weight_shape(op)), bias


def _indices(channels: Channels) -> npt.NDArray[np.int64]:
    """Logical channel of each channel, -1 for one of zeros."""
    return np.concatenate([np.r_[run.start : run.start + run.size, np.full(run.zeros, -1)] for run in channels]).astype(
        np.int64
    )


def _placed(weight: WeightArray, source: Op, op: Op, padding: Padding) -> WeightArray:
    """Depthwise kernels (C, 1, k, k) of ``source`` at their place in those of ``op``.

    They get the side and dilation of ``op``. Taps that ``op`` does not have meet no pixel.
    """
    if (source.kernel, source.dilation) == (op.kernel, op.dilation):
        return weight
    result = np.zeros((len(weight), 1, op.kernel, op.kernel), dtype=np.float32)
    shift = left_pad(op, padding) - left_pad(source, padding)
    places = {tap: place for tap in range(source.kernel) if 0 <= (place := shift + tap * source.dilation) < op.kernel}
    taps, rows = list(places), list(places.values())
    result[np.ix_(range(len(weight)), [0], rows, rows)] = weight[np.ix_(range(len(weight)), [0], taps, taps)]
    return result


def _dense(blocks: list[tuple[int, WeightArray]]) -> WeightArray:
    """Matrix of ``blocks`` one below the other, with zeros beside them.

    Each begins at its first column. A last row and a last column of zeros are those of channels of zeros, -1.
    """
    height = sum(len(block) for _, block in blocks)
    width = max(first + block.shape[1] for first, block in blocks)
    whole = np.zeros((height + 1, width + 1), dtype=np.float32)
    row = 0
    for first, block in blocks:
        whole[row : row + len(block), first : first + block.shape[1]] = block
        row += len(block)
    return whole


def _diagonal_blocks(matrix: WeightArray, groups: int) -> WeightArray:
    """Weight of a grouped convolution: the diagonal blocks of ``matrix``.

    They are one below the other.
    """
    rows, columns = (side // groups for side in matrix.shape)
    return np.concatenate([matrix[group * rows :, group * columns :][:rows, :columns] for group in range(groups)])
