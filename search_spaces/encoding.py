"""Encoding of a network as a genotype of a space.

Every part of the spec narrows the choices that it depends on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nas.arch.blocks import BlockSpec
from nas.arch.scaling.transform import Scaling
from nas.arch.spec import ArchSpec, StageSpec
from nas.core.errors import NasError
from search_spaces.attributes import TYPES_TAKING, Choice
from search_spaces.layout import Layout, Slot
from search_spaces.space import Scalar, listed


class _Mismatch(NasError):
    """The first part of a network that a space cannot express.

    ``progress``: the number of parts that matched before it.
    """

    def __init__(self, message: str, progress: int) -> None:
        super().__init__(message)
        self.progress = progress


class _Open:
    """Values still possible for each choice, narrowed part by part."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self.values: dict[str, tuple[Scalar, ...]] = {}
        self.progress = 0

    def copy(self) -> _Open:
        other = _Open(self._owner)
        other.values, other.progress = dict(self.values), self.progress
        return other

    def narrow(self, choice: Choice, fits: Callable[[Any], bool], what: str) -> None:
        """Restrict ``choice`` to the values whose meaning ``fits``.

        Raises: _Mismatch, described as ``what``, if none is left.
        """
        if choice.is_open:
            before = self.values.get(choice.name, choice.values)
            pairs = zip(choice.values, choice.meanings, strict=True)
            left = tuple(value for value, meaning in pairs if value in before and fits(meaning))
            self.values[choice.name] = left
            offered = f"the space offers {listed(before)} for {choice.name}"
        else:
            left = tuple(meaning for meaning in choice.meanings if fits(meaning))
            offered = f"the space has {choice.meanings[0]} for {choice.name}"
        if not left:
            raise self.mismatch(f"{what}, {offered}")
        self.progress += 1

    def mismatch(self, message: str) -> _Mismatch:
        return _Mismatch(f"space {self._owner!r} cannot express this network: {message}.", self.progress)


class _Placed(NamedTuple):
    """One block of the network, repeats unrolled."""

    block: BlockSpec
    stride: int
    activation: str

    def value(self, field: str) -> Any:
        """The block's value of ``field``; None where the field has no effect.

        Then any choice matches.
        """
        block = self.block
        if field == "activation":
            return self.activation
        mixed, widest = len(block.kernels) > 1, max(block.kernels)
        if block.type not in TYPES_TAKING[field]:
            return None
        if (field == "partition" and not mixed) or (field == "dilated" and (widest <= 3 or self.stride == 2)):
            return None
        return getattr(block, field)


def encode(layout: Layout, spec: ArchSpec) -> dict[str, Scalar]:
    """Find a genotype of ``layout`` whose network is ``spec``.

    Each pair of width and depth multipliers is tried in turn.

    Raises: NasError naming the first part that cannot be expressed, under the multipliers with which most parts
    matched.
    """
    difference = layout.family.difference(spec)
    if difference:
        raise _Open(layout.name).mismatch(difference)
    failures: list[_Mismatch] = []
    for width, depth in itertools.product(layout.network["width"].meanings, layout.network["depth"].meanings):
        try:
            possible = _match(layout, spec, layout.family.scaling_at(width, depth, spec.resolution_px))
        except _Mismatch as failure:
            failures.append(failure)
            continue
        return {
            choice.name: possible.values.get(choice.name, choice.values)[0]
            for _, choice in layout.choices()
            if choice.is_open
        }
    raise max(failures, key=lambda failure: failure.progress)


