"""Rounding rules of each published family, and the family of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Final

from nas.arch.rounding import RESOLUTION_RULES, DepthRule, ResolutionRule, WidthRule, scale_resolution
from nas.arch.scaling.transform import UNSCALED, EndRule, Factors, Scaling
from nas.arch.spec import ArchSpec
from nas.core.errors import SpecError, unknown_choice


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundingRules:
    """Rules by which scaled channels, repeats and input sides are rounded.

    The fields are those of ``Scaling``, with a rule for the input side.

    Raises: NasError for an unknown rule.
    """

    width_rule: WidthRule = "divisor"
    divisor: int = 8
    depth_rule: DepthRule = "ceil"
    stem: EndRule = "scale"
    head: EndRule = "scale"
    fixed_ends: bool = False
    resolution_rule: ResolutionRule = "multiple_of_4"

    def __post_init__(self) -> None:
        self.scaling(Factors(width=2.0))  # at width 1 the rules would not apply and so not be checked
        if self.resolution_rule not in RESOLUTION_RULES:
            raise unknown_choice("resolution_rule", self.resolution_rule, RESOLUTION_RULES)

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
        rules = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "resolution_rule"}
        if factors.width == 1:
            rules["divisor"] = 1
        side = resolution_px and scale_resolution(resolution_px, factors.resolution, self.resolution_rule)
        return Scaling(
            width=factors.width,
            depth=factors.depth,
            resolution_px=side,
            dropout=dropout,
            drop_path=drop_path,
            **rules,
        )


# Sources: the published code of each family, as cited in its module of the zoo.
FAMILY_RULES: Final[Mapping[str, RoundingRules]] = MappingProxyType(
    {
        "efficientnet": RoundingRules(),
        "efficientnet_lite": RoundingRules(stem="fixed", head="fixed", fixed_ends=True),
        "mixnet": RoundingRules(depth_rule="round", head="fixed"),
        "mnasnet": RoundingRules(head="fixed"),
        "mobilenet_v1": RoundingRules(width_rule="truncate", head="grow"),
        "mobilenet_v2": RoundingRules(head="grow"),
        "mobilenet_v3": RoundingRules(head="fixed"),
    }
)
_NAME_PREFIXES: Final = {
    "efficientnet_lite": ("efficientnet_lite", "tf_efficientnet_lite"),
    "efficientnet": ("efficientnet", "tf_efficientnet"),
    "mixnet": ("mixnet", "tf_mixnet"),
    "mnasnet": ("mnasnet", "semnasnet"),
    "mobilenet_v1": ("mobilenetv1",),
    "mobilenet_v2": ("mobilenetv2",),
    "mobilenet_v3": ("mobilenetv3", "tf_mobilenetv3"),
}


def family_of(baseline: ArchSpec) -> str:
    """Family whose rounding rules fit ``baseline``, by its name or its layers.

    A name that is not a published one is decided by the layers: a head that pools first is MobileNetV3's, a depthwise
    convolution of several kernels MixNet's; anything else is scaled as EfficientNet.
    """
    for family, prefixes in _NAME_PREFIXES.items():
        if baseline.name.startswith(prefixes):
            return family
    if baseline.head.pools_first:
        return "mobilenet_v3"
    mixed = any(len(block.kernels) > 1 for stage in baseline.stages for block in stage.blocks)
    return "mixnet" if mixed else "efficientnet"


def rules_for(baseline: ArchSpec) -> RoundingRules:
    """Rounding rules that the family of ``baseline`` was published with."""
    return FAMILY_RULES[family_of(baseline)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundingOverrides:
    """Overrides of the rounding rules of the baseline's family.

    ``family``: the family whose rules apply; None is that of ``family_of``. The other fields are those of
    ``RoundingRules``; None leaves a field to the family's rules.

    Raises: NasError for an unknown family or rule.
    """

    family: str | None = None
    width_rule: str | None = None
    divisor: int | None = None
    depth_rule: str | None = None
    stem: str | None = None
    head: str | None = None
    fixed_ends: bool | None = None
    resolution_rule: str | None = None

    def __post_init__(self) -> None:
        if self.family is not None and self.family not in FAMILY_RULES:
            raise unknown_choice("family", self.family, FAMILY_RULES)
        self._applied_to(RoundingRules())

    def rules(self, baseline: ArchSpec) -> RoundingRules:
        """Rounding rules for ``baseline`` with these overrides."""
        return self._applied_to(FAMILY_RULES[self.family] if self.family else rules_for(baseline))

    def _applied_to(self, rules: RoundingRules) -> RoundingRules:
        overrides = {item.name: getattr(self, item.name) for item in fields(RoundingRules)}
        return replace(rules, **{name: value for name, value in overrides.items() if value is not None})


def check_side(arch: ArchSpec) -> None:
    """Check that the network's strides leave at least one pixel of its input side.

    Raises: SpecError.
    """
    if arch.resolution_px < arch.total_stride:
        raise SpecError(
            f"resolution_px {arch.resolution_px}: too small for {arch.name!r}, whose total stride is "
            f"{arch.total_stride}; use at least {arch.total_stride} px, or a baseline with a smaller total stride."
        )
