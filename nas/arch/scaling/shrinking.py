"""Dimensions by which a network can be shrunk one at a time, as NetAdapt does.

The widths of the layers between are kept as they are: a block whose input becomes narrower keeps its hidden channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from nas.arch.blocks import BlockSpec
from nas.arch.heads.parts import LRASPPHead, SSDLiteHead
from nas.arch.spec import ArchSpec, StageSpec, can_skip, hidden_channels
from nas.core.errors import SpecError, unknown_choice

SHRINK_KINDS: Final = ("expansion", "width", "kernel", "group", "block", "head", "resolution")
HIDDEN_DIVISOR: Final = 8  # hidden channels are multiples of it in timm's notation
_SMALLEST_KERNEL: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ShrinkDimension:
    """One dimension of a network, with the sizes that it can be shrunk to.

    ``kind``: of ``SHRINK_KINDS``. ``name``: where it is, such as ``blocks.3.1``. ``size``: as it is now. ``sizes``:
    smaller ones in descending order; ``at`` makes the network of one of them.

    Sizes are hidden channels (expansion), output channels of all blocks that share them (width), sides of kernels in px
    (kernel), MixConv groups (group), blocks of a stage (block), channels of the head's convolutions (head: of the one
    after the last stage, and those that a detector or segmenter has of its own), and the side of the input in px
    (resolution).
    """

    kind: str
    name: str
    size: int
    sizes: tuple[int, ...]
    at: Callable[[int], ArchSpec]

    def label(self, size: int) -> str:
        """One line that says what changes at ``size``."""
        return f"{self.kind} {self.name} {self.size} to {size}".replace("  ", " ")


class _Place(NamedTuple):
    """A block with one repeat at its position in the network."""

    stage: int
    block: BlockSpec
    in_channels: int

    @property
    def hidden(self) -> int:
        return hidden_channels(self.block, self.in_channels)


def shrink_dimensions(
    arch: ArchSpec, *, kinds: Sequence[str] = SHRINK_KINDS, divisor: int = 8, least_px: int = 1
) -> list[ShrinkDimension]:
    """List the dimensions of ``arch`` that can be shrunk, in the order of its layers.

    ``divisor``: widths and the head become multiples of it; hidden channels always of 8, as in timm's notation. The
    input side becomes a multiple of 8 px (of 2 px below 64), at least ``least_px``, and no smaller than the last map
    of 1 px allows.

    Raises: SpecError for an unknown kind.
    """
    for kind in kinds:
        if kind not in SHRINK_KINDS:
            raise unknown_choice("kinds", kind, SHRINK_KINDS, error=SpecError)
    places = list(_places(arch))
    makers: dict[str, Callable[[], Iterator[ShrinkDimension]]] = {
        "expansion": lambda: _expansions(arch, places),
        "width": lambda: _widths(arch, places, divisor),
        "kernel": lambda: _kernels(arch, places),
        "group": lambda: _groups(arch, places),
        "block": lambda: _blocks(arch, places),
        "head": lambda: _head(arch, divisor),
        "resolution": lambda: _resolution(arch, least_px),
    }
    found = [dimension for kind in SHRINK_KINDS if kind in kinds for dimension in makers[kind]()]
    return [_checked(dimension) for dimension in found if dimension.sizes]


def smallest_network(
    arch: ArchSpec, *, kinds: Sequence[str] = SHRINK_KINDS, divisor: int = 8, least_px: int = 1
) -> ArchSpec:
    """Shrink every dimension as far as it goes: a bound of what proposals reach."""
    for kind in ("block", "group", "kernel", "width", "expansion", "head", "resolution"):
        if kind not in kinds:
            continue
        names = [one.name for one in shrink_dimensions(arch, kinds=(kind,), divisor=divisor, least_px=least_px)]
        for name in names:
            left = shrink_dimensions(arch, kinds=(kind,), divisor=divisor, least_px=least_px)
            for dimension in (one for one in left if one.name == name and one.sizes):
                arch = dimension.at(dimension.sizes[-1])
    return arch


def _checked(dimension: ShrinkDimension) -> ShrinkDimension:
    """Leave out sizes at which channels do not split into the network's groups."""
    return replace(dimension, sizes=tuple(size for size in dimension.sizes if _is_valid(dimension, size)))