def _match(layout: Layout, spec: ArchSpec, scaling: Scaling) -> _Open:
    """Find the choices that give ``spec`` under ``scaling``."""
    possible = _Open(layout.name)
    stem, head, network = spec.stem, spec.head, layout.network
    _equal(possible, network["width"], scaling.width, "width")
    _equal(possible, network["depth"], scaling.depth, "depth")
    _equal(possible, network["resolution_px"], spec.resolution_px, "resolution_px")
    channels = network["stem.channels"]
    possible.narrow(
        channels, lambda c: scaling.end_channels(c, scaling.stem) == stem.channels, f"stem channels are {stem.channels}"
    )
    _equal(possible, network["stem.kernel"], stem.kernel, "stem kernel")
    _equal(possible, network["stem.stride"], stem.stride, "stem stride")
    if len(spec.stages) != len(layout.stages):
        raise possible.mismatch(f"it has {len(spec.stages)} stages, the space has {len(layout.stages)}")
    for index, stage in enumerate(spec.stages):
        possible = _match_stage(possible, layout, index, _placed(stage, spec.activation), scaling)
    channels = network["head.channels"]
    possible.narrow(
        channels, lambda c: scaling.end_channels(c, scaling.head) == head.channels, f"head channels are {head.channels}"
    )
    _equal(possible, network["head.kind"], head.kind, "head kind")
    return possible


def _placed(stage: StageSpec, activation: str) -> tuple[_Placed, ...]:
    """Unroll a stage into single blocks, each with an explicit activation."""
    return tuple(
        _Placed(block, block.stride if repeat == 0 else 1, block.activation or activation)
        for block in stage.blocks
        for repeat in range(block.repeats)
    )


def _match_stage(possible: _Open, layout: Layout, index: int, blocks: Sequence[_Placed], scaling: Scaling) -> _Open:
    """Narrow ``possible`` to the choices that give the ``blocks`` of stage ``index``.

    The first combination of repeats that fits is used.
    """
    slots = layout.stages[index]
    failures: list[_Mismatch] = []
    depths: set[int] = set()
    for repeats in itertools.product(*(slot.repeats.meanings for slot in slots)):
        counts = layout.scaled_counts(index, tuple(count for count in repeats if count), scaling)
        depths.add(sum(counts))
        if sum(counts) != len(blocks):
            continue
        scaled = iter(counts)
        attempt = possible.copy()
        try:
            start = 0
            for slot, count in zip(slots, repeats, strict=True):
                _equal(attempt, slot.repeats, count, f"{slot.path} repeats")
                length = next(scaled) if count else 0
                _match_run(attempt, layout, slot, blocks[start : start + length], scaling)
                start += length
        except _Mismatch as failure:
            failures.append(failure)
            continue
        return attempt
    if failures:
        raise max(failures, key=lambda failure: failure.progress)
    offered = listed(tuple(sorted(depths)))
    raise possible.mismatch(f"stage {index} has depth {len(blocks)}, the space offers {offered}")


def _match_run(possible: _Open, layout: Layout, slot: Slot, blocks: Sequence[_Placed], scaling: Scaling) -> None:
    """Narrow the choices of one slot to those that give each of ``blocks``."""
    if blocks and blocks[0].stride != slot.stride:
        raise possible.mismatch(f"{slot.path} has stride {blocks[0].stride}, the space has {slot.stride}")
    for block in blocks:
        if block.block.group_size is not None:
            raise possible.mismatch(f"{slot.path} needs group_size {block.block.group_size}, where no block has any")
        for field in TYPES_TAKING:
            wanted = block.value(field)
            if field == "repeats" or wanted is None:
                continue
            what = f"{slot.path} needs {field} {wanted}"
            if field not in slot.fields:
                raise possible.mismatch(f"{what}, where no block has any")
            possible.narrow(slot.fields[field], _test(field, wanted, layout, scaling), what)


def _test(field: str, wanted: Any, layout: Layout, scaling: Scaling) -> Callable[[Any], bool]:
    """Predicate whether a meaning of ``field`` gives the value ``wanted``."""
    if field == "channels":
        return lambda channels: bool(scaling.channels(channels) == wanted)
    if field == "activation":
        return lambda activation: bool((activation or layout.family.activation) == wanted)
    return lambda meaning: bool(meaning == wanted)


def _equal(possible: _Open, choice: Choice, wanted: Any, what: str) -> None:
    possible.narrow(choice, lambda meaning: bool(meaning == wanted), f"{what} is {wanted}")
