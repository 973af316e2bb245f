"""Exact cost of a network, counted on its spec without building a module.

Parameters, multiply-adds (MACs), activations and peak activation memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from nas.arch.blocks import BlockSpec
from nas.arch.ops.network import Op, block_ops, head_ops, network_ops, stem_op
from nas.arch.parts import SqueezeExcite
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


class _Cost(NamedTuple):
    params: int
    macs: int
    activations: int
    peak_elements: int
    out_px: int


def complexity(spec: ArchSpec, resolution_px: int | None = None) -> Complexity:
    """Count the cost of ``spec`` at an input side of ``resolution_px``.

    ``resolution_px``: None is the spec's own. Takes tens of microseconds once the costs of its blocks are cached.
    """
    stem = stem_op(spec, resolution_px or spec.resolution_px)
    params, macs, activations = stem.params, stem.macs, stem.activations
    peak, px = stem.in_elements + stem.out_elements, stem.out_px
    act, se, channels = spec.activation, spec.squeeze_excite, spec.stem.channels
    scaled = spec.layer_scale is not None
    for stage in spec.stages:
        for block in stage.blocks:
            for repeat in range(block.repeats):
                cost = _block_cost(block, block.stride if repeat == 0 else 1, channels, px, act, se, scaled)
                params += cost.params
                macs += cost.macs
                activations += cost.activations
                peak = max(peak, cost.peak_elements)
                px, channels = cost.out_px, block.channels
    head = _total(head_ops(spec, px))
    return Complexity(
        params=params + head.params,
        macs=macs + head.macs,
        activations=activations + head.activations,
        peak_memory_bytes=max(peak, head.peak_elements) * BYTES_PER_ELEMENT,
    )


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


def live_elements(ops: Sequence[Op]) -> list[int]:
    """Count the live tensor elements during each of ``ops``.

    These are its inputs, its output, and every tensor that a later operation still reads. A split is a view: its parts
    keep the tensor that it splits alive and add nothing.
    """
    base = {op.path: op.inputs[0] for op in ops if op.kind == "split"}
    reads = [tuple(base.get(name.partition(":")[0], name) for name in op.inputs) for op in ops]
    last_read = {name: index for index, names in enumerate(reads) for name in names}
    sizes = {name: ops[0].in_elements for name in reads[0]}
    live, result = sum(sizes.values()), []
    for index, op in enumerate(ops):
        if op.kind != "split":
            sizes[op.path] = op.out_elements
            live += op.out_elements
        result.append(live)
        for name in [name for name in sizes if last_read.get(name, len(ops)) <= index]:
            live -= sizes.pop(name)
    return result


@lru_cache(maxsize=65536)
def _block_cost(
    block: BlockSpec, stride: int, in_channels: int, px: int, activation: str, se: SqueezeExcite, scaled: bool
) -> _Cost:
    return _total(block_ops(block, stride, in_channels, px, activation, se, layer_scale=scaled))


def _total(ops: Sequence[Op]) -> _Cost:
    return _Cost(
        params=sum(op.params for op in ops),
        macs=sum(op.macs for op in ops),
        activations=sum(op.activations for op in ops),
        peak_elements=max(live_elements(ops)),
        out_px=ops[-1].out_px,
    )
