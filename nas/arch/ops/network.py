"""Primitive operations of a network: shapes and data flow, from the spec alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nas.arch.ops.block import block_ops
from nas.arch.ops.op import Op, OpKind, out_side
from nas.arch.spec import ArchSpec

__all__ = ["Op", "OpKind", "block_ops", "head_ops", "network_ops", "out_side", "stem_op"]


def network_ops(spec: ArchSpec, resolution_px: int | None = None) -> Iterator[Op]:
    """Iterate over all operations of ``spec`` in execution order.

    Module paths and tensor names are those of the whole network. ``resolution_px``: input side; None is the spec's own.
    """
    px = out_side(resolution_px or spec.resolution_px, spec.stem.stride)
    stem = stem_op(spec, resolution_px or spec.resolution_px)
    yield stem
    previous = stem.path
    for placed in spec.placed_blocks():
        ops = block_ops(
            placed.block, placed.stride, placed.in_channels, px, spec.activation, spec.squeeze_excite,
            layer_scale=spec.layer_scale is not None,
        )  # fmt: skip
        yield from _with_network_paths(ops, placed.path, previous)
        previous, px = f"{placed.path}.{ops[-1].path}", ops[-1].out_px
    yield from _with_network_paths(head_ops(spec, px), "", previous)


def stem_op(spec: ArchSpec, resolution_px: int) -> Op:
    """The stem convolution at an input side of ``resolution_px``."""
    stem, px = spec.stem, resolution_px
    return Op(
        "conv", "conv_stem", ("",), spec.in_channels, stem.channels, px, out_side(px, stem.stride),
        stem.kernel, stem.stride, norm="bn1", activation=spec.activation,
    )  # fmt: skip


def head_ops(spec: ArchSpec, px: int) -> list[Op]:
    """List pooling, head convolution and classifier after a last map of side ``px``.

    "" among the inputs of the first operation is the last map.
    """
    last, width, act = spec.stages[-1].blocks[-1].channels, spec.head.channels, spec.activation
    if spec.head.pools_first:
        bias, norm = spec.head.kind == "pool_conv", "norm_head" if spec.head.kind == "pool_conv_norm" else ""
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
    return [*ops, Op("linear", "classifier", (ops[-1].path,), features, spec.classes, 1, 1, bias=True)]


def _with_network_paths(ops: Sequence[Op], prefix: str, source: str) -> Iterator[Op]:
    """Convert paths relative to a block to paths in the whole network.

    ``prefix``: the block's path. ``source``: the path that "" among the inputs stands for.
    """
    dot = f"{prefix}." if prefix else ""
    for op in ops:
        inputs = tuple(f"{dot}{name}" if name else source for name in op.inputs)
        norm, scale = (dot + name if name else "" for name in (op.norm, op.scale))
        yield op._replace(path=dot + op.path, inputs=inputs, norm=norm, scale=scale)
