"""Primitive operations of one block, enumerated from its spec by block type.

Blocks differ in many combinations of few choices. They are made of segments, each of which depends on some of the
choices only, so that different blocks share them, and everything that is derived from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from nas.arch.blocks import SCALED_TYPES, BlockSpec
from nas.arch.ops.op import Op, out_side
from nas.arch.ops.segments import (
    Segment,
    depthwise_segment,
    live_elements,
    pointwise_segment,
    residual_addition,
    squeeze_excite_segment,
)
from nas.arch.parts import SqueezeExcite
from nas.arch.spec import can_skip, hidden_channels, spatial_groups


class PartSegments:
    """Segments of one part of a network in order: stem, a block or head.

    ``addition``: a block's residual addition of the last segment's output and the block's input, None without one.
    ``taps``: paths in it of the tensors that the head of a detector or segmenter reads. ``out_px``: side of its output
    in px. ``params``, ``macs``, ``activations``, ``peak_elements``: of the whole part, as of a segment. Compared by
    identity, as segments are.
    """

    __slots__ = ("activations", "addition", "macs", "out_px", "params", "peak_elements", "segments", "taps")

    def __init__(self, segments: Sequence[Segment], addition: Op | None = None, taps: tuple[str, ...] = ()) -> None:
        self.segments, self.addition, self.taps = tuple(segments), addition, taps
        first = segments[0]
        params, macs, activations, peak = first.params, first.macs, first.activations, first.peak_elements
        kept = 0  # elements of the block's input, which stays live for the addition
        if addition:
            kept = addition.out_elements
            peak = max(first.kept_peak, addition.in_elements + kept)
        for segment in segments[1:]:
            params, macs = params + segment.params, macs + segment.macs
            activations += segment.activations
            peak = max(peak, segment.peak_elements + kept)
        self.params, self.macs, self.activations, self.peak_elements = params, macs, activations, peak
        self.out_px = segments[-1].out_px

    @property
    def ops(self) -> tuple[Op, ...]:
        """Operations of the part in execution order."""
        ops = tuple([op for segment in self.segments for op in segment.ops])
        return (*ops, self.addition) if self.addition else ops


def block_ops(
    block: BlockSpec,
    stride: int,
    in_channels: int,
    px: int,
    activation: str,
    se: SqueezeExcite,
    *,
    layer_scale: bool = False,
    dilation: int = 1,
) -> tuple[Op, ...]:
    """List the operations of one block (repeats ignored) in execution order.

    The block's input is ``(1, in_channels, px, px)``. Paths are relative to the block; "" among the inputs is the
    block's input. The output of the last operation is the block's. ``dilation``: of all its convolutions, instead of a
    stride before.
    """
    return block_segments(block, stride, in_channels, px, activation, se, layer_scale, dilation).ops


@lru_cache(maxsize=65536)
def block_segments(
    block: BlockSpec,
    stride: int,
    in_channels: int,
    px: int,
    activation: str,
    se: SqueezeExcite,
    layer_scale: bool,
    dilation: int = 1,
) -> PartSegments:
    """Segments of one block, see ``block_ops``."""
    act = block.activation or activation
    hidden = hidden_channels(block, in_channels)
    if block.type == "cn":
        segments = [Segment(_spatial(block, "conv", in_channels, block.channels, px, stride, act, dilation))]
    elif block.type == "er":
        segments = [Segment(_spatial(block, "conv_exp", in_channels, hidden, px, stride, act, dilation))]
        segments += _squeezed("conv_exp", block, hidden, out_side(px, stride), se, act)
        segments.append(_projection("conv_pwl", segments, block, hidden, out_side(px, stride), "bn2", None))
    elif block.type == "uir":
        segments = [Segment(*_universal_block(block, stride, in_channels, hidden, px, act, se, dilation))]
    elif block.type == "mqa":
        segments = [Segment(*_attention_block(block, in_channels, px, dilation))]
    else:
        segments = _depthwise_block(block, stride, in_channels, hidden, px, act, se, dilation)
    if layer_scale and block.type in SCALED_TYPES:
        *ops, last = segments[-1].ops
        segments[-1] = Segment(*ops, last._replace(scale="layer_scale"))
    addition = None
    if block.skip and can_skip(block, stride, in_channels):
        addition = residual_addition(segments[-1].ops[-1].path, block.channels, px)
    return PartSegments(segments, addition)


def _spatial(
    block: BlockSpec, path: str, in_channels: int, out_channels: int, px: int, stride: int, act: str, dilation: int
) -> Op:
    """First convolution of a cn or er block: dense or grouped, k x k."""
    groups = spatial_groups(block, in_channels)
    op = Op(
        "conv", path, ("",), in_channels, out_channels, px, out_side(px, stride),
        block.kernels[0], stride, dilation, norm="bn1", activation=act, groups=groups,
    )  # fmt: skip
    return op._replace(kind="depthwise", groups=1) if groups == in_channels == out_channels > 1 else op


def _depthwise_block(
    block: BlockSpec, stride: int, in_channels: int, hidden: int, px: int, act: str, se: SqueezeExcite, dilation: int
) -> list[Segment]:
    """Segments of ir, ds and dsa blocks.

    In this order: [expand], depthwise, [squeeze-excite], project.
    """
    segments, source, names = [], "", ("bn1", "bn2")
    if block.type == "ir":
        segments.append(pointwise_segment("conv_pw", "", in_channels, px, hidden, block.expand_kernels, "bn1", act))
        source, names = "conv_pw", ("bn2", "bn3")
    out_px = out_side(px, stride)
    if block.group_size is None or spatial_groups(block, in_channels) == hidden:
        kernels = block.effective_kernels(stride)
        if dilation > 1:
            kernels = tuple([(side, own * dilation) for side, own in kernels])
        segments.append(depthwise_segment(source, hidden, px, stride, kernels, block.partition, names[0], act))
    else:
        conv = Op(
            "conv", "conv_dw", (source,), hidden, hidden, px, out_px,
            block.kernels[0], stride, dilation, norm=names[0], activation=act,
            groups=spatial_groups(block, in_channels),
        )  # fmt: skip
        segments.append(Segment(conv))
    segments += _squeezed("conv_dw", block, hidden, out_px, se, act)
    path, last_act = ("conv_pwl", None) if block.type == "ir" else ("conv_pw", act if block.type == "dsa" else None)
    segments.append(_projection(path, segments, block, hidden, out_px, names[1], last_act))
    return segments


def _universal_block(
    block: BlockSpec, stride: int, in_channels: int, hidden: int, px: int, act: str, se: SqueezeExcite, dilation: int
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
                side, step, dilation, norm=f"{name}.bn", activation=activation,
            )
        )  # fmt: skip

    depthwise("dw_start", block.start_kernel, None)
    source = ops[-1]
    ops += pointwise_segment(
        "pw_exp.conv", source.path, source.out_channels, source.out_px, hidden, (1,), "pw_exp.bn", act
    ).ops
    depthwise("dw_mid", middle, act)
    source = ops[-1]
    for segment in _squeezed(source.path, block, hidden, source.out_px, se, act):
        ops += segment.ops
    path, px = ops[-1].path, source.out_px
    ops += pointwise_segment("pw_proj.conv", path, hidden, px, block.channels, (1,), "pw_proj.bn", None).ops
    depthwise("dw_end", block.end_kernel, None)
    return ops[1:]


def _attention_block(block: BlockSpec, in_channels: int, px: int, dilation: int) -> list[Op]:
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
                block.kernels[0], block.kv_stride, dilation, norm=f"{name}.norm",
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


def _projection(
    path: str, before: Sequence[Segment], block: BlockSpec, hidden: int, px: int, norm: str, act: str | None
) -> Segment:
    """The 1x1 convolution that ends ``block``, after the segments ``before``."""
    source = before[-1].ops[-1].path
    return pointwise_segment(path, source, hidden, px, block.channels, block.project_kernels, norm, act)


def _squeezed(source: str, block: BlockSpec, hidden: int, px: int, se: SqueezeExcite, act: str) -> tuple[Segment, ...]:
    """The squeeze-excite of ``block`` on the tensor ``source``, if there is one."""
    if not block.se_ratio:
        return ()
    squeeze = se.squeeze_channels(block, hidden)
    return (squeeze_excite_segment(source, hidden, px, squeeze, se.activation or act, se.gate),)


@lru_cache(maxsize=16384)
def tapped_part(part: PartSegments, *paths: str) -> PartSegments:
    """The same part with its tensors ``paths`` read by the head; "" for its output."""
    read = tuple([path or part.ops[-1].path for path in paths])
    tapped = PartSegments(part.segments, part.addition, read)
    tapped.peak_elements = max(live_elements(part.ops, kept=read))
    return tapped


@lru_cache(maxsize=16384)
def kept_input_peak(part: PartSegments) -> int:
    """Peak elements of ``part`` if its input is read again after it."""
    return max(live_elements(part.ops, keeps_input=True))
