"""Parser of a space's stages: from nested lists of choices to slots.

There is one slot per block string, with defaults filled in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from nas.core.errors import NasError, quoted
from search_spaces.attributes import ATTRIBUTES, KERNEL_ATTRIBUTES, Choice, block_choice, check_keys, read_values
from search_spaces.layout import Slot

_MAX_ENTRIES: Final = 200  # stages of a space, or blocks of a stage
_MAX_LEVELS: Final = 1000  # stages and blocks together
_STAGE_KEYS: Final = (*ATTRIBUTES, "stride", "blocks")
# Defaults of a block; expansion, channels and kernel have none, as in the block notation.
_BLOCK_DEFAULTS: Final[Mapping[str, Any]] = {
    "repeats": 1,
    "partition": "equal",
    "dilated": False,
    "expand_groups": 1,
    "project_groups": 1,
    "se_ratio": 0.0,
    "activation": None,
}


class _Level(NamedTuple):
    """A mapping of the YAML that gives attributes, and its path."""

    path: str
    given: Mapping[str, Any]


class StageReader:
    """Parser of the stages of one space.

    ``choices``: attributes of all blocks. ``family``: the family's defaults for a stage index.
    """

    def __init__(self, choices: object, family: Callable[[int], Mapping[str, Any]]) -> None:
        self._choices = _Level("space.choices", check_keys("space.choices", choices, ATTRIBUTES))
        self._family = family
        self._used: set[str] = set()
        self._given: list[_Level] = [self._choices]

    def read(self, stages: object) -> tuple[tuple[Slot, ...], ...]:
        """Parse all stages into slots.

        Raises: NasError naming the first entry that is unknown, impossible, missing or without effect.
        """
        entries = _sequence("space.stages", stages)
        slots = tuple(self._stage(index, entry) for index, entry in enumerate(entries))
        self._refuse_unused()
        return slots

    def _refuse_unused(self) -> None:
        for level in self._given:
            for key in level.given:
                if key in ATTRIBUTES and _is_given(level, key) and f"{level.path}.{key}" not in self._used:
                    raise NasError(
                        f"{level.path}.{key}: has no effect: each block has its own, or is of a type without "
                        "it; remove it."
                    )

    def _stage(self, index: int, entry: object) -> tuple[Slot, ...]:
        path = f"space.stages[{index}]"
        stage = _Level(path, check_keys(path, entry, _STAGE_KEYS))
        self._given.append(stage)
        (stride,) = read_values(f"{path}.stride", [stage.given.get("stride", 1)], int)
        if stride not in (1, 2):
            raise NasError(f"{path}.stride {stride!r}: must be 1 or 2.")
        blocks = _sequence(f"{path}.blocks", stage.given.get("blocks", [{}]))
        slots = []
        for position, block in enumerate(blocks):
            block_path = f"{path}.blocks[{position}]"
            level = _Level(block_path, check_keys(block_path, {} if block is None else block, ATTRIBUTES))
            self._given.append(level)
            if len(self._given) > _MAX_LEVELS:
                raise NasError(f"{block_path}: more than {_MAX_LEVELS} stages and blocks; a space has fewer.")
            levels = (level, stage, self._choices, _Level("family", self._family(index)))
            slots.append(self._slot(index, position, levels, int(stride)))
        return tuple(slots)

    def _slot(self, stage: int, position: int, levels: Sequence[_Level], stride: int) -> Slot:
        prefix = f"s{stage}.b{position}"
        kind = self._choice(("type",), levels, stage, prefix)
        types = kind.meanings
        fields = {"type": kind}
        for keys in _attributes_by_field():
            taken = tuple(key for key in keys if _takes(types, key))
            if taken:
                fields[ATTRIBUTES[taken[0]].field] = self._choice(taken, levels, stage, prefix, types)
        repeats = fields.pop("repeats")
        if position == 0 and 0 in repeats.meanings:
            raise NasError(f"{levels[0].path}.repeats 0: only blocks after the first of a stage may be absent.")
        return Slot(prefix, _close_ineffective(fields), repeats, stride if position == 0 else 1)

    def _choice(
        self, keys: tuple[str, ...], levels: Sequence[_Level], stage: int, prefix: str, types: tuple[str, ...] = ()
    ) -> Choice:
        """Parse the choice of the most specific level that gives one of ``keys``.

        ``keys``: attributes that set the same field. ``levels``: from the most specific to the most general.
        """
        for depth, level in enumerate(levels):
            present = [key for key in keys if _is_given(level, key)]
            if len(present) > 1:
                raise NasError(
                    f"{level.path}: {' and '.join(present)} set the same field; give one, and null for the other."
                )
            if present:
                key = present[0]
                self._used.add(f"{level.path}.{key}")
                shared = ATTRIBUTES[key].scope == "stage" and depth > 0
                given = level.given[key]
                if isinstance(given, Choice):
                    return given
                name = f"s{stage}.{key}" if shared else f"{prefix}.{key}"
                return block_choice(f"{level.path}.{key}", name, given, ATTRIBUTES[key])
        key = keys[0]
        if key == "skip":  # as in timm: a plain convolution has a shortcut only if requested
            return Choice(f"{prefix}.skip", (), (set(types) != {"cn"},))
        if key not in _BLOCK_DEFAULTS:
            raise NasError(
                f"{levels[0].path}: {' or '.join(keys)} is missing; give it here, in the stage or in space.choices."
            )
        return replace(
            block_choice(levels[0].path, f"{prefix}.{key}", _BLOCK_DEFAULTS[key], ATTRIBUTES[key]), values=()
        )


def _sequence(path: str, entries: object) -> Sequence[Any]:
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        raise NasError(f"{path} {quoted(entries)}: must be a list with at least one entry.")
    if len(entries) > _MAX_ENTRIES:
        raise NasError(f"{path}: {len(entries):,} entries; at most {_MAX_ENTRIES} are allowed.")
    return entries


def _is_given(level: _Level, key: str) -> bool:
    """Whether the level gives ``key``.

    Null gives nothing, except that an activation of null is the network's.
    """
    return key in level.given and (level.given[key] is not None or key == "activation")


def _attributes_by_field() -> Iterator[tuple[str, ...]]:
    yield KERNEL_ATTRIBUTES
    yield from ((key,) for key in ATTRIBUTES if key not in (*KERNEL_ATTRIBUTES, "type"))


def _takes(types: Sequence[str], key: str) -> bool:
    """Whether a slot of these block types has the attribute.

    Each of the types must have it for kernels, at least one for the others.
    """
    taken = [kind in ATTRIBUTES[key].types for kind in types]
    return all(taken) if key in KERNEL_ATTRIBUTES else any(taken)


def _close_ineffective(fields: dict[str, Choice]) -> dict[str, Choice]:
    """``fields`` with choices that have no effect reduced to their first value.

    These are the partition of one group, and the dilation of a 3x3 kernel.
    """
    kernels = fields["kernels"].meanings
    ineffective = {
        "partition": all(len(sides) == 1 for sides in kernels),
        "dilated": max(max(sides) for sides in kernels) <= 3,
    }
    for field, has_no_effect in ineffective.items():
        if has_no_effect and field in fields:
            choice = fields[field]
            fields[field] = Choice(choice.name, choice.values[:1], choice.meanings[:1])
    return fields
