"""Reduction of candidates to proxies that preserves differences under search.

Does not import torch.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from statistics import fmean
from typing import TYPE_CHECKING, Final

from nas.arch.ops.network import network_ops, out_side
from nas.arch.parts import HeadSpec
from nas.arch.scaling.transform import Scaling, scale
from nas.arch.spec import ArchSpec, StageSpec
from nas.core.errors import NasError, SpecError
from nas.data.summary import ImageSummary
from nas.estimators.proxy.settings import ProxySettings

if TYPE_CHECKING:
    from nas.estimators.proxy.evaluator import TaskData

# Networks for long trainings average batch norm statistics over hundreds of steps (momentum 0.01, as in TensorFlow):
# after the hundred steps of a short training these would still be close to their initial values.
LEAST_NORM_MOMENTUM: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """Reduced network with the scaling realised after rounding.

    ``width_ratio`` is the mean over stages of proxy channels / candidate channels, ``width_range`` its minimum and
    maximum; ``depth_ratio`` is the ratio of block counts. ``strides`` are those of the stem and then of each stage,
    ``final_map_px`` is the side of the last feature map. ``warnings`` are messages for the user.
    """

    spec: ArchSpec
    width_ratio: float
    width_range: tuple[float, float]
    depth_ratio: float
    strides: tuple[int, ...]
    final_map_px: int
    warnings: tuple[str, ...]

    @property
    def realised_note(self) -> str:
        """One-line summary of the realised scaling."""
        low, high = self.width_range
        strides = "-".join(map(str, self.strides))
        return (
            f"proxy at {self.spec.resolution_px} px: width x{self.width_ratio:.3f} ({low:.3f} to {high:.3f} by stage), "
            f"depth x{self.depth_ratio:.2f}, strides {strides}, last map {self.final_map_px} px"
        )


def reduce_arch(
    spec: ArchSpec,
    settings: ProxySettings,
    *,
    classes: int,
    largest_kernel: int,
    in_channels: int = 3,
    base_resolution_px: int | None = None,
) -> Proxy:
    """Reduce ``spec`` to its proxy.

    The proxy takes images (N, in_channels, H, W) of ``classes`` classes. ``largest_kernel`` (px) is that of the whole
    space, not of ``spec``: together with the candidate's strides it determines the proxy's strides, so that all
    candidates of a space get the same. With ``base_resolution_px``, where a space compares resolutions, the proxy's
    resolution is ``settings.resolution_px`` * ``spec.resolution_px`` / ``base_resolution_px``, with the strides of the
    base resolution. Detectors and segmenters keep their strides, by which their heads find the maps that they read;
    their heads become as narrow as the network is made.

    Raises: NasError if the reduction leaves too few channels for a block.
    """
    side_px = _side(spec, settings, base_resolution_px)
    min_map_px = -(-largest_kernel // 2) if settings.min_map_px == "auto" else settings.min_map_px
    strides = _strides(spec)
    if isinstance(spec.head, HeadSpec):
        strides = limit_strides(strides, settings.resolution_px, min_map_px)
    try:
        small = scale(_with_strides(spec, strides), _scaling(settings, side_px))
    except SpecError as error:
        raise NasError(
            f"proxy.width_multiplier: {settings.width_multiplier:g} is too narrow for {spec.name}: {error} Raise it."
        ) from error
    small = replace(
        small,
        classes=classes,
        in_channels=in_channels,
        norm=replace(spec.norm, momentum=max(spec.norm.momentum, LEAST_NORM_MOMENTUM)),
    )
    ratios, final_px = _width_ratios(spec, small), last_map_px(small, side_px)
    return Proxy(
        spec=small,
        width_ratio=fmean(ratios),
        width_range=(min(ratios), max(ratios)),
        depth_ratio=small.depth / spec.depth,
        strides=strides,
        final_map_px=final_px,
        warnings=_warnings(
            spec, small, settings, final_px=final_px, min_map_px=min_map_px, largest_kernel=largest_kernel
        ),
    )


def limit_strides(strides: Sequence[int], side_px: int, min_map_px: int) -> tuple[int, ...]:
    """Set strides to 1, first to last, until the last map is at least ``min_map_px``.

    ``side_px`` is the side of the input image. All strides are 1 if that is not enough.
    """
    limited = list(strides)
    for position, stride in enumerate(strides):
        if _map_side(side_px, limited) >= min_map_px:
            break
        if stride > 1:
            limited[position] = 1
    return tuple(limited)


def identical_proxies(proxies: Sequence[Proxy]) -> tuple[tuple[int, ...], ...]:
    """Group the indices of ``proxies`` whose networks have equal operations.

    Groups of one are omitted. Different candidates in a group are indistinguishable by training: rounding removed
    their difference.
    """
    groups: dict[object, list[int]] = defaultdict(list)
    for position, proxy in enumerate(proxies):
        groups[tuple(network_ops(proxy.spec))].append(position)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def _side(spec: ArchSpec, settings: ProxySettings, base_resolution_px: int | None) -> int:
    if base_resolution_px is None:
        return settings.resolution_px
    return max(1, round(settings.resolution_px * spec.resolution_px / base_resolution_px))


def _scaling(settings: ProxySettings, side_px: int) -> Scaling:
    return Scaling(
        width=settings.width_multiplier,
        depth=settings.depth_multiplier,
        resolution_px=side_px,
        divisor=settings.divisor,
        dropout=settings.dropout,
        drop_path=settings.drop_path,
    )


def _strides(spec: ArchSpec) -> tuple[int, ...]:
    return spec.stem.stride, *(stage.blocks[0].stride for stage in spec.stages)


def last_map_px(spec: ArchSpec, side_px: int) -> int:
    """Return the side of the last feature map of ``spec`` for images of ``side_px``."""
    if not isinstance(spec.head, HeadSpec):  # later strides are dilations
        return -(-side_px // min(spec.head.output_stride, math.prod(_strides(spec))))
    return _map_side(side_px, _strides(spec))


def _with_strides(spec: ArchSpec, strides: Sequence[int]) -> ArchSpec:
    stages = tuple(
        StageSpec((replace(stage.blocks[0], stride=stride), *stage.blocks[1:]))
        for stage, stride in zip(spec.stages, strides[1:], strict=True)
    )
    return replace(spec, name=f"{spec.name}-proxy", stem=replace(spec.stem, stride=strides[0]), stages=stages)


def _map_side(side_px: int, strides: Sequence[int]) -> int:
    for stride in strides:
        side_px = out_side(side_px, stride)
    return side_px


def _width_ratios(spec: ArchSpec, small: ArchSpec) -> list[float]:
    return [
        after.blocks[-1].channels / before.blocks[-1].channels
        for before, after in zip(spec.stages, small.stages, strict=True)
    ]


def _warnings(
    spec: ArchSpec,
    small: ArchSpec,
    settings: ProxySettings,
    *,
    final_px: int,
    min_map_px: int,
    largest_kernel: int,
) -> tuple[str, ...]:
    messages = []
    if spec.task != "classification":
        if 2 * final_px - 1 < largest_kernel:
            messages.append(
                f"on the last map of {final_px} px kernels above {2 * final_px - 1} px act as smaller ones; raise "
                "proxy.resolution_px"
            )
    elif final_px < min_map_px:
        messages.append(
            f"the last map of {final_px} px is below {min_map_px} px although all strides are 1: the largest kernels "
            f"act there as smaller ones; raise proxy.resolution_px"
        )
    elif 2 * final_px - 1 < largest_kernel:
        messages.append(
            f"on the last map of {final_px} px kernels above {2 * final_px - 1} px act as smaller ones; "
            "proxy.min_map_px=auto keeps strides from making maps so small, at a multiple of the cost"
        )
    if small.depth != round(spec.depth * settings.depth_multiplier):
        messages.append(
            f"depth x{settings.depth_multiplier:g} is realised as x{small.depth / spec.depth:.2f}: repeats are rounded "
            f"up by stage; different numbers of repeats in the space may become equal"
        )
    deviations = [
        (abs(realised / placed.block.expansion - 1), placed.path, placed.block.expansion, realised)
        for placed in small.placed_blocks()
        if placed.block.has_expansion
        for realised in [placed.hidden_channels / (placed.block.base_channels or placed.in_channels)]
    ]
    deviation, path, nominal, realised = max(deviations, key=itemgetter(0), default=(0.0, "", 0.0, 0.0))
    if deviation > 0.15:
        messages.append(
            f"{path}: expansion {nominal:g} is realised as {realised:.2f}, because hidden channels are multiples of 8; "
            f"raise proxy.width_multiplier if the search compares expansion ratios"
        )
    return tuple(messages)


def proxy_factory(
    images: ImageSummary | TaskData, settings: ProxySettings, largest_kernel: int, base_resolution_px: int | None
) -> Callable[[ArchSpec], Proxy]:
    """Return ``reduce_arch`` with all arguments but the network bound."""
    return partial(
        reduce_arch,
        settings=settings,
        classes=images.classes,
        in_channels=images.channels,
        largest_kernel=largest_kernel,
        base_resolution_px=base_resolution_px,
    )
