"""Layout of a parsed space: its slots, its choices and the assembly of networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, NamedTuple

from nas.arch.blocks import BlockSpec
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.rounding import scale_repeats
from nas.arch.scaling.transform import Scaling
from nas.arch.spec import ArchSpec, StageSpec
from nas.core.bounded_cache import BoundedCache
from search_spaces.attributes import TYPES_WITH_FIELD, Choice
from search_spaces.family import Family
from search_spaces.space import Genotype

_scaled_repeats: Final = lru_cache(maxsize=65536)(scale_repeats)
_CACHED_BLOCKS: Final = 16384  # of one slot, some 5 MB
_CACHED_ENDS: Final = 4096
_CACHED_STAGES: Final = 65536  # of all stages, some 30 MB


class Slot:
    """One block string of a stage, with its choices.

    ``path``: genotype prefix such as ``s2.b0``. ``fields``: a ``Choice`` for every field of ``BlockSpec`` that one of
    its types has, except ``repeats``; 0 repeats omit the block. ``stride``: of its first repeat. Built blocks are
    cached by the slot's own choices, which makes decoding fast.
    """

    def __init__(self, path: str, fields: Mapping[str, Choice], repeats: Choice, stride: int) -> None:
        self.path = path
        self.fields = fields
        self.repeats = repeats
        self.stride = stride
        self._values = _Values(fields)
        self._blocks: BoundedCache[tuple[object, ...], BlockSpec] = BoundedCache(_CACHED_BLOCKS)

    def block(self, genotype: Genotype, repeats: int, scaling: Scaling | None) -> BlockSpec:
        """Decode the slot's block from ``genotype``, with ``repeats`` repeats.

        Its channels are scaled unless ``scaling`` is None.
        """
        key = (repeats, scaling and scaling.width, self._values.key(genotype))
        return self._blocks.get(key) or self._blocks.keep(key, self._build(genotype, repeats, scaling))

    def _build(self, genotype: Genotype, repeats: int, scaling: Scaling | None) -> BlockSpec:
        fields = self._values.meanings(genotype)
        if len(self.fields["type"].meanings) > 1:
            # Fields that the chosen type does not have are omitted: a ds block in place of an ir one has no expansion.
            fields = {field: value for field, value in fields.items() if fields["type"] in TYPES_WITH_FIELD[field]}
        if scaling is not None:
            fields["channels"] = scaling.channels(fields["channels"])
        # Choices without effect would be misleading in the block string.
        if len(fields["kernels"]) == 1:
            fields.pop("partition", None)
        if max(fields["kernels"]) <= 3:
            fields.pop("dilated", None)
        return BlockSpec(stride=self.stride, repeats=repeats, **fields)


class _Values:
    """Look-up of a genotype's values for some choices, by what each sets."""

    def __init__(self, choices: Mapping[str, Choice]) -> None:
        self._fixed = {field: choice.meanings[0] for field, choice in choices.items()}
        self._open = [
            (field, choice.name, dict(zip(choice.values, choice.meanings, strict=True)))
            for field, choice in choices.items()
            if choice.is_open
        ]
        names = [name for _, name, _ in self._open]
        self._key = itemgetter(*names) if names else None

    def key(self, genotype: Genotype) -> object:
        """Values of the open choices."""
        return self._key(genotype) if self._key else None

    def meanings(self, genotype: Genotype) -> dict[str, Any]:
        """What each choice sets to which meaning, in the order of the choices."""
        meanings = dict(self._fixed)
        for key, name, meaning_of in self._open:
            meanings[key] = meaning_of[genotype[name]]
        return meanings


