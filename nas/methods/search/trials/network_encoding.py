"""Genotypes of networks that are given as choices, specs or block strings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from nas.arch.notation import split_stages
from nas.arch.spec import ArchSpec, StageSpec
from nas.core.errors import NasError, quoted
from nas.core.formatting import first_names

if TYPE_CHECKING:
    from nas.study.candidates import Space

Choices = Mapping[str, Any]
# What block strings do not say, and a space that does not search it has one of, unscaled.
_FIXED: Final = {name: attrgetter(name) for name in ("resolution_px", "stem.kernel", "stem.stride", "head.kind")}
_MAX_TEMPLATES: Final = 1000  # combinations of stem, head and resolution that are tried for block strings
_STAGE_SEPARATOR: Final = ";"  # of the column blocks in trials.csv


class NotInSpaceError(NasError):
    """A network that the space does not contain."""


class NetworkEncoder:
    """Finds the genotypes of networks in one ``space``.

    ``choices``: those of the network that are known besides, by dotted name. Block strings say nothing about stem, head
    and resolution. Where the space has one of each these are the network's; where it has several, those with which the
    space contains the network, and if that leaves different networks, ``choices`` must say which.

        encoder.of_blocks("ds_r1_k3_s1_c8; ir_r2_k5_s2_e3_c16")  # {"s1.b0.kernel": 5, "s1.b0.expansion": 3.0, ...}
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._first = {name: values[0] for name, values in space.parameters.items()}
        self._outside = tuple(name for name in space.parameters if self._is_outside_blocks(name))
        self._templates: dict[tuple[Any, ...], list[ArchSpec]] = {}

    def of_choices(self, choices: Choices, blocks: str = "") -> dict[str, Any]:
        """Genotype with ``choices`` for all parameters of the space.

        Raises: NasError for a missing choice, for a value that the space lacks (NotInSpaceError), and if the network
        has other block strings than ``blocks``.
        """
        self._check(choices)
        missing = [name for name in self._space.parameters if name not in choices]
        if missing:
            raise NasError(f"space {self._space.name!r} has more choices: {first_names(missing)}.")
        genotype = {name: choices[name] for name in self._space.parameters}
        if blocks and self._space.decode(genotype).stages != _parsed(blocks):
            raise NasError(
                f"space {self._space.name!r} gives another network for these choices than blocks has; use the settings "
                "of the space that the file was made with."
            )
        return genotype

    def of_spec(self, spec: ArchSpec, choices: Choices | None = None) -> dict[str, Any]:
        """Genotype of ``spec``.

        Raises: NotInSpaceError where the space cannot express it; NasError where it does not fit ``choices``.
        """
        try:
            genotype = dict(self._space.encode(spec))
        except NasError as error:
            raise NotInSpaceError(str(error)) from None
        self._check_agreement(genotype, choices or {})
        return genotype

    def of_blocks(self, blocks: str, choices: Choices | None = None) -> dict[str, Any]:
        """Genotype of the network with these ``blocks``.

        Strings of timm or TensorFlow: blanks between the blocks of a stage, ``;`` or ``|`` between stages.

        Raises: NotInSpaceError where the space cannot express it; NasError for strings that cannot be parsed, that
        leave open which of several networks they are, or that do not fit ``choices``.
        """
        choices, stages = choices or {}, _parsed(blocks)
        self._check(choices)
        found: dict[str, dict[str, Any]] = {}
        failures: list[NasError] = []
        for template in self._templates_with(choices):
            try:
                spec = replace(template, stages=stages)
                found.setdefault(spec.arch_id, dict(self._space.encode(spec)))
            except NasError as error:
                failures.append(error)
        if not found:  # of a space in ``search_spaces`` the failure that the most parts precede
            raise NotInSpaceError(str(max(failures, key=lambda error: getattr(error, "progress", 0))))
        if len(found) > 1:
            raise self._ambiguity(list(found.values()))
        (genotype,) = found.values()
        self._check_agreement(genotype, choices)
        return genotype

    def check_fixed(self, genotype: Choices, cells: Mapping[str, str]) -> None:
        """Refuse ``cells`` of another space's choices that differ in this one's network.

        Raises: NotInSpaceError, for instance for another ``resolution_px`` than the only one of the space.
        """
        names = [name for name in _FIXED if name in cells and name not in self._space.parameters]
        spec = self._space.decode(genotype) if names else None
        for name in names:
            if cells[name] != str(_FIXED[name](spec)):
                raise NotInSpaceError(
                    f"{name} {quoted(cells[name])}: space {self._space.name!r} has {_FIXED[name](spec)}."
                )

    def _is_outside_blocks(self, name: str) -> bool:
        """Whether the choice ``name`` changes stem, head or resolution."""
        decoded = (self._space.decode({**self._first, name: value}) for value in self._space.parameters[name])
        return len({_ends(spec) for spec in decoded}) > 1

    def _templates_with(self, choices: Choices) -> list[ArchSpec]:
        """A network for each stem, head and resolution that ``choices`` leave open."""
        given = {name: choices[name] for name in self._outside if name in choices}
        key = tuple(sorted(given.items()))
        if key not in self._templates:
            left = [name for name in self._outside if name not in given]
            values = [self._space.parameters[name] for name in left]
            if math.prod(map(len, values)) > _MAX_TEMPLATES:
                raise NasError(f"block strings do not say {first_names(left)}; {_columns_remedy(left)}.")
            combinations = (dict(zip(left, combination, strict=True)) for combination in itertools.product(*values))
            specs = (self._space.decode({**self._first, **given, **combination}) for combination in combinations)
            self._templates[key] = list({_ends(spec): spec for spec in specs}.values())
        return self._templates[key]

    def _check(self, choices: Choices) -> None:
        for name, value in choices.items():
            if name not in self._space.parameters or value not in self._space.parameters[name]:
                raise self._lacks(name, value)

    def _check_agreement(self, genotype: Choices, choices: Choices) -> None:
        """Refuse ``choices`` with which the network of ``genotype`` would be another."""
        self._check(choices)
        if any(genotype[name] != value for name, value in choices.items()) and (
            self._space.decode({**genotype, **choices}).arch_id != self._space.decode(genotype).arch_id
        ):
            name = next(name for name, value in choices.items() if genotype[name] != value)
            raise NasError(
                f"{name} {quoted(choices[name])}: the network of this row has {quoted(genotype[name])}; correct one of "
                "them, or leave the cell empty."
            )

    def _lacks(self, name: str, value: Any) -> NotInSpaceError:
        offered = first_names([str(one) for one in self._space.parameters.get(name, ())], most=12)
        return NotInSpaceError(
            f"{name} {quoted(value)}: space {self._space.name!r} offers {offered or 'no such choice'}."
        )

    def _ambiguity(self, genotypes: Sequence[Choices]) -> NasError:
        names = [name for name in self._outside if len({genotype[name] for genotype in genotypes}) > 1]
        values = ", ".join(
            f"{name} ({', '.join(dict.fromkeys(str(genotype[name]) for genotype in genotypes))})" for name in names
        )
        return NasError(f"block strings do not say {values}; {_columns_remedy(names)}.")


def _parsed(blocks: str) -> tuple[StageSpec, ...]:
    """Stages of block strings in one text. Raises: SpecError."""
    return tuple(map(StageSpec.parse, split_stages(blocks.replace(_STAGE_SEPARATOR, "|"))))


def _ends(spec: ArchSpec) -> tuple[Any, ...]:
    """What block strings do not say, and choices of a space may change."""
    return spec.stem, spec.head, spec.resolution_px


def _columns_remedy(names: Iterable[str]) -> str:
    listed = list(names)
    noun = "a column of that name" if len(listed) == 1 else "columns of these names"
    return f"add {noun}, or give spec files instead"
