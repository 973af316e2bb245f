"""Make a candidate small enough to train many of, while keeping apart what the search compares; without torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from statistics import fmean
from typing import Final

from nas.arch.ops.network import network_ops, out_side
from nas.arch.scaling.transform import Scaling, scale
from nas.arch.spec import ArchSpec, StageSpec
from nas.core.errors import NasError, SpecError
from nas.data.summary import ImageSummary
from nas.estimators.proxy.settings import ProxySettings

# A network made for long trainings averages its statistics over hundreds of steps (momentum 0.01, as TensorFlow's):
# after the hundred steps of a proxy they would still be mostly their initial values.
_MIN_NORM_MOMENTUM: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A reduced network and what the reduction really did after all rounding.

    ``width_ratio`` is the mean over stages of proxy channels over candidate channels, ``width_range`` the extremes;
    ``depth_ratio`` compares blocks. ``strides`` are those of the stem and then of each stage, ``final_map_px`` is the
    side of the last map. ``warnings`` are sentences for the user.
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
        """One line on the scaling that was really realised."""
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
    """The proxy of ``spec`` for images of ``in_channels`` channels and ``classes`` classes.

    ``largest_kernel`` is that of the whole space, not of ``spec``: together with the strides it decides the proxy's
    strides, so that all candidates of a space get the same. With ``base_resolution_px``, where a space compares
    resolutions, the proxy's side is ``settings.resolution_px`` times the candidate's over this one (strides are still
    those of the base).

    Raises: NasError where the reduction leaves too few channels for a block.
    """
    side_px = _side(spec, settings, base_resolution_px)
    least_px = -(-largest_kernel // 2) if settings.min_map_px == "auto" else settings.min_map_px
    strides = limit_strides(_strides(spec), settings.resolution_px, least_px)
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
        norm=replace(spec.norm, momentum=max(spec.norm.momentum, _MIN_NORM_MOMENTUM)),
    )
    ratios, final_px = _width_ratios(spec, small), _map_side(side_px, strides)
    return Proxy(
        spec=small,
        width_ratio=fmean(ratios),
        width_range=(min(ratios), max(ratios)),
        depth_ratio=small.depth / spec.depth,
        strides=strides,
        final_map_px=final_px,
        warnings=_warnings(spec, small, settings, final_px=final_px, least_px=least_px),
    )


def limit_strides(strides: Sequence[int], side_px: int, least_px: int) -> tuple[int, ...]:
    """``strides`` with 2 turned into 1, from the first on, until the last map has ``least_px`` or none is left."""
    kept = list(strides)
    for position, stride in enumerate(strides):
        if _map_side(side_px, kept) >= least_px:
            break
        if stride > 1:
            kept[position] = 1
    return tuple(kept)


def identical_proxies(proxies: Sequence[Proxy]) -> tuple[tuple[int, ...], ...]:
    """Groups of positions in ``proxies`` whose networks are the same, operation by operation.

    Candidates that differ and land in one group cannot be told apart by training: their difference was rounded away.
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
    spec: ArchSpec, small: ArchSpec, settings: ProxySettings, *, final_px: int, least_px: int
) -> tuple[str, ...]:
    found = []
    if final_px < least_px:
        found.append(
            f"the last map of {final_px} px is below {least_px} px although no stride is left: the largest kernels "
            f"act there as smaller ones; raise proxy.resolution_px"
        )
    if small.depth != round(spec.depth * settings.depth_multiplier):
        found.append(
            f"depth x{settings.depth_multiplier:g} is realised as x{small.depth / spec.depth:.2f}: repeats are rounded "
            f"up by stage; numbers of repeats that the search compares may become one"
        )
    lost = [
        (abs(realised / placed.block.expansion - 1), placed.path, placed.block.expansion, realised)
        for placed in small.placed_blocks()
        if placed.block.has_expansion
        for realised in [placed.hidden_channels / placed.in_channels]
    ]
    deviation, path, wanted, realised = max(lost, key=itemgetter(0), default=(0.0, "", 0.0, 0.0))
    if deviation > 0.15:
        found.append(
            f"{path}: expansion {wanted:g} is realised as {realised:.2f}, because hidden channels are multiples of 8; "
            f"raise proxy.width_multiplier if the search compares expansion ratios"
        )
    return tuple(found)


def proxy_factory(
    images: ImageSummary, settings: ProxySettings, largest_kernel: int, base_resolution_px: int | None
) -> Callable[[ArchSpec], Proxy]:
    """What makes networks smaller for ``images``, as ``reduce_arch`` does."""
    return partial(
        reduce_arch,
        settings=settings,
        classes=images.classes,
        in_channels=images.channels,
        largest_kernel=largest_kernel,
        base_resolution_px=base_resolution_px,
    )
