"""Maps inside a network that the head of a detector or segmenter reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nas.arch.heads.parts import LRASPPHead, SSDLiteHead
from nas.core.errors import SpecError, quoted

if TYPE_CHECKING:
    from nas.arch.spec import ArchSpec, PlacedBlock

STEM = "conv_stem"


class FeatureTap(NamedTuple):
    """A map of stem or stages that is read by more than the next block.

    ``block``: path of the block that it is in, or of the stem. ``inner``: path in that block; "" for the block's
    output. ``channels``: of the map. ``stride``: ratio of the input side to its own.
    """

    block: str
    inner: str
    channels: int
    stride: int


def taps(spec: ArchSpec) -> tuple[FeatureTap, ...]:
    """List the maps that the head of ``spec`` reads, beside the last one.

    In the order of the network; empty for a classifier. SSDLite reads C4, and C3 if it has boxes there, LR-ASPP the
    last map of its low stride.

    Raises: SpecError for a network without such a map.
    """
    head = spec.head
    if isinstance(head, SSDLiteHead):
        behind = (0,) if head.c3_scale is None else (1, 0)
        return tuple(stage_expansion(spec, is_inner=head.tap == "expansion", strides_behind=one) for one in behind)
    if isinstance(head, LRASPPHead):
        return (last_of_stride(spec, head.low_stride),)
    return ()


def stage_expansion(spec: ArchSpec, *, is_inner: bool = True, strides_behind: int = 0) -> FeatureTap:
    """Return C4: the last map before the last stride of ``spec``.

    ``is_inner``: the expansion of the block that has the stride, as MobileNetV3 takes it (section 6.3), if that block
    has one before its stride; otherwise the output of the block before. ``strides_behind``: 1 for C3, the map before
    the last stride but one.

    Raises: SpecError for a network whose blocks have too few strides.
    """
    before = FeatureTap(STEM, "", spec.stem.channels, spec.stem.stride)
    strided = []
    for placed, stride in _strides(spec):
        if placed.is_strided:
            strided.append((before, placed))
        before = FeatureTap(placed.path, "", placed.block.channels, min(stride, spec.output_stride or stride))
    if len(strided) <= strides_behind:
        needs, remedy = ("three", "; leave c3_scale out") if strides_behind else ("two", "")
        has = f"{len(strided) or 'no'} block has stride 2"
        raise SpecError(f"network {quoted(spec.name)}: a detector needs maps of {needs} strides; {has}{remedy}.")
    found, found_block = strided[-1 - strides_behind]
    if is_inner and found_block.block.type == "ir":
        return FeatureTap(found_block.path, "conv_pw", found_block.hidden_channels, found.stride)
    return found


def last_of_stride(spec: ArchSpec, stride: int) -> FeatureTap:
    """Return the last map of ``spec`` at a ``stride``: of a block, or of the stem.

    Strides that become dilations count: the map is the same for every output stride of at least ``stride``.

    Raises: SpecError for a network without one.
    """
    found = FeatureTap(STEM, "", spec.stem.channels, spec.stem.stride) if spec.stem.stride == stride else None
    strides = {spec.stem.stride}
    for placed, reached in _strides(spec):
        strides.add(reached)
        if reached == stride:
            found = FeatureTap(placed.path, "", placed.block.channels, stride)
    if found is None:
        has = ", ".join(map(str, sorted(strides)))
        raise SpecError(f"network {quoted(spec.name)}: has no map of stride {stride}; it has {has}.")
    return found


def _strides(spec: ArchSpec) -> list[tuple[PlacedBlock, int]]:
    """Blocks in order, and the stride after each, as if none became a dilation."""
    stride, found = spec.stem.stride, []
    for placed in spec.placed_blocks():
        stride *= placed.block.stride if placed.is_strided else 1
        found.append((placed, stride))
    return found
