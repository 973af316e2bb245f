"""Hypothesis strategies for small networks that cover every field of a spec."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from nas.arch.blocks import ACTIVATIONS, BlockSpec
from nas.arch.heads import LRASPPHead, SSDLiteHead
from nas.arch.parts import HEAD_KINDS, HeadSpec, NormSpec, SqueezeExcite, StemSpec
from nas.arch.spec import NETWORK_ACTIVATIONS, ArchSpec, StageSpec

KERNELS = st.sampled_from((3, 5, 7, 9, 11))
# At least 16, which five exponential groups (8, 4, 2, 1, 1) need.
CHANNELS = st.integers(16, 40)
GROUPS = st.integers(1, 3).map(lambda groups: (1,) * groups)


@st.composite
def blocks(draw: st.DrawFn, stride: int) -> BlockSpec:
    """Any valid block with the given stride."""
    kind = draw(st.sampled_from(("ir", "ir", "ir", "ds", "dsa", "er", "cn", "uir", "uir")))
    fields = {"activation": draw(st.sampled_from((None, *ACTIVATIONS))), "skip": draw(st.booleans())}
    if kind in ("ir", "ds", "dsa"):
        fields["kernels"] = tuple(draw(st.lists(KERNELS, min_size=1, max_size=5)))
        fields["partition"] = draw(st.sampled_from(("equal", "exponential")))
        fields["dilated"] = draw(st.booleans())
    elif kind == "uir":
        start, middle, end = (draw(st.sampled_from((0, 3, 5))) for _ in range(3))
        middle = 3 if stride > 1 and start == middle == end == 0 else middle
        fields |= {"start_kernel": start, "kernels": (middle,), "end_kernel": end}
    else:
        fields["kernels"] = (draw(KERNELS),)
    if kind == "er":
        fields["base_channels"] = draw(st.sampled_from((None, 8, 24)))
    if kind in ("ir", "er", "uir"):
        fields["expansion"] = draw(st.sampled_from((1.0, 1.5, 2.3, 3.0, 4.0)))
    if kind == "ir":
        fields["expand_kernels"] = draw(GROUPS)
        if len(fields["kernels"]) == 1 and not fields["dilated"]:
            fields["group_size"] = draw(st.sampled_from((None, 1, 2, 8)))  # hidden channels are multiples of 8
    if kind != "cn":
        fields["se_ratio"] = draw(st.sampled_from((0.0, 0.02, 0.1875, 0.25, 1.0)))
        fields["project_kernels"] = (1,) if kind == "uir" else draw(GROUPS)
    return BlockSpec(type=kind, channels=draw(CHANNELS), repeats=draw(st.integers(1, 2)), stride=stride, **fields)


@st.composite
def stages(draw: st.DrawFn) -> StageSpec:
    first = draw(blocks(stride=draw(st.integers(1, 2))))
    return StageSpec((first, *draw(st.lists(blocks(stride=1), max_size=1))))


@st.composite
def specs(draw: st.DrawFn) -> ArchSpec:
    """Any network of one to three stages at a resolution of at most 33 px."""
    kind = draw(st.sampled_from(HEAD_KINDS))
    parts = tuple(draw(st.lists(stages(), min_size=1, max_size=3)))
    scaled = any(block.type == "uir" for stage in parts for block in stage.blocks)
    return ArchSpec(
        name="random",
        stem=StemSpec(channels=draw(CHANNELS), kernel=draw(st.sampled_from((3, 5))), stride=draw(st.integers(1, 2))),
        stages=parts,
        layer_scale=draw(st.sampled_from((None, 0.1))) if scaled else None,
        head=HeadSpec(kind=kind, channels=draw(st.integers(0 if kind == "conv_pool" else 1, 24))),
        resolution_px=draw(st.integers(5, 33)),
        in_channels=draw(st.integers(1, 4)),
        classes=draw(st.integers(1, 5)),
        activation=draw(st.sampled_from(NETWORK_ACTIVATIONS)),
        squeeze_excite=SqueezeExcite(
            relative_to=draw(st.sampled_from(("input", "expanded"))),
            divisor=draw(st.sampled_from((1, 8))),
            round_limit=draw(st.sampled_from((0.9, 0.95))),
            activation=draw(st.sampled_from((None, "relu"))),
            gate=draw(st.sampled_from(("sigmoid", "hard_sigmoid"))),
        ),
        norm=NormSpec(eps=draw(st.sampled_from((1e-5, 1e-3)))),
        padding=draw(st.sampled_from(("symmetric", "same"))),
    )


@st.composite
def ssdlite_heads(draw: st.DrawFn) -> SSDLiteHead:
    return SSDLiteHead(
        channels=draw(st.sampled_from((0, 24))),
        extra_channels=tuple(draw(st.lists(st.integers(2, 40), max_size=4))),
        aspect_ratios=draw(st.sampled_from(((2.0,), (2.0, 3.0)))),
        lowest_anchors=draw(st.sampled_from((3, 4))),
        tap=draw(st.sampled_from(("expansion", "output"))),
        output_stride=draw(st.sampled_from((8, 16, 32))),
        activation=draw(st.sampled_from(ACTIVATIONS)),
    )


@st.composite
def lraspp_heads(draw: st.DrawFn) -> LRASPPHead:
    return LRASPPHead(
        channels=draw(st.sampled_from((0, 24))),
        filters=draw(st.integers(1, 40)),
        low_stride=4,
        output_stride=draw(st.sampled_from((8, 16, 32))),
        activation=draw(st.sampled_from(ACTIVATIONS)),
    )


@st.composite
def dense_specs(draw: st.DrawFn) -> ArchSpec:
    """Any detector or segmenter of two or three stages, of which the first has stride 2."""
    spec = draw(specs())
    parts = (
        StageSpec((draw(blocks(stride=2)),)),
        *draw(st.lists(stages(), min_size=1, max_size=2)),
    )
    head = draw(st.one_of(ssdlite_heads(), lraspp_heads()))
    if isinstance(head, SSDLiteHead) and sum(stage.blocks[0].stride > 1 for stage in parts) > 1:
        head = replace(head, c3_scale=draw(st.sampled_from((None, 0.1))))
    scaled = any(block.type == "uir" for stage in parts for block in stage.blocks)
    return replace(
        spec,
        stem=replace(spec.stem, stride=2),
        stages=parts,
        layer_scale=spec.layer_scale if scaled else None,
        head=head,
    )
