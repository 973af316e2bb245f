"""Rounding rules of a scaling: those of the network's family, with overrides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from nas.arch.rounding import RESOLUTION_RULES, ROUND_LIMIT, DepthRule, ResolutionRule, WidthRule, scale_resolution
from nas.arch.scaling.published_families import FAMILIES, FamilyOrigin, family_of, find_family
from nas.arch.scaling.transform import UNSCALED, EndRule, Factors, Scaling
from nas.arch.spec import ArchSpec
from nas.core.errors import SpecError, unknown_choice
from nas.core.validation import check_number

__all__ = [
    "FAMILY_RULES",
    "RoundingOverrides",
    "RoundingRules",
    "RulesOrigin",
    "check_side",
    "family_of",
    "rules_for",
]


class RulesOrigin(NamedTuple):
    """Where rounding rules come from.

    ``found_by``: what says that the network is of ``family``: its name, its layers, or the request. ``overridden``: the
    rules that the request gives in place of the family's.
    """

    family: str
    found_by: FamilyOrigin
    overridden: tuple[str, ...] = ()

    def __str__(self) -> str:
        found_by = "as requested" if self.found_by == "request" else f"by the network's {self.found_by}"
        given = f", with {', '.join(self.overridden)} as requested" if self.overridden else ""
        return f"{self.family}, {found_by}{given} ({FAMILIES[self.family].evidence})"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundingRules:
    """Rules by which scaled channels, repeats and input sides are rounded.

    The fields are those of ``Scaling``, with a rule for the input side. ``fixed_stem_below``: the width multiplier
    below which the stem is not scaled. ``origin``: the family whose rules these are, None if they are of no family.

    Raises: NasError for an unknown rule.
    """

    width_rule: WidthRule = "divisor"
    divisor: int = 8
    round_limit: float = ROUND_LIMIT
    depth_rule: DepthRule = "ceil"
    stem: EndRule = "scale"
    fixed_stem_below: float = 0.0
    head: EndRule = "scale"
    fixed_ends: bool = False
    resolution_rule: ResolutionRule = "multiple_of_4"
    origin: RulesOrigin | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_number("fixed_stem_below", self.fixed_stem_below, low=0)
        self.scaling(Factors(width=2.0))  # at width 1 the rules would not apply and so not be checked
        if self.resolution_rule not in RESOLUTION_RULES:
            raise unknown_choice("resolution_rule", self.resolution_rule, RESOLUTION_RULES)

    @property
    def settings(self) -> dict[str, Any]:
        """The rules alone as plain data, by name."""
        return {name: getattr(self, name) for name in _RULES}

    def identity(self, least_width: float = 1.0) -> dict[str, Any]:
        """The rules that decide on networks of at least ``least_width``, by name.

        Rules that earlier versions did not have are left out where they change nothing, so that studies begun by those
        versions go on.
        """
        rules = self.settings
        if self.round_limit == ROUND_LIMIT:
            del rules["round_limit"]
        if self.fixed_stem_below <= least_width:
            del rules["fixed_stem_below"]
        return rules

    def scaling(
        self,
        factors: Factors = UNSCALED,
        resolution_px: int | None = None,
        *,
        dropout: float | None = None,
        drop_path: float | None = None,
    ) -> Scaling:
        """Build the ``Scaling`` by ``factors`` under these rules.

        ``resolution_px``: the input side to be scaled; None leaves the network's side unchanged. At width 1 no channel
        is rounded, so that a baseline whose channels are no multiples of the divisor is not changed.
        """
        side = resolution_px and scale_resolution(resolution_px, factors.resolution, self.resolution_rule)
        return Scaling(
            width=factors.width,
            depth=factors.depth,
            resolution_px=side,
            dropout=dropout,
            drop_path=drop_path,
            width_rule=self.width_rule,
            divisor=1 if factors.width == 1 else self.divisor,
            round_limit=self.round_limit,
            depth_rule=self.depth_rule,
            stem="fixed" if factors.width < self.fixed_stem_below else self.stem,
            head=self.head,
            fixed_ends=self.fixed_ends,
        )

    @property
    def summary(self) -> tuple[str, ...]:
        """Lines for people: the rules in words, and the family that they are of."""
        family = (f"rules of the family {self.origin}",) if self.origin else ()
        return (f"rounding: {self}", *family)

    def __str__(self) -> str:
        """The rules in words."""
        if self.width_rule == "truncate":
            channels = "channels truncated to whole numbers of at least 8"
        elif self.round_limit:
            channels = f"channels to multiples of {self.divisor}, at least {self.round_limit:.0%} of their exact number"
        else:
            channels = f"channels to the nearest multiple of {self.divisor}"
        below = f", fixed below width {self.fixed_stem_below:g}" if self.fixed_stem_below else ""
        parts = [channels, f"repeats by {self.depth_rule}", f"stem: {self.stem}{below}", f"head: {self.head}"]
        if self.fixed_ends:
            parts.append("first and last stage keep their repeats")
        return "; ".join([*parts, f"side: {self.resolution_rule}"])


_RULES: Final = tuple(item.name for item in fields(RoundingRules) if item.name != "origin")
FAMILY_RULES: Final[Mapping[str, RoundingRules]] = MappingProxyType(
    {name: RoundingRules(**family.rules, origin=RulesOrigin(name, "request")) for name, family in FAMILIES.items()}
)


def rules_for(baseline: ArchSpec) -> RoundingRules:
    """Rounding rules that the family of ``baseline`` was published with."""
    family, found_by = find_family(baseline)
    return replace(FAMILY_RULES[family], origin=RulesOrigin(family, found_by))


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundingOverrides:
    """Overrides of the rounding rules of the baseline's family.

    ``family``: the family whose rules apply; None is that of ``family_of``. The other fields are those of
    ``RoundingRules``; None leaves a field to the family's rules. A ``stem`` without a ``fixed_stem_below`` holds at
    every width.

    Raises: NasError for an unknown family or rule.
    """

    family: str | None = None
    width_rule: str | None = None
    divisor: int | None = None
    round_limit: float | None = None
    depth_rule: str | None = None
    stem: str | None = None
    fixed_stem_below: float | None = None
    head: str | None = None
    fixed_ends: bool | None = None
    resolution_rule: str | None = None

    def __post_init__(self) -> None:
        if self.family is not None and self.family not in FAMILY_RULES:
            raise unknown_choice("family", self.family, FAMILY_RULES)
        self._applied_to(FAMILY_RULES["efficientnet"])

    def rules(self, baseline: ArchSpec) -> RoundingRules:
        """Rounding rules for ``baseline`` with these overrides."""
        return self._applied_to(FAMILY_RULES[self.family] if self.family else rules_for(baseline))

    def _applied_to(self, rules: RoundingRules) -> RoundingRules:
        given = {name: value for name in _RULES if (value := getattr(self, name)) is not None}
        if "stem" in given:
            given.setdefault("fixed_stem_below", 0.0)
        overridden = tuple(name for name, value in given.items() if value != getattr(rules, name))
        return replace(rules, **given, origin=rules.origin and rules.origin._replace(overridden=overridden))


def check_side(arch: ArchSpec) -> None:
    """Check that the network's strides leave at least one pixel of its input side.

    Raises: SpecError.
    """
    if arch.resolution_px < arch.total_stride:
        raise SpecError(
            f"resolution_px {arch.resolution_px}: too small for {arch.name!r}, whose total stride is "
            f"{arch.total_stride}; use at least {arch.total_stride} px, or a baseline with a smaller total stride."
        )