class _Ends(NamedTuple):
    """What the choices of the whole network set.

    Its scaling, and the fields of its spec other than the stages, ``scaled`` and before scaling (``base``).
    """

    scaling: Scaling
    scaled: Mapping[str, Any]
    base: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Parsed content of a space's YAML.

    ``network``: the choices of the whole network, by name. ``stages``: the slots of each stage.
    """

    name: str
    family: Family
    network: Mapping[str, Choice]
    stages: tuple[tuple[Slot, ...], ...]
    _values: _Values = field(init=False, repr=False, compare=False)
    _stage_values: tuple[_Values, ...] = field(init=False, repr=False, compare=False)
    _end_cache: BoundedCache[object, _Ends] = field(init=False, repr=False, compare=False)
    _stage_cache: BoundedCache[object, StageSpec] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_stage = [
            [choice for slot in slots for choice in (slot.repeats, *slot.fields.values())] for slots in self.stages
        ]
        computed = {
            "_values": _Values(self.network),
            "_stage_values": tuple([_Values({choice.name: choice for choice in choices}) for choices in by_stage]),
            "_end_cache": BoundedCache(_CACHED_ENDS),
            "_stage_cache": BoundedCache(_CACHED_STAGES),
        }
        for name, value in computed.items():
            object.__setattr__(self, name, value)

    def choices(self) -> Iterator[tuple[str, Choice]]:
        """Iterate over all choices, each with the field that it sets, in network order.

        A choice shared by several slots is repeated for each.
        """
        yield from self.network.items()
        for stage in self.stages:
            for slot in stage:
                yield "repeats", slot.repeats
                yield from slot.fields.items()

    def scaling(self, genotype: Genotype) -> Scaling:
        """The ``Scaling`` of ``genotype``."""
        return self._ends(genotype).scaling

    def assemble(self, genotype: Genotype, *, scaled: bool, **data: int) -> ArchSpec:
        """Build the network of a valid ``genotype``, before or after scaling.

        A network before scaling has the largest resolution of the space. ``data``: classes and in_channels.
        """
        ends = self._ends(genotype)
        scaling = ends.scaling if scaled else None
        stages = tuple([self._stage(index, genotype, scaling) for index in range(len(self.stages))])
        return ArchSpec(stages=stages, **{**(ends.scaled if scaled else ends.base), **data})

    def _ends(self, genotype: Genotype) -> _Ends:
        key = self._values.key(genotype)
        return self._end_cache.get(key) or self._end_cache.keep(key, self._build_ends(self._values.meanings(genotype)))

    def _build_ends(self, values: Mapping[str, Any]) -> _Ends:
        """Scaling, and fields of the spec, of ``values`` of the network's choices."""
        scaling = self.family.scaling_at(*[values[name] for name in MULTIPLIERS])
        stem, head = values["stem.channels"], values["head.channels"]
        widths = (
            (scaling.end_channels(stem, scaling.stem), scaling.end_channels(head, scaling.head), scaling.resolution_px),
            (stem, head, max(self.network["resolution_px"].meanings)),
        )
        scaled, base = (
            {
                "name": self.name,
                "stem": StemSpec(channels=stem, kernel=values["stem.kernel"], stride=values["stem.stride"]),
                "head": HeadSpec(channels=head, kind=values["head.kind"]),
                "resolution_px": resolution_px,
                **self.family.network(),
            }
            for stem, head, resolution_px in widths
        )
        return _Ends(scaling, scaled, base)

    def _stage(self, index: int, genotype: Genotype, scaling: Scaling | None) -> StageSpec:
        """Decode a stage; it is cached by its choices and the multipliers that scale it."""
        multipliers = scaling and (scaling.width, scaling.depth)
        key = (index, multipliers, self._stage_values[index].key(genotype))
        return self._stage_cache.get(key) or self._stage_cache.keep(key, self._build_stage(index, genotype, scaling))

    def _build_stage(self, index: int, genotype: Genotype, scaling: Scaling | None) -> StageSpec:
        slots = self.stages[index]
        counts = tuple([slot.repeats.meaning(genotype) for slot in slots])
        if 0 in counts:
            slots = tuple([slot for slot, count in zip(slots, counts, strict=True) if count])
            counts = tuple([count for count in counts if count])
        if scaling is not None:
            counts = self.scaled_counts(index, counts, scaling)
        return StageSpec(
            tuple([slot.block(genotype, count, scaling) for slot, count in zip(slots, counts, strict=True)])
        )

    def scaled_counts(self, index: int, counts: tuple[int, ...], scaling: Scaling) -> tuple[int, ...]:
        """Repeats of the present slots of stage ``index`` after depth scaling."""
        is_end = index in (0, len(self.stages) - 1)
        depth = 1.0 if scaling.fixed_ends and is_end else scaling.depth
        return _scaled_repeats(counts, depth, scaling.depth_rule)


MULTIPLIERS: Final = ("width", "depth", "resolution_px")
