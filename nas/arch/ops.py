"""The primitive operations of a network with their shapes and data flow, enumerated from the spec alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from nas.arch.blocks import BlockSpec
from nas.arch.parts import SqueezeExcite
from nas.arch.rounding import split_channels
from nas.arch.spec import ArchSpec, can_skip, hidden_channels

OpKind = Literal["conv", "depthwise", "linear", "pool", "scale", "add", "concat", "split"]


class Op(NamedTuple):
    """One fused kernel: a convolution or linear layer with folded norm and activation, or a data movement.

    ``path`` is timm's module path where there is a module, and names the output tensor; ``inputs`` are the paths of
    the operations it reads ("" is the block's or network's input; ``x:2`` is part 2 of split ``x``). Maps are square:
    ``in_px``, ``out_px`` are sides. ``norm`` is the path of the batch norm that follows ("" for none), of which a
    MixConv group takes its slice. ``activation`` is applied to the output; on a squeeze-excite's second convolution
    it is the gate.
    """

    kind: OpKind
    path: str
    inputs: tuple[str, ...]
    in_channels: int
    out_channels: int
    in_px: int
    out_px: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    bias: bool = False
    norm: str = ""
    activation: str | None = None
    parts: tuple[int, ...] = ()

    @property
    def weights(self) -> int:
        """Elements of the weight tensor."""
        if self.kind == "depthwise":
            return self.kernel * self.kernel * self.out_channels
        if self.kind in ("conv", "linear"):
            return self.kernel * self.kernel * self.in_channels * self.out_channels
        return 0

    @property
    def params(self) -> int:
        """Weights, biases and two values per normalised channel (running statistics are no parameters)."""
        return self.weights + self.out_channels * (int(self.bias) + 2 * bool(self.norm))

    @property
    def macs(self) -> int:
        """Multiply-adds of the convolution or linear layer; bias, norm, activation and pooling count nothing."""
        return self.weights * self.out_px * self.out_px

    @property
    def activations(self) -> int:
        """Output elements of a convolution or linear layer (the measure of Dollar et al., arXiv:2103.06877)."""
        return self.out_elements if self.weights else 0

    @property
    def in_elements(self) -> int:
        """Elements of one input tensor of a convolution; of all inputs together for ``add`` and ``concat``."""
        return self.in_channels * self.in_px * self.in_px

    @property
    def out_elements(self) -> int:
        """Elements of the output tensor."""
        return self.out_channels * self.out_px * self.out_px


def out_side(in_px: int, stride: int) -> int:
    """Output side of an odd kernel with symmetric or ``same`` padding: ceil(in / stride), whatever the dilation."""
    return -(-in_px // stride)


def network_ops(spec: ArchSpec, resolution_px: int | None = None) -> Iterator[Op]:
    """All operations of ``spec`` in execution order, with module paths and tensor names of the whole network."""
    px = out_side(resolution_px or spec.resolution_px, spec.stem.stride)
    stem = stem_op(spec, resolution_px or spec.resolution_px)
    yield stem
    previous = stem.path
    for placed in spec.placed_blocks():
        ops = block_ops(placed.block, placed.stride, placed.in_channels, px, spec.activation, spec.squeeze_excite)
        yield from _placed(ops, placed.path, previous)
        previous, px = f"{placed.path}.{ops[-1].path}", ops[-1].out_px
    yield from _placed(head_ops(spec, px), "", previous)


def stem_op(spec: ArchSpec, resolution_px: int) -> Op:
    """The stem convolution at an input side of ``resolution_px``."""
    stem, px = spec.stem, resolution_px
    return Op(
        "conv", "conv_stem", ("",), spec.in_channels, stem.channels, px, out_side(px, stem.stride),
        stem.kernel, stem.stride, norm="bn1", activation=spec.activation,
    )  # fmt: skip


def head_ops(spec: ArchSpec, px: int) -> list[Op]:
    """Pooling, head convolution and classifier behind a last map of side ``px``; the first op reads ""."""
    last, width, act = spec.stages[-1].blocks[-1].channels, spec.head.channels, spec.activation
    if spec.head.kind == "pool_conv":
        ops = [
            Op("pool", "global_pool", ("",), last, last, px, 1),
            Op("conv", "conv_head", ("global_pool",), last, width, 1, 1, bias=True, activation=act),
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


@lru_cache(maxsize=65536)
def block_ops(
    block: BlockSpec, stride: int, in_channels: int, px: int, activation: str, se: SqueezeExcite
) -> tuple[Op, ...]:
    """The operations of one block (repeats ignored) on a ``px`` x ``px`` input of ``in_channels``.

    Paths are relative to the block; "" among the inputs is the block's input. The last op's output is the block's.
    """
    act = block.activation or activation
    hidden, out_px = hidden_channels(block, in_channels), out_side(px, stride)
    if block.type == "cn":
        ops = [_spatial(block, "conv", in_channels, block.channels, px, stride, act)]
    elif block.type == "er":
        ops = [_spatial(block, "conv_exp", in_channels, hidden, px, stride, act)]
        ops += _squeeze_excite(ops[-1], block, se, act)
        ops += _pointwise("conv_pwl", ops[-1], block.channels, block.project_kernels, "bn2", None)
    else:
        ops = _depthwise_block(block, stride, in_channels, hidden, px, act, se)
    if block.skip and can_skip(block, stride, in_channels):
        last = ops[-1]
        ops.append(Op("add", "add", (last.path, ""), 2 * last.out_channels, last.out_channels, out_px, out_px))
    return tuple(ops)


def _spatial(block: BlockSpec, path: str, in_channels: int, out_channels: int, px: int, stride: int, act: str) -> Op:
    """The dense k x k convolution that a cn or er block begins with."""
    return Op(
        "conv", path, ("",), in_channels, out_channels, px, out_side(px, stride),
        block.kernels[0], stride, norm="bn1", activation=act,
    )  # fmt: skip


def _depthwise_block(
    block: BlockSpec, stride: int, in_channels: int, hidden: int, px: int, act: str, se: SqueezeExcite
) -> list[Op]:
    """ir, ds and dsa: [expand], depthwise, [squeeze-excite], project."""
    ops: list[Op] = []
    source = Op("pool", "", (), in_channels, in_channels, px, px)  # stands for the block's input
    names = ("bn1", "bn2") if block.type != "ir" else ("bn2", "bn3")
    if block.type == "ir":
        ops += _pointwise("conv_pw", source, hidden, block.expand_kernels, "bn1", act)
        source = ops[-1]
    ops += _depthwise(block, source, stride, names[0], act)
    ops += _squeeze_excite(ops[-1], block, se, act)
    path = "conv_pwl" if block.type == "ir" else "conv_pw"
    ops += _pointwise(
        path, ops[-1], block.channels, block.project_kernels, names[1], act if block.type == "dsa" else None
    )
    return ops


def _depthwise(block: BlockSpec, source: Op, stride: int, norm: str, act: str) -> list[Op]:
    channels, px = source.out_channels, source.out_px
    out_px = out_side(px, stride)
    splits = split_channels(channels, len(block.kernels), block.partition)
    convs = []
    for (side, dilation), width in zip(block.taps(stride), splits, strict=True):
        convs.append(
            Op("depthwise", "conv_dw", (source.path,), width, width, px, out_px, side, stride, dilation, norm=norm)
        )
    return _mixed(convs, source, splits, act)


def _pointwise(
    path: str, source: Op, out_channels: int, kernels: tuple[int, ...], norm: str, act: str | None
) -> list[Op]:
    """A 1x1 convolution, or its grouped form: group j maps part j of the input to part j of the output."""
    px = source.out_px
    ins, outs = split_channels(source.out_channels, len(kernels)), split_channels(out_channels, len(kernels))
    convs = [
        Op("conv", path, (source.path,), width_in, width_out, px, px, kernel, norm=norm)
        for kernel, width_in, width_out in zip(kernels, ins, outs, strict=True)
    ]
    return _mixed(convs, source, ins, act)


def _mixed(convs: Sequence[Op], source: Op, splits: tuple[int, ...], act: str | None) -> list[Op]:
    """One convolution as it is; several between a split and a concat, as timm's MixedConv2d names them."""
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


def _placed(ops: Sequence[Op], prefix: str, source: str) -> Iterator[Op]:
    """``ops`` with paths of the whole network: ``prefix`` before each, ``source`` for the block's input."""
    dot = f"{prefix}." if prefix else ""
    for op in ops:
        inputs = tuple(f"{dot}{name}" if name else source for name in op.inputs)
        yield op._replace(path=dot + op.path, inputs=inputs, norm=dot + op.norm if op.norm else "")
