"""Primitive operations of one block, enumerated from its spec by block type."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from nas.arch.blocks import SCALED_TYPES, BlockSpec
from nas.arch.ops.op import Op, out_side
from nas.arch.parts import SqueezeExcite
from nas.arch.rounding import split_channels
from nas.arch.spec import can_skip, hidden_channels, spatial_groups


@lru_cache(maxsize=65536)
def block_ops(
    block: BlockSpec,
    stride: int,
    in_channels: int,
    px: int,
    activation: str,
    se: SqueezeExcite,
    *,
    layer_scale: bool = False,
) -> tuple[Op, ...]:
    """List the operations of one block (repeats ignored) in execution order.

    The block's input is ``(1, in_channels, px, px)``. Paths are relative to the block; "" among the inputs is the
    block's input. The output of the last operation is the block's.
    """
    act = block.activation or activation
    hidden, out_px = hidden_channels(block, in_channels), out_side(px, stride)
    if block.type == "cn":
        ops = [_spatial(block, "conv", in_channels, block.channels, px, stride, act)]
    elif block.type == "er":
        ops = [_spatial(block, "conv_exp", in_channels, hidden, px, stride, act)]
        ops += _squeeze_excite(ops[-1], block, se, act)
        ops += _pointwise("conv_pwl", ops[-1], block.channels, block.project_kernels, "bn2", None)
    elif block.type == "uir":
        ops = _universal_block(block, stride, in_channels, hidden, px, act, se)
    elif block.type == "mqa":
        ops = _attention_block(block, in_channels, px)
    else:
        ops = _depthwise_block(block, stride, in_channels, hidden, px, act, se)
    if layer_scale and block.type in SCALED_TYPES:
        ops[-1] = ops[-1]._replace(scale="layer_scale")
    if block.skip and can_skip(block, stride, in_channels):
        last = ops[-1]
        ops.append(Op("add", "add", (last.path, ""), 2 * last.out_channels, last.out_channels, out_px, out_px))
    return tuple(ops)


def _spatial(block: BlockSpec, path: str, in_channels: int, out_channels: int, px: int, stride: int, act: str) -> Op:
    """First convolution of a cn or er block: dense or grouped, k x k."""
    groups = spatial_groups(block, in_channels)
    op = Op(
        "conv", path, ("",), in_channels, out_channels, px, out_side(px, stride),
        block.kernels[0], stride, norm="bn1", activation=act, groups=groups,
    )  # fmt: skip
    return op._replace(kind="depthwise", groups=1) if groups == in_channels == out_channels > 1 else op


def _depthwise_block(
    block: BlockSpec, stride: int, in_channels: int, hidden: int, px: int, act: str, se: SqueezeExcite
) -> list[Op]:
    """Operations of ir, ds and dsa blocks.

    In this order: [expand], depthwise, [squeeze-excite], project.
    """
    ops: list[Op] = []
    source = Op("pool", "", (), in_channels, in_channels, px, px)  # placeholder for the block's input
    names = ("bn1", "bn2") if block.type != "ir" else ("bn2", "bn3")
    if block.type == "ir":
        ops += _pointwise("conv_pw", source, hidden, block.expand_kernels, "bn1", act)
        source = ops[-1]
    groups = spatial_groups(block, in_channels)
    if groups == hidden:
        ops += _depthwise(block, source, stride, names[0], act)
    else:
        ops.append(
            Op(
                "conv", "conv_dw", (source.path,), hidden, hidden, px, out_side(px, stride),
                block.kernels[0], stride, norm=names[0], activation=act, groups=groups,
            )
        )  # fmt: skip
    ops += _squeeze_excite(ops[-1], block, se, act)
    path = "conv_pwl" if block.type == "ir" else "conv_pw"
    ops += _pointwise(
        path, ops[-1], block.channels, block.project_kernels, names[1], act if block.type == "dsa" else None
    )
    return ops


def _universal_block(
    block: BlockSpec, stride: int, in_channels: int, hidden: int, px: int, act: str, se: SqueezeExcite
) -> list[Op]:
    """Operations of uir blocks.

    In this order: [depthwise], expand, [depthwise], [squeeze-excite], project, [depthwise]. The middle depthwise
    convolution has the stride; without it the one at the start, without both the one at the end.
    """
    middle = block.kernels[0]
    strided = "dw_mid" if middle else "dw_start" if block.start_kernel else "dw_end"
    ops = [Op("pool", "", (), in_channels, in_channels, px, px)]  # placeholder for the block's input

    def depthwise(name: str, side: int, activation: str | None) -> None:
        if not side:
            return
        source, step = ops[-1], stride if name == strided else 1
        width, out_px = source.out_channels, out_side(source.out_px, step)
        ops.append(
            Op(
                "depthwise", f"{name}.conv", (source.path,), width, width, source.out_px, out_px,
                side, step, norm=f"{name}.bn", activation=activation,
            )
        )  # fmt: skip

    depthwise("dw_start", block.start_kernel, None)
    ops += _pointwise("pw_exp.conv", ops[-1], hidden, (1,), "pw_exp.bn", act)
    depthwise("dw_mid", middle, act)
    ops += _squeeze_excite(ops[-1], block, se, act)
    ops += _pointwise("pw_proj.conv", ops[-1], block.channels, (1,), "pw_proj.bn", None)
    depthwise("dw_end", block.end_kernel, None)
    return ops[1:]


def _attention_block(block: BlockSpec, in_channels: int, px: int) -> list[Op]:
    """Operations of mqa blocks.

    In this order: norm, a query per head, one key and one value map (both downsampled by ``kv_stride``), the two matrix
    products, project.
    """
    queries, kv_px = block.heads * block.key_channels, out_side(px, block.kv_stride)
    norm = Op("norm", "norm", ("",), in_channels, in_channels, px, px, norm="norm")
    ops = [norm, Op("conv", "attn.query.proj", ("norm",), in_channels, queries, px, px)]
    for name in ("attn.key", "attn.value"):
        source = norm
        if block.kv_stride > 1:
            source = Op(
                "depthwise", f"{name}.down_conv", ("norm",), in_channels, in_channels, px, kv_px,
                block.kernels[0], block.kv_stride, norm=f"{name}.norm",
            )  # fmt: skip
            ops.append(source)
        ops.append(Op("conv", f"{name}.proj", (source.path,), in_channels, block.key_channels, kv_px, kv_px))
    weights = block.heads * kv_px * kv_px
    products = (
        ("attn.logits", ("attn.query.proj", "attn.key.proj"), queries, weights, "softmax"),
        ("attn.heads", ("attn.logits", "attn.value.proj"), weights, queries, None),
    )
    for path, inputs, ins, outs, activation in products:
        ops.append(Op("matmul", path, inputs, ins, outs, px, px, activation=activation, groups=block.heads))
    return [*ops, Op("conv", "attn.output.proj", ("attn.heads",), queries, block.channels, px, px)]


def _depthwise(block: BlockSpec, source: Op, stride: int, norm: str, act: str) -> list[Op]:
    channels, px = source.out_channels, source.out_px
    out_px = out_side(px, stride)
    splits = split_channels(channels, len(block.kernels), block.partition)
    convs = []
    for (side, dilation), width in zip(block.effective_kernels(stride), splits, strict=True):
        convs.append(
            Op("depthwise", "conv_dw", (source.path,), width, width, px, out_px, side, stride, dilation, norm=norm)
        )
    return _with_split(convs, source, splits, act)


def _pointwise(
    path: str, source: Op, out_channels: int, kernels: tuple[int, ...], norm: str, act: str | None
) -> list[Op]:
    """A 1x1 convolution, or its grouped form.

    Group j maps part j of the input to part j of the output.
    """
    px = source.out_px
    ins, outs = split_channels(source.out_channels, len(kernels)), split_channels(out_channels, len(kernels))
    convs = [
        Op("conv", path, (source.path,), width_in, width_out, px, px, kernel, norm=norm)
        for kernel, width_in, width_out in zip(kernels, ins, outs, strict=True)
    ]
    return _with_split(convs, source, ins, act)


def _with_split(convs: Sequence[Op], source: Op, splits: tuple[int, ...], act: str | None) -> list[Op]:
    """Wrap several convolutions in a split and a concat; a single one is unchanged.

    Paths are those of timm's ``MixedConv2d``.
    """
    if len(convs) == 1:
        return [convs[0]._replace(activation=act)]
    path = convs[0].path
    channels, px = source.out_channels, source.out_px
    split = Op("split", f"{path}.split", (source.path,), channels, channels, px, px, parts=splits)
    groups = [conv._replace(path=f"{path}.{i}", inputs=(f"{split.path}:{i}",)) for i, conv in enumerate(convs)]
    width, out_px = sum(conv.out_channels for conv in groups), groups[0].out_px
    inputs = tuple(conv.path for conv in groups)
    return [split, *groups, Op("concat", path, inputs, width, width, out_px, out_px, activation=act)]


def _squeeze_excite(source: Op, block: BlockSpec, se: SqueezeExcite, act: str) -> list[Op]:
    if not block.se_ratio:
        return []
    channels, px = source.out_channels, source.out_px
    squeeze = se.squeeze_channels(block, channels)
    inner = se.activation or act
    return [
        Op("pool", "se.pool", (source.path,), channels, channels, px, 1),
        Op("conv", "se.conv_reduce", ("se.pool",), channels, squeeze, 1, 1, bias=True, activation=inner),
        Op("conv", "se.conv_expand", ("se.conv_reduce",), squeeze, channels, 1, 1, bias=True, activation=se.gate),
        Op("scale", "se", (source.path, "se.conv_expand"), channels, channels, px, px),
    ]
