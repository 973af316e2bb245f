"""Kernels that merge those of several convolutions, or lack useless taps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from nas.arch.ops.network import Op
from nas.arch.spec import Padding


def common_kernel(convs: Sequence[Op]) -> tuple[int, int]:
    """Side and dilation of the smallest kernel that has the taps of all ``convs``."""
    if len({(conv.kernel, conv.dilation) for conv in convs}) == 1:
        return convs[0].kernel, convs[0].dilation
    return max(conv.dilation * (conv.kernel - 1) + 1 for conv in convs), 1


@lru_cache(maxsize=65536)
def cropped(op: Op, padding: Padding) -> Op:
    """``op`` with the smallest odd kernel that has every tap that meets a pixel."""
    for side in range(1, op.kernel, 2) if op.dilation == 1 else ():
        smaller = op._replace(kernel=side)
        first = left_pad(op, padding) - left_pad(smaller, padding)
        lost = [tap for tap in range(op.kernel) if not first <= tap < first + side]
        if first >= 0 and not any(_meets_pixels(op, tap, padding) for tap in lost):
            return smaller
    return op


def left_pad(op: Op, padding: Padding) -> int:
    """Pixels that are added at the left of the input of a convolution."""
    _, left, _, _ = pads(op, padding)
    return left


def pads(op: Op, padding: Padding) -> list[int]:
    """Return ONNX pads [top, left, bottom, right] in px.

    TensorFlow's ``same`` puts the odd px at the bottom right.
    """
    reach = op.dilation * (op.kernel - 1)
    if padding == "symmetric":
        return [reach // 2] * 4
    total = max(0, (op.out_px - 1) * op.stride + reach + 1 - op.in_px)
    return [total // 2] * 2 + [total - total // 2] * 2


def _meets_pixels(op: Op, tap: int, padding: Padding) -> bool:
    """Whether column ``tap`` of the kernel is inside the map at any position."""
    start = tap - left_pad(op, padding)
    return any(0 <= position * op.stride + start < op.in_px for position in range(op.out_px))
