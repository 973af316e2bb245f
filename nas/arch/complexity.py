"""Exact cost of a network, counted on its spec without building a module.

Parameters, multiply-adds (MACs), activations and peak activation memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nas.arch.ops.network import network_ops, network_peak, network_segments
from nas.arch.ops.segments import live_elements
from nas.arch.spec import ArchSpec

BYTES_PER_ELEMENT: Final = 4  # float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Complexity:
    """Cost of one network at one resolution and batch size 1.

    ``params``: weights, biases, two per batch-norm channel. ``macs``: multiply-adds of convolutions and linear layers,
    squeeze-excite included, and of an attention's matrix products. ``activations``: output elements of those layers.
    ``peak_memory_bytes``: the largest total size of simultaneously live tensors in float32, when norm, layer scale and
    activation are folded into their convolution, channel splits are views, and a tensor is freed after its last reader;
    weights are not counted.
    """

    params: int
    macs: int
    activations: int
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """Cost of one operation at batch size 1.

    ``path``: timm's module path. ``in_shape``, ``out_shape``: (channels, side in px) of a square map. ``live_bytes``:
    size of all tensors that are live while the operation runs, in float32. The other fields are as in ``Complexity``.
    """

    path: str
    kind: str
    kernel: int
    stride: int
    in_shape: tuple[int, int]
    out_shape: tuple[int, int]
    params: int
    macs: int
    activations: int
    live_bytes: int


def complexity(spec: ArchSpec, resolution_px: int | None = None) -> Complexity:
    """Count the cost of ``spec`` at an input side of ``resolution_px``.

    ``resolution_px``: None is the spec's own. Takes tens of microseconds once the costs of its segments are cached.
    """
    params = macs = activations = peak = 0
    parts = network_segments(spec, resolution_px)
    for part in parts:
        params += part.params
        macs += part.macs
        activations += part.activations
        if part.peak_elements > peak:
            peak = part.peak_elements
    if spec.output_stride is not None:  # maps that the head reads stay live beyond their part
        peak = network_peak(parts)
    return Complexity(params=params, macs=macs, activations=activations, peak_memory_bytes=peak * BYTES_PER_ELEMENT)


def layers(spec: ArchSpec, resolution_px: int | None = None) -> tuple[LayerCost, ...]:
    """Count the cost of each operation of ``spec``, in execution order.

    Their sums, and the largest ``live_bytes``, are what ``complexity`` returns.
    """
    ops = list(network_ops(spec, resolution_px))
    return tuple(
        LayerCost(
            path=op.path,
            kind=op.kind,
            kernel=op.kernel,
            stride=op.stride,
            in_shape=(op.in_channels, op.in_px),
            out_shape=(op.out_channels, op.out_px),
            params=op.params,
            macs=op.macs,
            activations=op.activations,
            live_bytes=live * BYTES_PER_ELEMENT,
        )
        for op, live in zip(ops, live_elements(ops), strict=True)
    )