def _is_valid(dimension: ShrinkDimension, size: int) -> bool:
    try:
        dimension.at(size)
    except SpecError:
        return False
    return True


def _places(arch: ArchSpec) -> Iterator[_Place]:
    for placed in arch.placed_blocks():
        # A stride that an output stride turns into a dilation is there in the block.
        stride = placed.block.stride if placed.is_strided else 1
        block = replace(placed.block, repeats=1, stride=stride)
        yield _Place(int(placed.path.split(".")[1]), block, placed.in_channels)


def _rebuilt(arch: ArchSpec, places: Sequence[_Place], hidden: Sequence[int], old: Sequence[_Place]) -> ArchSpec:
    """``arch`` with the blocks of ``places``, of which each gets ``hidden`` channels.

    ``old``: the same places before. Widths that are equal by chance bring no shortcut where there was none.
    """
    stages: list[list[BlockSpec]] = [[] for _ in arch.stages]
    channels = arch.stem.channels
    for place, wanted, before in zip(places, hidden, old, strict=True):
        block = _with_hidden(place.block, channels, wanted)
        if block.skip and can_skip(block, block.stride, channels) and not _has_shortcut(before):
            block = replace(block, skip=False)
        stages[place.stage].append(block)
        channels = block.channels
    return replace(arch, stages=tuple(StageSpec(tuple(blocks)) for blocks in stages))


def _with_hidden(block: BlockSpec, in_channels: int, hidden: int) -> BlockSpec:
    if not block.has_expansion or hidden_channels(block, in_channels) == hidden:
        return block
    return replace(block, expansion=hidden / (block.base_channels or in_channels))


def _replaced(arch: ArchSpec, places: Sequence[_Place], changes: dict[int, BlockSpec]) -> ArchSpec:
    """``arch`` with other blocks at some places; hidden channels stay."""
    new = [place._replace(block=changes.get(index, place.block)) for index, place in enumerate(places)]
    return _rebuilt(arch, new, [place.hidden for place in places], places)


def _path(places: Sequence[_Place], index: int) -> str:
    stage = places[index].stage
    return f"blocks.{stage}.{sum(place.stage == stage for place in places[:index])}"


