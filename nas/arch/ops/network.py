"""Primitive operations of a network: shapes and data flow, from the spec alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from nas.arch.ops.block import PartSegments, block_ops, block_segments
from nas.arch.ops.op import Op, OpKind, out_side
from nas.arch.ops.segments import Segment
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec

__all__ = [
    "PartSegments", "Op", "OpKind", "Segment", "block_ops", "block_segments", "head_ops", "head_segments",
    "network_ops", "network_segments", "out_side", "stem_op", "stem_segments",
]  # fmt: skip


def network_ops(spec: ArchSpec, resolution_px: int | None = None) -> Iterator[Op]:
    """Iterate over all operations of ``spec`` in execution order.

    Module paths and tensor names are those of the whole network. ``resolution_px``: input side; None is the spec's own.
    """
    stem, *blocks, head = network_segments(spec, resolution_px)
    yield from stem.ops
    previous = stem.ops[-1].path
    for placed, block in zip(spec.placed_blocks(), blocks, strict=True):
        ops = block.ops
        yield from with_network_paths(ops, placed.path, previous)
        previous = f"{placed.path}.{ops[-1].path}"
    yield from with_network_paths(head.ops, "", previous)


def network_segments(spec: ArchSpec, resolution_px: int | None = None) -> list[PartSegments]:
    """List the segments of stem, blocks and head of ``spec``, in execution order.

    They are shared by all networks that have them. ``resolution_px``: input side; None is the spec's own.
    """
    stem = stem_segments(spec, resolution_px or spec.resolution_px)
    parts = [stem]
    px, channels = stem.out_px, spec.stem.channels
    act, se, has_scale = spec.activation, spec.squeeze_excite, spec.layer_scale is not None
    for stage in spec.stages:
        for block in stage.blocks:
            stride = block.stride
            for _ in range(block.repeats):
                part = block_segments(block, stride, channels, px, act, se, has_scale)
                parts.append(part)
                stride, channels, px = 1, block.channels, part.out_px
    parts.append(head_segments(spec, px))
    return parts


def stem_op(spec: ArchSpec, resolution_px: int) -> Op:
    """The stem convolution at an input side of ``resolution_px``."""
    return stem_segments(spec, resolution_px).ops[0]


def head_ops(spec: ArchSpec, px: int) -> tuple[Op, ...]:
    """List pooling, head convolution and classifier after a last map of side ``px``.

    "" among the inputs of the first operation is the last map.
    """
    return head_segments(spec, px).ops


def stem_segments(spec: ArchSpec, resolution_px: int) -> PartSegments:
    """The stem as one segment, see ``stem_op``."""
    return _stem(spec.stem, spec.in_channels, resolution_px, spec.activation)


def head_segments(spec: ArchSpec, px: int) -> PartSegments:
    """The head as one segment, see ``head_ops``."""
    return _head(spec.head, spec.stages[-1].blocks[-1].channels, spec.classes, px, spec.activation)


@lru_cache(maxsize=4096)
def _stem(stem: StemSpec, in_channels: int, px: int, act: str) -> PartSegments:
    op = Op(
        "conv", "conv_stem", ("",), in_channels, stem.channels, px, out_side(px, stem.stride),
        stem.kernel, stem.stride, norm="bn1", activation=act,
    )  # fmt: skip
    return PartSegments([Segment(op)])


@lru_cache(maxsize=4096)
def _head(head: HeadSpec, last: int, classes: int, px: int, act: str) -> PartSegments:
    """The head after a map of ``last`` channels and side ``px``."""
    width = head.channels
    if head.pools_first:
        bias, norm = head.kind == "pool_conv", "norm_head" if head.kind == "pool_conv_norm" else ""
        ops = [
            Op("pool", "global_pool", ("",), last, last, px, 1),
            Op("conv", "conv_head", ("global_pool",), last, width, 1, 1, bias=bias, norm=norm, activation=act),
        ]
    elif width:
        ops = [
            Op("conv", "conv_head", ("",), last, width, px, px, norm="bn2", activation=act),
            Op("pool", "global_pool", ("conv_head",), width, width, px, 1),
        ]
    else:
        ops = [Op("pool", "global_pool", ("",), last, last, px, 1)]
    features = ops[-1].out_channels
    classifier = Op("linear", "classifier", (ops[-1].path,), features, classes, 1, 1, bias=True)
    return PartSegments([Segment(*ops, classifier)])


def with_network_paths(ops: Sequence[Op], prefix: str, source: str) -> Iterator[Op]:
    """Convert paths relative to a block to paths in the whole network.

    ``prefix``: the block's path. ``source``: the path that "" among the inputs stands for.
    """
    dot = f"{prefix}." if prefix else ""
    for op in ops:
        inputs = tuple(f"{dot}{name}" if name else source for name in op.inputs)
        norm, scale = (dot + name if name else "" for name in (op.norm, op.scale))
        yield op._replace(path=dot + op.path, inputs=inputs, norm=norm, scale=scale)
