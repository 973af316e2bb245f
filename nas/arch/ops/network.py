"""Primitive operations of a network: shapes and data flow, from the spec alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from nas.arch.heads.feature_taps import STEM, FeatureTap, taps
from nas.arch.heads.parts import DenseHead
from nas.arch.ops.block import PartSegments, block_ops, block_segments, kept_input_peak, tapped_part
from nas.arch.ops.dense_head import SourceMap, dense_head_segments, head_outputs
from nas.arch.ops.op import Op, OpKind, out_side
from nas.arch.ops.segments import Segment, live_elements
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec

__all__ = [
    "PartSegments", "Op", "OpKind", "Segment", "block_ops", "block_segments", "head_ops", "head_segments",
    "network_ops", "network_segments", "out_side", "output_ops", "stem_op", "stem_segments",
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


def output_ops(spec: ArchSpec) -> tuple[str, ...]:
    """Paths of the operations that write the outputs of ``spec``.

    Of a classifier and a segmenter its logits, (N, classes) and (N, classes, h, w). Of a detector a map of class logits
    for each map of features, (N, anchors * (classes + 1), h, w) with the background as class 0, then as many of box
    offsets, (N, anchors * 4, h, w).
    """
    return ("classifier",) if isinstance(spec.head, HeadSpec) else head_outputs(spec.head)


def network_segments(spec: ArchSpec, resolution_px: int | None = None) -> list[PartSegments]:
    """List the segments of stem, blocks and head of ``spec``, in execution order.

    They are shared by all networks that have them. ``resolution_px``: input side; None is the spec's own.
    """
    if not isinstance(spec.head, HeadSpec):
        return _dense_segments(spec, resolution_px or spec.resolution_px)
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


def _dense_segments(spec: ArchSpec, resolution_px: int) -> list[PartSegments]:
    """Segments of a detector or segmenter, whose parts have taps."""
    act, se, has_scale = spec.activation, spec.squeeze_excite, spec.layer_scale is not None
    read: dict[str, list[FeatureTap]] = {}
    for tap in taps(spec):
        read.setdefault(tap.block, []).append(tap)
    stem = stem_segments(spec, resolution_px)
    parts, sources = [stem], []
    if STEM in read:
        parts = [tapped_part(stem, "")]
        sources.append(SourceMap(STEM, spec.stem.channels, stem.out_px))
    px, channels = stem.out_px, spec.stem.channels
    for placed in spec.placed_blocks():
        part = block_segments(placed.block, placed.stride, channels, px, act, se, has_scale, placed.dilation)
        if own := read.get(placed.path):
            part = tapped_part(part, *[tap.inner for tap in own])
            for tap, path in zip(own, part.taps, strict=True):
                # An expansion comes before the block's stride.
                sources.append(SourceMap(f"{placed.path}.{path}", tap.channels, px if tap.inner else part.out_px))
        parts.append(part)
        px, channels = part.out_px, placed.block.channels
    last = SourceMap("", channels, px)
    if parts[-1].ops[-1].path in parts[-1].taps:
        sources[-1] = last  # one tensor, of one name
    parts.append(_dense_head(spec.head, last, tuple(sources), spec.classes, act))
    return parts


def network_peak(parts: Sequence[PartSegments]) -> int:
    """Peak elements of a network of ``parts``: of tensors that are live together."""
    peak = kept = tapped_input = 0
    for part in parts[:-1]:
        own = kept_input_peak(part) if tapped_input else part.peak_elements
        peak, kept, tapped_input = max(peak, own + kept), kept + tapped_input, 0
        for path in part.taps:
            op = next(op for op in part.ops if op.path == path)
            if op is part.ops[-1]:  # the next part counts it as its input
                tapped_input += op.out_elements
            else:
                kept += op.out_elements
    return max(peak, parts[-1].peak_elements)  # a head counts all tensors that it reads


def stem_op(spec: ArchSpec, resolution_px: int) -> Op:
    """The stem convolution at an input side of ``resolution_px``."""
    return stem_segments(spec, resolution_px).ops[0]


def head_ops(spec: ArchSpec, px: int) -> tuple[Op, ...]:
    """List a classifier's pooling and convolutions after a last map of side ``px``.

    "" among the inputs of the first operation is the last map.
    """
    return head_segments(spec, px).ops


def stem_segments(spec: ArchSpec, resolution_px: int) -> PartSegments:
    """The stem as one segment, see ``stem_op``."""
    return _stem(spec.stem, spec.in_channels, resolution_px, spec.activation)


def head_segments(spec: ArchSpec, px: int) -> PartSegments:
    """The head of a classifier as one segment, see ``head_ops``."""
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


@lru_cache(maxsize=4096)
def _dense_head(
    head: DenseHead, last: SourceMap, tapped: tuple[SourceMap, ...], classes: int, act: str
) -> PartSegments:
    """The head of a detector or segmenter, which reads several maps."""
    part = PartSegments(dense_head_segments(head, last, tapped, classes, act))
    sources = {source.path: source.channels * source.px**2 for source in (last, *tapped)}
    part.peak_elements = max(live_elements(part.ops, sources=sources))
    return part


def with_network_paths(ops: Sequence[Op], prefix: str, source: str) -> Iterator[Op]:
    """Convert paths relative to a block to paths in the whole network.

    ``prefix``: the block's path. ``source``: the path that "" among the inputs stands for.
    """
    dot = f"{prefix}." if prefix else ""
    for op in ops:
        inputs = tuple(f"{dot}{name}" if name else source for name in op.inputs)
        norm, scale = (dot + name if name else "" for name in (op.norm, op.scale))
        yield op._replace(path=dot + op.path, inputs=inputs, norm=norm, scale=scale)