def _multiples_below(size: int, divisor: int) -> tuple[int, ...]:
    """Multiples of ``divisor`` below ``size`` in descending order."""
    return tuple(range((size - 1) // divisor * divisor, 0, -divisor))


def _expansions(arch: ArchSpec, places: Sequence[_Place]) -> Iterator[ShrinkDimension]:
    hidden = [place.hidden for place in places]
    for index, place in enumerate(places):
        if not place.block.has_expansion:
            continue

        def at(size: int, index: int = index) -> ArchSpec:
            return _rebuilt(arch, places, [*hidden[:index], size, *hidden[index + 1 :]], places)

        sizes = _multiples_below(place.hidden, HIDDEN_DIVISOR)
        yield ShrinkDimension(kind="expansion", name=_path(places, index), size=place.hidden, sizes=sizes, at=at)


def _shared_widths(places: Sequence[_Place]) -> Iterator[tuple[int, int]]:
    """Runs of blocks whose outputs shortcuts tie: first place, and last (excluded)."""
    start = 0
    for index in range(1, len(places) + 1):
        if index == len(places) or not _has_shortcut(places[index]):
            yield start, index
            start = index


def _has_shortcut(place: _Place) -> bool:
    return bool(place.block.skip) and can_skip(place.block, place.block.stride, place.in_channels)


def _widths(arch: ArchSpec, places: Sequence[_Place], divisor: int) -> Iterator[ShrinkDimension]:
    for start, end in _shared_widths(places):
        if start == 0 and _has_shortcut(places[0]):
            continue  # the stem's channels are tied to it

        def at(size: int, start: int = start, end: int = end) -> ArchSpec:
            changes = {index: replace(places[index].block, channels=size) for index in range(start, end)}
            return _replaced(arch, places, changes)

        first, last, size = _path(places, start), _path(places, end - 1), places[start].block.channels
        name = first if first == last else f"{first} to {last.rpartition('.')[2]}"
        yield ShrinkDimension(kind="width", name=name, size=size, sizes=_multiples_below(size, divisor), at=at)


def _kernels(arch: ArchSpec, places: Sequence[_Place]) -> Iterator[ShrinkDimension]:
    for index, place in enumerate(places):
        largest = max(place.block.kernels)

        def at(size: int, index: int = index) -> ArchSpec:
            block = places[index].block
            sides = tuple(min(side, size) for side in block.kernels)
            return _replaced(arch, places, {index: replace(block, kernels=sides)})

        if len(place.block.kernels) == 1 and place.block.type != "mqa":
            sizes = tuple(range(largest - 2, _SMALLEST_KERNEL - 1, -2))
            yield ShrinkDimension(kind="kernel", name=_path(places, index), size=largest, sizes=sizes, at=at)


def _groups(arch: ArchSpec, places: Sequence[_Place]) -> Iterator[ShrinkDimension]:
    """MixConv groups, of which the last, with the largest kernel, are dropped."""
    for index, place in enumerate(places):
        count = len(place.block.kernels)

        def at(size: int, index: int = index) -> ArchSpec:
            block = places[index].block
            return _replaced(arch, places, {index: replace(block, kernels=block.kernels[:size])})

        if count > 1:
            sizes = tuple(range(count - 1, 0, -1))
            yield ShrinkDimension(kind="group", name=_path(places, index), size=count, sizes=sizes, at=at)


def _blocks(arch: ArchSpec, places: Sequence[_Place]) -> Iterator[ShrinkDimension]:
    """Blocks of a stage, of which the last are dropped while they have a shortcut."""
    for stage in range(len(arch.stages)):
        rows = [index for index, place in enumerate(places) if place.stage == stage]
        removable = 0
        while removable < len(rows) - 1 and _has_shortcut(places[rows[-1 - removable]]):
            removable += 1

        def at(size: int, rows: Sequence[int] = rows) -> ArchSpec:
            dropped = set(rows[size:])
            kept = [place for index, place in enumerate(places) if index not in dropped]
            return _rebuilt(arch, kept, [place.hidden for place in kept], kept)

        sizes = tuple(range(len(rows) - 1, len(rows) - 1 - removable, -1))
        yield ShrinkDimension(kind="block", name=f"blocks.{stage}", size=len(rows), sizes=sizes, at=at)


def _head(arch: ArchSpec, divisor: int) -> Iterator[ShrinkDimension]:
    def at(size: int) -> ArchSpec:
        return replace(arch, head=replace(arch.head, channels=size))

    channels = arch.head.channels
    yield ShrinkDimension(kind="head", name="", size=channels, sizes=_multiples_below(channels, divisor), at=at)
    if isinstance(arch.head, LRASPPHead):
        yield _filters(arch, arch.head, divisor)
    elif isinstance(arch.head, SSDLiteHead):
        yield from _extra_channels(arch, arch.head, divisor)


def _filters(arch: ArchSpec, head: LRASPPHead, divisor: int) -> ShrinkDimension:
    def at(size: int) -> ArchSpec:
        return replace(arch, head=replace(head, filters=size))

    sizes = _multiples_below(head.filters, divisor)
    return ShrinkDimension(kind="head", name="filters", size=head.filters, sizes=sizes, at=at)


def _extra_channels(arch: ArchSpec, head: SSDLiteHead, divisor: int) -> Iterator[ShrinkDimension]:
    """Channels of the extra blocks of SSDLite, each on its own."""
    for index, channels in enumerate(head.extra_channels):

        def at(size: int, index: int = index) -> ArchSpec:
            extra = (*head.extra_channels[:index], size, *head.extra_channels[index + 1 :])
            return replace(arch, head=replace(head, extra_channels=extra))

        sizes = _multiples_below(channels, max(divisor, 2))  # each block has half of them inside
        yield ShrinkDimension(kind="head", name=f"extra.{index}", size=channels, sizes=sizes, at=at)


def _resolution(arch: ArchSpec, least_px: int) -> Iterator[ShrinkDimension]:
    def at(size: int) -> ArchSpec:
        return replace(arch, resolution_px=size)

    side = arch.resolution_px
    sizes = tuple(one for one in _multiples_below(side, 8 if side > 64 else 2) if one >= least_px)
    yield ShrinkDimension(kind="resolution", name="", size=side, sizes=sizes, at=at)
