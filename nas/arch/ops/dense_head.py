"""Operations of the heads of detectors and segmenters.

They read maps of the whole network by absolute path; "" is the output of the last stage.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from nas.arch.heads.parts import DenseHead, LRASPPHead, SSDLiteHead
from nas.arch.ops.op import Op, out_side
from nas.arch.ops.segments import Segment

BOX_VALUES: Final = 4  # offsets of a box: centre x, centre y, width, height
LAST_CONV: Final = "conv_head"
LOGITS: Final = "logits"


class SourceMap(NamedTuple):
    """A map that a head reads: path of the operation that writes it, and shape."""

    path: str
    channels: int
    px: int


def head_outputs(head: DenseHead) -> tuple[str, ...]:
    """Paths of the operations of ``head`` that write outputs.

    Of SSDLite: the classes of all maps, then the boxes of all maps.
    """
    if isinstance(head, LRASPPHead):
        return (LOGITS,)
    return tuple(f"{kind}.{level}.conv" for kind in ("class_heads", "box_heads") for level in range(head.levels))


def class_layers(head: DenseHead) -> dict[str, int]:
    """Paths of the layers of ``head`` that predict classes, and for how many boxes.

    Their outputs are, for each box at a position, the classes; of SSDLite with the background before them.
    """
    if isinstance(head, LRASPPHead):
        return {"high_classifier": 1, "low_classifier": 1}
    return {f"class_heads.{level}.conv": boxes for level, boxes in enumerate(head.level_anchors)}


@lru_cache(maxsize=4096)
def dense_head_segments(
    head: DenseHead, last: SourceMap, tapped: tuple[SourceMap, ...], classes: int, activation: str
) -> tuple[Segment, ...]:
    """Segments of a head, in execution order.

    ``last``: output of the last stage. ``tapped``: the maps of ``nas.arch.heads.taps``, in their order. ``classes``: of
    objects, or of pixels. ``activation``: of the network, which its 1x1 convolution after the last stage has.
    """
    segments = []
    if head.channels:
        segments.append(Segment(_pointwise(LAST_CONV, last, head.channels, norm="bn2", activation=activation)))
        last = SourceMap(LAST_CONV, head.channels, last.px)
    if isinstance(head, SSDLiteHead):
        segments += _ssdlite(head, last, tapped, classes)
    else:
        segments.append(Segment(*_lraspp(head, last, tapped[0], classes)))
    return tuple(segments)


def _ssdlite(head: SSDLiteHead, last: SourceMap, tapped: tuple[SourceMap, ...], classes: int) -> Iterator[Segment]:
    """Predictions of each map as soon as it is there: the largest are freed early."""
    if head.c3_scale is not None:
        yield from _predictions(head, head.levels - 1, tapped[0], classes)
    yield from _predictions(head, 0, tapped[-1], classes)
    yield from _predictions(head, 1, last, classes)
    for index, channels in enumerate(head.extra_channels):
        extra = _extra_block(head, index, last, channels)
        yield extra
        last = SourceMap(extra.ops[-1].path, channels, extra.out_px)
        yield from _predictions(head, index + 2, last, classes)


def _extra_block(head: SSDLiteHead, index: int, source: SourceMap, channels: int) -> Segment:
    """Extra block to ``channels``: 1x1 to half of them, depthwise of stride 2, 1x1."""
    path, act, half = f"extra.{index}", head.activation, channels // 2
    reduce = _pointwise(f"{path}.conv_pw", source, half, norm=f"{path}.bn1", activation=act)
    depthwise = _depthwise(
        f"{path}.conv_dw", SourceMap(reduce.path, half, source.px), 2, norm=f"{path}.bn2", activation=act
    )
    widen = _pointwise(
        f"{path}.conv_pwl",
        SourceMap(depthwise.path, half, depthwise.out_px),
        channels,
        norm=f"{path}.bn3",
        activation=act,
    )
    return Segment(reduce, depthwise, widen)


def _predictions(head: SSDLiteHead, level: int, source: SourceMap, classes: int) -> Iterator[Segment]:
    """A separable convolution for classes, with the background, and one for boxes."""
    anchors = head.level_anchors[level]
    for name, channels in (("class_heads", anchors * (classes + 1)), ("box_heads", anchors * BOX_VALUES)):
        path = f"{name}.{level}"
        depthwise = _depthwise(f"{path}.conv_dw", source, 1, norm=f"{path}.bn", activation=head.activation)
        filtered = SourceMap(depthwise.path, source.channels, source.px)
        yield Segment(depthwise, _pointwise(f"{path}.conv", filtered, channels, bias=True))


def _lraspp(head: LRASPPHead, last: SourceMap, low: SourceMap, classes: int) -> Iterator[Op]:
    """Operations of LR-ASPP (MobileNetV3, figure 10)."""
    filters = head.filters
    conv = _pointwise("aspp_conv", last, filters, norm="aspp_bn", activation=head.activation)
    pool = Op("pool", "aspp_pool", (last.path,), last.channels, last.channels, last.px, 1)
    gate = _pointwise("aspp_gate", SourceMap(pool.path, last.channels, 1), filters, activation="sigmoid")
    scale = Op("scale", "aspp_scale", (conv.path, gate.path), filters, filters, last.px, last.px)
    high = _pointwise("high_classifier", SourceMap(scale.path, filters, last.px), classes, bias=True)
    yield from (conv, pool, gate, scale, high)
    path = high.path
    if low.px != last.px:
        path = "aspp_resize"
        yield Op("resize", path, (high.path,), classes, classes, last.px, low.px)
    yield _pointwise("low_classifier", low, classes, bias=True)
    yield Op("add", LOGITS, (path, "low_classifier"), 2 * classes, classes, low.px, low.px)


def _pointwise(
    path: str, source: SourceMap, channels: int, *, bias: bool = False, norm: str = "", activation: str | None = None
) -> Op:
    return Op(
        "conv", path, (source.path,), source.channels, channels, source.px, source.px,
        bias=bias, norm=norm, activation=activation,
    )  # fmt: skip


def _depthwise(path: str, source: SourceMap, stride: int, *, norm: str, activation: str) -> Op:
    return Op(
        "depthwise", path, (source.path,), source.channels, source.channels, source.px, out_side(source.px, stride),
        3, stride, norm=norm, activation=activation,
    )  # fmt: skip
