"""Conventions shared by all networks of a family.

Activation, squeeze-excite, rounding rules and block defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from nas.arch.blocks import BlockSpec
from nas.arch.parts import HeadSpec, NormSpec, SqueezeExcite, StemSpec
from nas.arch.scaling.transform import Scaling
from nas.arch.spec import ArchSpec, Padding, StageSpec
from nas.core.errors import NasError
from search_spaces.attributes import check_keys

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Fixed conventions of a family, which are not searched.

    ``scaling``: rounding rules alone; its multipliers come from the genotype. ``fixed_stem_below``: the width
    multiplier below which the stem is not scaled. ``block``: attributes of every block for which the space gives none,
    such as ``{"type": "ir"}``. The other fields are those of ``ArchSpec``. A space's YAML may override all but
    ``block`` under the same name.
    """

    activation: str = "relu"
    squeeze_excite: SqueezeExcite = field(default_factory=SqueezeExcite)
    norm: NormSpec = field(default_factory=NormSpec)
    padding: Padding = "symmetric"
    dropout: float = 0.0
    drop_path: float = 0.0
    scaling: Scaling = field(default_factory=Scaling)
    fixed_stem_below: float = 0.0
    block: Mapping[str, Any] = field(default_factory=dict)

    def with_overrides(self, overrides: Mapping[str, Any], *, other_keys: Sequence[str] = ()) -> Family:
        """Copy of this family with some fields replaced.

        ``overrides``: new values by field name; nested mappings override single fields of theirs. ``other_keys``:
        further keys that the space accepts, for the error about an unknown one.

        Raises: NasError naming an unknown field.
        """
        allowed = [f.name for f in fields(self) if f.name != "block"]
        changes = dict(check_keys("space", overrides, [*other_keys, *allowed]))
        for key in ("squeeze_excite", "norm", "scaling"):
            if key in changes:
                changes[key] = _override(f"space.{key}", getattr(self, key), changes[key])
        family = replace(self, **changes)
        try:
            family.scaling_at(1.0, 1.0, 1)
            stages = (StageSpec((BlockSpec(type="ds", channels=8),)),)
            ArchSpec(
                name="trial", stem=StemSpec(channels=8), stages=stages, head=HeadSpec(channels=8), **family.network()
            )
        except (NasError, TypeError) as error:
            raise NasError(f"space: {error}") from None
        return family

    def network(self) -> dict[str, Any]:
        """Fields that are passed to ``ArchSpec`` unchanged."""
        names = ("activation", "squeeze_excite", "norm", "padding", "dropout", "drop_path")
        return {name: getattr(self, name) for name in names}

    def scaling_at(self, width: float, depth: float, resolution_px: int) -> Scaling:
        """The family's rounding rules and drop rates with the given multipliers."""
        return replace(
            self.scaling,
            width=width,
            depth=depth,
            resolution_px=resolution_px,
            dropout=self.dropout,
            drop_path=self.drop_path,
            stem="fixed" if width < self.fixed_stem_below else self.scaling.stem,
        )

    def difference(self, spec: ArchSpec) -> str | None:
        """Describe the first convention in which ``spec`` differs from the family.

        None if there is none; drop rates are not compared.
        """
        has_se = any(block.se_ratio for stage in spec.stages for block in stage.blocks)
        for name in ("activation", "norm", "padding", *(("squeeze_excite",) if has_se else ())):
            theirs, ours = getattr(spec, name), getattr(self, name)
            if theirs != ours:
                return f"{name} is {theirs}, the space has {ours}"
        return None


def _override(path: str, base: _T, given: object) -> _T:
    # These belong to the space itself, not to its scaling rules.
    excluded = ("width", "depth", "resolution_px", "dropout", "drop_path")
    allowed = [f.name for f in fields(base) if f.name not in excluded]  # type: ignore[arg-type]
    changes = check_keys(path, given, allowed)
    try:
        return replace(base, **changes)  # type: ignore[type-var]
    except (NasError, TypeError) as error:
        raise NasError(f"{path}: {error}") from None
