"""Heads of detectors and segmenters: SSDLite and LR-ASPP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from nas.arch.blocks import ACTIVATIONS
from nas.arch.limits import MAX_CHANNELS
from nas.core.errors import SpecError, quoted, unknown_choice
from nas.core.formatting import alternatives, plural
from nas.core.validation import check_whole

OUTPUT_STRIDES: Final = (8, 16, 32)
_TAPS: Final = ("expansion", "output")
_MAX_LEVELS: Final = 8
_MAX_ASPECT_RATIO: Final = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SSDLiteHead:
    """SSDLite: separable convolutions that predict classes and boxes on several maps.

    Source: MobileNetV2, arXiv:1801.04381, section 6.2; MobileNetV3, arXiv:1905.02244, section 6.3. The maps are C4
    (``tap``: ``expansion``, that of the block with the last stride, or ``output`` of the block before it), C5 (the last
    map before pooling), and one after each extra block of a 1x1 convolution to half of ``extra_channels``, a depthwise
    one of stride 2, and a 1x1 convolution. ``channels``: of the 1x1 convolution between last stage and pooling, as in
    ``HeadSpec``; 0 for none. ``output_stride``: ratio of the input side to that of C5; later strides become dilations.

    A map has a default box for each of two scales, and two for each of ``aspect_ratios``; the first map has
    ``lowest_anchors`` of these (3 in TensorFlow's releases: a square and two of the first ratio). Scales rise from
    ``min_scale`` to ``max_scale``, as shares of the image's side. ``c3_scale``: scale of the default boxes of C3, a
    further map for small objects, which is taken before the last stride but one as C4 is before the last; its
    predictions come last. None for no such map. ``activation``: of the head's own convolutions.

    Raises: SpecError naming the field.
    """

    channels: int = 0
    kind: Literal["ssdlite"] = "ssdlite"
    extra_channels: tuple[int, ...] = (512, 256, 256, 128)
    aspect_ratios: tuple[float, ...] = (2.0, 3.0)
    lowest_anchors: int = 6
    min_scale: float = 0.2
    max_scale: float = 0.95
    tap: Literal["expansion", "output"] = "expansion"
    output_stride: int = 32
    activation: str = "relu6"
    c3_scale: float | None = None

    def __post_init__(self) -> None:
        _check_shared(self, "ssdlite")
        extra = _numbers(self, "extra_channels", most=_MAX_LEVELS - 2)
        for channels in extra:
            check_whole("extra_channels", channels, minimum=2, maximum=MAX_CHANNELS)
        for ratio in _numbers(self, "aspect_ratios", most=4):
            if not 1 < ratio <= _MAX_ASPECT_RATIO:
                raise SpecError(f"aspect_ratios {quoted(ratio)}: must be above 1, at most {_MAX_ASPECT_RATIO:g}.")
        lowest = sorted({*((3, 4) if self.aspect_ratios else ()), self.anchors})
        if self.lowest_anchors not in lowest:
            raise SpecError(
                f"lowest_anchors {quoted(self.lowest_anchors)}: must be {alternatives(lowest)} with "
                f"{plural(len(self.aspect_ratios), 'ratio')} in aspect_ratios."
            )
        if not 0 < self.min_scale < self.max_scale <= 1:
            raise SpecError(
                f"min_scale {quoted(self.min_scale)}, max_scale {quoted(self.max_scale)}: must be above 0, at most 1, "
                "and the first below the second."
            )
        if self.c3_scale is not None and not 0 < self.c3_scale < self.min_scale:
            raise SpecError(
                f"c3_scale {quoted(self.c3_scale)}: must be above 0 and below min_scale ({self.min_scale:g}), or null."
            )
        if self.tap not in _TAPS:
            raise unknown_choice("tap", self.tap, _TAPS, error=SpecError)

    @property
    def pools_first(self) -> bool:
        """Whether a convolution acts on the pooled map: nothing is pooled."""
        return False

    @property
    def levels(self) -> int:
        """Number of maps on which boxes are predicted."""
        return 2 + len(self.extra_channels) + (self.c3_scale is not None)

    @property
    def anchors(self) -> int:
        """Default boxes at each position of all maps but the first."""
        return anchors_of(self.aspect_ratios)

    @property
    def level_anchors(self) -> tuple[int, ...]:
        """Default boxes at each position, by map."""
        return (self.lowest_anchors, *[self.anchors] * (self.levels - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class LRASPPHead:
    """LR-ASPP: a light head for semantic segmentation.

    Source: MobileNetV3, arXiv:1905.02244, section 6.4. The last map passes a 1x1 convolution of ``filters`` channels,
    is weighted by a gate from its global average, and classified; the logits are enlarged to ``low_stride``, where
    those of the last map of that stride are added. (The published order enlarges before it classifies, which is the
    same function with more multiply-adds: a 1x1 convolution commutes with a bilinear resize.) ``channels``: of the 1x1
    convolution after the last stage, as in ``HeadSpec``; 0 for none. ``output_stride``: ratio of the input side to that
    of the last map; later strides become dilations. ``activation``: of the head's own convolution.

    Raises: SpecError naming the field.
    """

    channels: int = 0
    kind: Literal["lraspp"] = "lraspp"
    filters: int = 128
    low_stride: int = 8
    output_stride: int = 16
    activation: str = "relu"

    def __post_init__(self) -> None:
        _check_shared(self, "lraspp")
        check_whole("filters", self.filters, minimum=1, maximum=MAX_CHANNELS)
        if self.low_stride not in (4, 8, 16) or self.low_stride > self.output_stride:
            raise SpecError(
                f"low_stride {quoted(self.low_stride)}: must be 4, 8 or 16, and at most output_stride "
                f"({self.output_stride})."
            )

    @property
    def pools_first(self) -> bool:
        """Whether a convolution acts on the pooled map: the gate alone does."""
        return False


def anchors_of(aspect_ratios: Sequence[float]) -> int:
    """Return the default boxes at each position: two, and two for each ratio."""
    return 2 + 2 * len(aspect_ratios)


DenseHead = SSDLiteHead | LRASPPHead
DENSE_HEADS: Final = {"ssdlite": SSDLiteHead, "lraspp": LRASPPHead}


def head_data(head: Any) -> dict[str, Any]:
    """Fields of a head as plain data, without those that are None.

    Heads of files and hashes that are older than such a field keep their form.
    """
    return {name: value for name, value in asdict(head).items() if value is not None}


def _check_shared(head: SSDLiteHead | LRASPPHead, kind: str) -> None:
    """Check the fields that both heads have. Raises: SpecError."""
    if head.kind != kind:
        raise SpecError(f"kind {quoted(head.kind)}: must be {kind}.")
    check_whole("channels", head.channels, minimum=0, maximum=MAX_CHANNELS)
    if head.output_stride not in OUTPUT_STRIDES:
        raise unknown_choice("output_stride", head.output_stride, OUTPUT_STRIDES, error=SpecError)
    if head.activation not in ACTIVATIONS:
        raise unknown_choice("activation", head.activation, ACTIVATIONS, error=SpecError)


def _numbers(head: SSDLiteHead, field: str, *, most: int) -> tuple[Any, ...]:
    """Values of a field that is a list in files, which becomes a tuple.

    Raises: SpecError if it is no list of numbers.
    """
    values = getattr(head, field)
    is_list = isinstance(values, list | tuple) and len(values) <= most
    if not is_list or not all(isinstance(one, int | float) and not isinstance(one, bool) for one in values):
        raise SpecError(f"{field} {quoted(values)}: must be a list of at most {most} numbers.")
    object.__setattr__(head, field, tuple(values))
    return tuple(values)
