"""Parser of a space's stages: from nested lists of choices to slots.

There is one slot per block string, with defaults filled in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from nas.core.errors import NasError, quoted
from search_spaces.attributes import ATTRIBUTES, KERNEL_ATTRIBUTES, Choice, block_choice, check_words, read_values
from search_spaces.layout import Slot

_STAGE_WORDS: Final = (*ATTRIBUTES, "stride", "blocks")
# What a block has if nothing is said; expansion, channels and kernel have no default, as in the block notation.
_NEUTRAL: Final[Mapping[str, Any]] = {
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
        self._choices = _Level("space.choices", check_words("space.choices", choices, ATTRIBUTES))
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
            for word in level.given:
                if word in ATTRIBUTES and _is_given(level, word) and f"{level.path}.{word}" not in self._used:
                    raise NasError(
                        f"{level.path}.{word}: has no effect: each block gives its own, or is of a type without it."
                    )

    def _stage(self, index: int, entry: object) -> tuple[Slot, ...]:
        path = f"space.stages[{index}]"
        stage = _Level(path, check_words(path, entry, _STAGE_WORDS))
        self._given.append(stage)
        (stride,) = read_values(f"{path}.stride", [stage.given.get("stride", 1)], int)
        if stride not in (1, 2):
            raise NasError(f"{path}.stride {stride!r}: must be 1 or 2.")
        blocks = _sequence(f"{path}.blocks", stage.given.get("blocks", [{}]))
        slots = []
        for position, block in enumerate(blocks):
            block_path = f"{path}.blocks[{position}]"
            level = _Level(block_path, check_words(block_path, {} if block is None else block, ATTRIBUTES))
            self._given.append(level)
            levels = (level, stage, self._choices, _Level("family", self._family(index)))
            slots.append(self._slot(index, position, levels, int(stride)))
        return tuple(slots)

    def _slot(self, stage: int, position: int, levels: Sequence[_Level], stride: int) -> Slot:
        prefix = f"s{stage}.b{position}"
        kind = self._choice(("type",), levels, stage, prefix)
        types = kind.meanings
        fields = {"type": kind}
        for words in _words_by_field():
            taken = tuple(word for word in words if _takes(types, word))
            if taken:
                fields[ATTRIBUTES[taken[0]].field] = self._choice(taken, levels, stage, prefix, types)
        repeats = fields.pop("repeats")
        if position == 0 and 0 in repeats.meanings:
            raise NasError(f"{levels[0].path}.repeats 0: only blocks after the first of a stage may be absent.")
        return Slot(prefix, _without_idle(fields), repeats, stride if position == 0 else 1)

    def _choice(
        self, words: tuple[str, ...], levels: Sequence[_Level], stage: int, prefix: str, types: tuple[str, ...] = ()
    ) -> Choice:
        """Parse the choice of the most specific level that gives one of ``words``.

        ``words``: attributes that set the same field. ``levels``: from the most specific to the most general.
        """
        for depth, level in enumerate(levels):
            present = [word for word in words if _is_given(level, word)]
            if len(present) > 1:
                raise NasError(
                    f"{level.path}: {' and '.join(present)} say the same thing; give one, and null for the other."
                )
            if present:
                word = present[0]
                self._used.add(f"{level.path}.{word}")
                shared = ATTRIBUTES[word].scope == "stage" and depth > 0
                given = level.given[word]
                if isinstance(given, Choice):
                    return given
                name = f"s{stage}.{word}" if shared else f"{prefix}.{word}"
                return block_choice(f"{level.path}.{word}", name, given, ATTRIBUTES[word])
        word = words[0]
        if word == "skip":  # as in timm: a plain convolution has a shortcut only if told so
            return Choice(f"{prefix}.skip", (), (set(types) != {"cn"},))
        if word not in _NEUTRAL:
            raise NasError(f"{levels[0].path}: {' or '.join(words)} is missing; give it here or higher up.")
        return replace(block_choice(levels[0].path, f"{prefix}.{word}", _NEUTRAL[word], ATTRIBUTES[word]), values=())


def _sequence(path: str, entries: object) -> Sequence[Any]:
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        raise NasError(f"{path} {quoted(entries)}: must be a list with at least one entry.")
    return entries


def _is_given(level: _Level, word: str) -> bool:
    """Whether the level gives ``word``.

    Null gives nothing, except that an activation of null is the network's.
    """
    return word in level.given and (level.given[word] is not None or word == "activation")


def _words_by_field() -> Iterator[tuple[str, ...]]:
    yield KERNEL_ATTRIBUTES
    yield from ((word,) for word in ATTRIBUTES if word not in (*KERNEL_ATTRIBUTES, "type"))


def _takes(types: Sequence[str], word: str) -> bool:
    """Whether a slot of these block types has the attribute.

    Each of the types must have it for kernels, at least one for the others.
    """
    taken = [kind in ATTRIBUTES[word].types for kind in types]
    return all(taken) if word in KERNEL_ATTRIBUTES else any(taken)


def _without_idle(fields: dict[str, Choice]) -> dict[str, Choice]:
    """``fields`` with choices that have no effect reduced to their first value.

    These are the partition of one group, and the dilation of a 3x3 kernel.
    """
    kernels = fields["kernels"].meanings
    idle = {
        "partition": all(len(sides) == 1 for sides in kernels),
        "dilated": max(max(sides) for sides in kernels) <= 3,
    }
    for field, is_idle in idle.items():
        if is_idle and field in fields:
            choice = fields[field]
            fields[field] = Choice(choice.name, choice.values[:1], choice.meanings[:1])
    return fields
