"""Detectors and segmenters from any network, and the network from either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nas.arch.blocks import BlockSpec
from nas.arch.heads.feature_taps import stage_expansion
from nas.arch.heads.parts import LRASPPHead, SSDLiteHead, anchors_of
from nas.arch.parts import HeadSpec
from nas.arch.rounding import make_divisible
from nas.arch.spec import ArchSpec, StageSpec
from nas.core.errors import SpecError


def detector(
    arch: ArchSpec,
    classes: int,
    *,
    resolution_px: int | None = None,
    halve: bool = False,
    head_width: float = 1.0,
    **head: Any,
) -> ArchSpec:
    """Give ``arch`` the head of SSDLite, in place of its own.

    ``classes``: of objects, without the background. ``resolution_px``: input side; None keeps that of ``arch``.
    ``halve``: halves the channels between C4 and C5 (MobileNetV3, section 6.3). ``head_width``: multiplies the channels
    of the extra blocks. ``head``: further fields of ``SSDLiteHead``; with ``aspect_ratios`` alone the first map has the
    boxes of the others, as by default.

    Raises: SpecError for a network without the maps that the head reads, and for values out of range.
    """
    trunk = _halved(arch) if halve else arch
    fields = {"channels": _last_channels(trunk)} | head
    if isinstance(head.get("aspect_ratios"), list | tuple):
        fields.setdefault("lowest_anchors", anchors_of(head["aspect_ratios"]))
    if head_width != 1.0 and "extra_channels" not in head:
        fields["extra_channels"] = _scaled(SSDLiteHead().extra_channels, head_width)
    return _attached(arch, trunk, SSDLiteHead(**fields), classes, resolution_px)


def segmenter(
    arch: ArchSpec,
    classes: int,
    *,
    resolution_px: int | None = None,
    halve: bool = False,
    head_width: float = 1.0,
    **head: Any,
) -> ArchSpec:
    """Give ``arch`` the head of LR-ASPP, in place of its own.

    The 1x1 convolution that some networks have after their last stage goes with their classifier, as in the paper's
    MobileNetV2. ``classes``: of pixels. ``resolution_px``: as of ``detector``. ``halve``: halves the channels of the
    maps from the last stride on, and of the first expansion there, as DeepLab's release of MobileNetV3 does.
    ``head_width``: multiplies the filters. ``head``: further fields of ``LRASPPHead``.

    Raises: SpecError for a network without the maps that the head reads, and for values out of range.
    """
    trunk = _halved(arch, expansion=True) if halve else arch
    fields = dict(head)
    if head_width != 1.0 and "filters" not in head:
        fields["filters"] = _scaled((LRASPPHead().filters,), head_width)[0]
    return _attached(arch, trunk, LRASPPHead(**fields), classes, resolution_px)


def dense_network(arch: ArchSpec, task: str, classes: int, **options: Any) -> ArchSpec:
    """Give ``arch`` the head of a ``task``, detection or segmentation.

    A network that has a head for the task keeps it, for ``classes``. ``options``: of ``detector`` and ``segmenter``.

    Raises: SpecError for a network with the head of another task, and as these.
    """
    if arch.task == task:
        resolution_px = options.get("resolution_px") or arch.resolution_px
        return replace(arch, classes=classes, resolution_px=resolution_px)
    if arch.task != "classification":
        raise SpecError(f"network {arch.name}: its head is for {arch.task}, not for {task}; give another network.")
    return (detector if task == "detection" else segmenter)(arch, classes, **options)


def backbone(spec: ArchSpec) -> ArchSpec:
    """Return the network of a detector or segmenter as a classifier without dilations.

    It has the same stem, stages and, where there is one, 1x1 convolution after them, so the same weights. A classifier
    is returned as it is.
    """
    if isinstance(spec.head, HeadSpec):
        return spec
    return replace(spec, head=HeadSpec(channels=spec.head.channels))


def _attached(
    arch: ArchSpec, trunk: ArchSpec, head: SSDLiteHead | LRASPPHead, classes: int, resolution_px: int | None
) -> ArchSpec:
    if arch.task != "classification":
        raise SpecError(f"network {arch.name}: its head is for {arch.task}; give a network with a classifier.")
    return replace(
        trunk,
        name=f"{arch.name}_{head.kind}",
        head=head,
        classes=classes,
        resolution_px=resolution_px or arch.resolution_px,
        dropout=0.0,  # of the classifier
    )


def _last_channels(arch: ArchSpec) -> int:
    """Channels of the 1x1 convolution between last stage and pooling; 0 for none."""
    return 0 if arch.head.pools_first else arch.head.channels


def _scaled(channels: Sequence[int], width: float) -> tuple[int, ...]:
    """Multiply the head's channels, rounded to multiples of 8."""
    return tuple(make_divisible(count * width) for count in channels)


def _halved(arch: ArchSpec, *, expansion: bool = False) -> ArchSpec:
    """Halve the channels of all maps between C4 and C5.

    ``expansion``: also those of the expansion of the first block, which a detector reads as C4. The channels within
    later blocks follow, as they are a multiple of a block's input.
    """
    stage_expansion(arch)  # refuses a network without strides
    first = max(index for index, stage in enumerate(arch.stages) if stage.blocks[0].stride > 1)
    stages = list(arch.stages)
    for index in range(first, len(stages)):
        blocks = [replace(block, channels=make_divisible(block.channels / 2)) for block in stages[index].blocks]
        if expansion and index == first:
            blocks = [*_first_narrowed(blocks[0]), *blocks[1:]]
        stages[index] = StageSpec(tuple(blocks))
    head = arch.head
    if _last_channels(arch):
        head = replace(head, channels=make_divisible(head.channels / 2))
    return replace(arch, stages=tuple(stages), head=head)


def _first_narrowed(block: BlockSpec) -> list[BlockSpec]:
    """The repeats of ``block``, the first with half of its expansion."""
    if not block.has_expansion:
        return [block]
    first = replace(block, repeats=1, expansion=block.expansion / 2)
    return [first, replace(block, repeats=block.repeats - 1, stride=1)] if block.repeats > 1 else [first]
