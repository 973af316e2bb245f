"""Layout of a parsed space: its slots, its choices and the assembly of networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from nas.arch.blocks import BlockSpec
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.rounding import scale_repeats
from nas.arch.scaling.transform import Scaling
from nas.arch.spec import ArchSpec, StageSpec
from search_spaces.attributes import TYPES_WITH_FIELD, Choice
from search_spaces.family import Family
from search_spaces.space import Genotype

_scaled_repeats: Final = lru_cache(maxsize=65536)(scale_repeats)


class Slot:
    """One block string of a stage, with its choices.

    ``path``: genotype prefix such as ``s2.b0``. ``fields``: a ``Choice`` for every field of ``BlockSpec`` that one of
    its types has, except ``repeats``; 0 repeats omit the block. ``stride``: of its first repeat. Built blocks are
    cached, at most one per combination of the slot's own choices, which makes decoding fast.
    """

    def __init__(self, path: str, fields: Mapping[str, Choice], repeats: Choice, stride: int) -> None:
        self.path = path
        self.fields = fields
        self.repeats = repeats
        self.stride = stride
        self._open = tuple(choice.name for choice in fields.values() if choice.is_open)
        self._blocks: dict[tuple[object, ...], BlockSpec] = {}

    def block(self, genotype: Genotype, repeats: int, scaling: Scaling | None) -> BlockSpec:
        """Decode the slot's block from ``genotype``, with ``repeats`` repeats.

        Its channels are scaled unless ``scaling`` is None.
        """
        key = (repeats, scaling and scaling.width, *[genotype[name] for name in self._open])
        block = self._blocks.get(key)
        if block is None:
            block = self._blocks[key] = self._build(genotype, repeats, scaling)
        return block

    def _build(self, genotype: Genotype, repeats: int, scaling: Scaling | None) -> BlockSpec:
        fields: dict[str, Any] = {field: choice.meaning(genotype) for field, choice in self.fields.items()}
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Parsed content of a space's YAML.

    ``network``: the choices of the whole network, by name. ``stages``: the slots of each stage.
    """

    name: str
    family: Family
    network: Mapping[str, Choice]
    stages: tuple[tuple[Slot, ...], ...]

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
        width, depth, resolution_px = (self.network[name].meaning(genotype) for name in MULTIPLIERS)
        return self.family.scaling_at(width, depth, resolution_px)

    def assemble(self, genotype: Genotype, scaling: Scaling | None, **data: int) -> ArchSpec:
        """Build the network of a valid ``genotype``, scaled unless ``scaling`` is None.

        An unscaled network has the largest resolution of the space. ``data``: classes and in_channels.
        """
        values = {name: choice.meaning(genotype) for name, choice in self.network.items()}
        stem_channels, head_channels = values["stem.channels"], values["head.channels"]
        resolution_px = max(self.network["resolution_px"].meanings)
        if scaling is not None:
            stem_channels = scaling.end_channels(stem_channels, scaling.stem)
            head_channels = scaling.end_channels(head_channels, scaling.head)
            resolution_px = scaling.resolution_px
        return ArchSpec(
            name=self.name,
            stem=StemSpec(channels=stem_channels, kernel=values["stem.kernel"], stride=values["stem.stride"]),
            stages=tuple([self._stage(index, genotype, scaling) for index in range(len(self.stages))]),
            head=HeadSpec(channels=head_channels, kind=values["head.kind"]),
            resolution_px=resolution_px,
            **{**self.family.network(), **data},
        )

    def _stage(self, index: int, genotype: Genotype, scaling: Scaling | None) -> StageSpec:
        counted = [(slot, slot.repeats.meaning(genotype)) for slot in self.stages[index]]
        present = [(slot, count) for slot, count in counted if count]
        counts = tuple([count for _, count in present])
        if scaling is not None:
            counts = self.scaled_counts(index, counts, scaling)
        return StageSpec(
            tuple([slot.block(genotype, count, scaling) for (slot, _), count in zip(present, counts, strict=True)])
        )

    def scaled_counts(self, index: int, counts: tuple[int, ...], scaling: Scaling) -> tuple[int, ...]:
        """Repeats of the present slots of stage ``index`` after depth scaling."""
        is_end = index in (0, len(self.stages) - 1)
        depth = 1.0 if scaling.fixed_ends and is_end else scaling.depth
        return _scaled_repeats(counts, depth, scaling.depth_rule)


MULTIPLIERS: Final = ("width", "depth", "resolution_px")
