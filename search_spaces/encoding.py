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
from search_spaces.attributes import TYPES_WITH_FIELD, Choice
from search_spaces.layout import Layout, Slot
from search_spaces.space import Scalar, format_values


class _Mismatch(NasError):
    """The first part of a network that a space cannot express.

    ``progress``: the number of parts that matched before it.
    """

    def __init__(self, message: str, progress: int) -> None:
        super().__init__(message)
        self.progress = progress


class _Candidates:
    """Values still possible for each choice, narrowed part by part."""

    def __init__(self, space: str) -> None:
        self._space = space
        self.values: dict[str, tuple[Scalar, ...]] = {}
        self.progress = 0

    def copy(self) -> _Candidates:
        copied = _Candidates(self._space)
        copied.values, copied.progress = dict(self.values), self.progress
        return copied

    def narrow(self, choice: Choice, fits: Callable[[Any], bool], what: str) -> None:
        """Restrict ``choice`` to the values whose meaning ``fits``.

        Raises: _Mismatch, described as ``what``, if none is left.
        """
        if choice.is_open:
            before = self.values.get(choice.name, choice.values)
            pairs = zip(choice.values, choice.meanings, strict=True)
            remaining = tuple(value for value, meaning in pairs if value in before and fits(meaning))
            self.values[choice.name] = remaining
            offered = f"the space offers {format_values(before)} for {choice.name}"
        else:
            remaining = tuple(meaning for meaning in choice.meanings if fits(meaning))
            offered = f"the space has {choice.meanings[0]} for {choice.name}"
        if not remaining:
            raise self.mismatch(f"{what}, {offered}")
        self.progress += 1

    def mismatch(self, message: str) -> _Mismatch:
        return _Mismatch(f"space {self._space!r} cannot express this network: {message}.", self.progress)


class _UnrolledBlock(NamedTuple):
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
        if block.type not in TYPES_WITH_FIELD[field]:
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
        raise _Candidates(layout.name).mismatch(difference)
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


def _match(layout: Layout, spec: ArchSpec, scaling: Scaling) -> _Candidates:
    """Find the choices that give ``spec`` under ``scaling``."""
    possible = _Candidates(layout.name)
    stem, head, network = spec.stem, spec.head, layout.network
    _narrow_equal(possible, network["width"], scaling.width, "width")
    _narrow_equal(possible, network["depth"], scaling.depth, "depth")
    _narrow_equal(possible, network["resolution_px"], spec.resolution_px, "resolution_px")
    channels = network["stem.channels"]
    possible.narrow(
        channels, lambda c: scaling.end_channels(c, scaling.stem) == stem.channels, f"stem channels are {stem.channels}"
    )
    _narrow_equal(possible, network["stem.kernel"], stem.kernel, "stem kernel")
    _narrow_equal(possible, network["stem.stride"], stem.stride, "stem stride")
    if len(spec.stages) != len(layout.stages):
        raise possible.mismatch(f"it has {len(spec.stages)} stages, the space has {len(layout.stages)}")
    for index, stage in enumerate(spec.stages):
        possible = _match_stage(possible, layout, index, _unroll(stage, spec.activation), scaling)
    channels = network["head.channels"]
    possible.narrow(
        channels, lambda c: scaling.end_channels(c, scaling.head) == head.channels, f"head channels are {head.channels}"
    )
    _narrow_equal(possible, network["head.kind"], head.kind, "head kind")
    return possible


def _unroll(stage: StageSpec, activation: str) -> tuple[_UnrolledBlock, ...]:
    """Unroll a stage into single blocks, each with an explicit activation."""
    return tuple(
        _UnrolledBlock(block, block.stride if repeat == 0 else 1, block.activation or activation)
        for block in stage.blocks
        for repeat in range(block.repeats)
    )


def _match_stage(
    possible: _Candidates, layout: Layout, index: int, blocks: Sequence[_UnrolledBlock], scaling: Scaling
) -> _Candidates:
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
                _narrow_equal(attempt, slot.repeats, count, f"{slot.path} repeats")
                length = next(scaled) if count else 0
                _match_slot(attempt, layout, slot, blocks[start : start + length], scaling)
                start += length
        except _Mismatch as failure:
            failures.append(failure)
            continue
        return attempt
    if failures:
        raise max(failures, key=lambda failure: failure.progress)
    offered = format_values(tuple(sorted(depths)))
    raise possible.mismatch(f"stage {index} has depth {len(blocks)}, the space offers {offered}")


def _match_slot(
    possible: _Candidates, layout: Layout, slot: Slot, blocks: Sequence[_UnrolledBlock], scaling: Scaling
) -> None:
    """Narrow the choices of one slot to those that give each of ``blocks``."""
    if blocks and blocks[0].stride != slot.stride:
        raise possible.mismatch(f"{slot.path} has stride {blocks[0].stride}, the space has {slot.stride}")
    for block in blocks:
        if block.block.group_size is not None:
            raise possible.mismatch(
                f"{slot.path} needs group_size {block.block.group_size}, which no block of the space has"
            )
        for field in TYPES_WITH_FIELD:
            wanted = block.value(field)
            if field == "repeats" or wanted is None:
                continue
            what = f"{slot.path} needs {field} {wanted}"
            if field not in slot.fields:
                raise possible.mismatch(f"{what}, which no block of that slot has")
            possible.narrow(slot.fields[field], _predicate(field, wanted, layout, scaling), what)


def _predicate(field: str, wanted: Any, layout: Layout, scaling: Scaling) -> Callable[[Any], bool]:
    """Predicate whether a meaning of ``field`` gives the value ``wanted``."""
    if field == "channels":
        return lambda channels: bool(scaling.channels(channels) == wanted)
    if field == "activation":
        return lambda activation: bool((activation or layout.family.activation) == wanted)
    return lambda meaning: bool(meaning == wanted)


def _narrow_equal(possible: _Candidates, choice: Choice, wanted: Any, what: str) -> None:
    possible.narrow(choice, lambda meaning: bool(meaning == wanted), f"{what} is {wanted}")
