"""Segments of blocks: expansion, depthwise, squeeze-excite and projection.

Each depends on some of a block's choices only: different blocks share segments, and what is derived from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from nas.arch.ops.op import Op, out_side
from nas.arch.rounding import split_channels

_SEGMENTS: Final = 16384  # most segments of one kind that are cached


class Segment:
    """A chain of operations: expansion, depthwise, squeeze-excite, projection.

    ``ops``: in execution order. The first reads the tensor ``source``, the output of the segment before ("" is the
    block's input), and none reads anything older. ``out_px``: side of the output in px. ``params``, ``macs``,
    ``activations``: as of ``Complexity``. ``peak_elements``: elements of the tensors that are live together, at most,
    of the chain alone; ``kept_peak``: the same where the block's input stays live after it.

    Segments are compared by identity: equal ones are one object as long as it is cached, and look-ups in caches of
    what is derived from them are fast.
    """

    __slots__ = ("activations", "kept_peak", "macs", "ops", "out_px", "params", "peak_elements", "source")

    def __init__(self, *ops: Op) -> None:
        self.ops = ops
        self.source = ops[0].inputs[0]
        self.out_px = ops[-1].out_px
        self.params = sum([op.params for op in ops])
        self.macs = sum([op.macs for op in ops])
        self.activations = sum([op.activations for op in ops])
        self.peak_elements = max(live_elements(ops))
        self.kept_peak = self.peak_elements if self.source else max(live_elements(ops, keeps_input=True))


def live_elements(
    ops: Sequence[Op],
    *,
    keeps_input: bool = False,
    kept: Sequence[str] = (),
    sources: Mapping[str, int] | None = None,
) -> list[int]:
    """Count the live tensor elements during each of ``ops``.

    These are its inputs, its output, and every tensor that a later operation still reads; a tensor that none reads is
    an output, and stays. A split is a view: its parts keep the tensor that it splits alive and add nothing.
    ``keeps_input``: the input of the first operation is read again after the last. ``sources``: elements of tensors
    that are there before, by path; None for those that the first operation reads.
    """
    base = {op.path: op.inputs[0] for op in ops if op.kind == "split"}
    reads = [tuple(base.get(name.partition(":")[0], name) for name in op.inputs) for op in ops]
    last_read = {name: index for index, names in enumerate(reads) for name in names}
    last_read.update(dict.fromkeys((*reads[0], *kept) if keeps_input else kept, len(ops)))
    sizes = {name: ops[0].in_elements for name in reads[0]} if sources is None else dict(sources)
    live, result = sum(sizes.values()), []
    for index, op in enumerate(ops):
        if op.kind != "split":
            sizes[op.path] = op.out_elements
            live += op.out_elements
        result.append(live)
        for name in [name for name in sizes if last_read.get(name, len(ops)) <= index]:
            live -= sizes.pop(name)
    return result


@lru_cache(maxsize=_SEGMENTS)
def depthwise_segment(
    source: str,
    channels: int,
    px: int,
    stride: int,
    kernels: tuple[tuple[int, int], ...],
    partition: str,
    norm: str,
    act: str,
) -> Segment:
    """A depthwise convolution or MixConv of sides and dilations ``kernels``."""
    out_px = out_side(px, stride)
    splits = split_channels(channels, len(kernels), partition)
    if len(kernels) == 1:
        ((side, dilation),) = kernels
        return Segment(
            Op(
                "depthwise", "conv_dw", (source,), channels, channels, px, out_px, side, stride, dilation,
                norm=norm, activation=act,
            )
        )  # fmt: skip
    convs = [
        Op("depthwise", path, (part,), width, width, px, out_px, side, stride, dilation, norm=norm)
        for path, part, (side, dilation), width in zip(
            *_group_paths("conv_dw", len(kernels)), kernels, splits, strict=True
        )
    ]
    return _with_split("conv_dw", convs, source, splits, act)


@lru_cache(maxsize=_SEGMENTS)
def pointwise_segment(
    path: str,
    source: str,
    in_channels: int,
    px: int,
    out_channels: int,
    kernels: tuple[int, ...],
    norm: str,
    act: str | None,
) -> Segment:
    """A 1x1 convolution, or its grouped form.

    Group j maps part j of the input to part j of the output.
    """
    if len(kernels) == 1:
        return Segment(
            Op("conv", path, (source,), in_channels, out_channels, px, px, kernels[0], norm=norm, activation=act)
        )
    ins, outs = split_channels(in_channels, len(kernels)), split_channels(out_channels, len(kernels))
    convs = [
        Op("conv", name, (part,), width_in, width_out, px, px, kernel, norm=norm)
        for name, part, kernel, width_in, width_out in zip(
            *_group_paths(path, len(kernels)), kernels, ins, outs, strict=True
        )
    ]
    return _with_split(path, convs, source, ins, act)


@lru_cache(maxsize=_SEGMENTS)
def squeeze_excite_segment(source: str, channels: int, px: int, squeeze: int, inner: str, gate: str) -> Segment:
    """Squeeze-excite with ``squeeze`` channels between its two 1x1 convolutions.

    ``inner``, ``gate``: their activations.
    """
    return Segment(
        Op("pool", "se.pool", (source,), channels, channels, px, 1),
        Op("conv", "se.conv_reduce", ("se.pool",), channels, squeeze, 1, 1, bias=True, activation=inner),
        Op("conv", "se.conv_expand", ("se.conv_reduce",), squeeze, channels, 1, 1, bias=True, activation=gate),
        Op("scale", "se", (source, "se.conv_expand"), channels, channels, px, px),
    )


@lru_cache(maxsize=_SEGMENTS)
def residual_addition(source: str, channels: int, px: int) -> Op:
    """Addition of the tensor ``source`` and the block's input."""
    return Op("add", "add", (source, ""), 2 * channels, channels, px, px)


@lru_cache(maxsize=256)
def _group_paths(path: str, groups: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Paths of the groups of a split convolution, and of the parts they read.

    They are those of timm's ``MixedConv2d``.
    """
    return tuple(f"{path}.{index}" for index in range(groups)), tuple(
        f"{path}.split:{index}" for index in range(groups)
    )


def _with_split(path: str, groups: Sequence[Op], source: str, splits: tuple[int, ...], act: str | None) -> Segment:
    """Add the split before ``groups`` of a convolution, and the concat after them.

    ``splits``: channels of the parts of the tensor ``source``.
    """
    channels, px, out_px = sum(splits), groups[0].in_px, groups[0].out_px
    split = Op("split", f"{path}.split", (source,), channels, channels, px, px, parts=splits)
    width = sum([conv.out_channels for conv in groups])
    inputs = tuple([conv.path for conv in groups])
    return Segment(split, *groups, Op("concat", path, inputs, width, width, out_px, out_px, activation=act))
