"""Scaling of a network in depth, width and resolution.

Rounding rules, compound coefficients and alternatives to them, families and cost targets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.arch.scaling.compound import (
        ALPHAS,
        BETAS,
        GAMMAS,
        ScaledNetwork,
        compound_triples,
        distinct_networks,
        scale_compound,
        scale_rounded,
    )
    from nas.arch.scaling.family import formula_member, published_label, published_labels, published_member
    from nas.arch.scaling.request import SCALING_RULES, ScalingRequest, target_measures
    from nas.arch.scaling.rounding_rules import FAMILY_RULES, RoundingOverrides, RoundingRules
    from nas.arch.scaling.rules import (
        DIRECTIONS,
        at_equal_cost,
        dwr,
        stepwise_step,
        width_lines,
        width_resolution_table,
    )
    from nas.arch.scaling.shrinking import SHRINK_KINDS, ShrinkDimension, shrink_dimensions, smallest_network
    from nas.arch.scaling.targets import CostMeasure
    from nas.arch.scaling.transform import UNSCALED, Compound, Factors, Scaling, coefficients_of, scale
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "shrinking": ["smallest_network", "shrink_dimensions", "ShrinkDimension", "SHRINK_KINDS"],
            "compound": [
                "ALPHAS",
                "BETAS",
                "GAMMAS",
                "ScaledNetwork",
                "compound_triples",
                "distinct_networks",
                "scale_compound",
                "scale_rounded",
            ],
            "family": ["formula_member", "published_label", "published_labels", "published_member"],
            "request": ["SCALING_RULES", "ScalingRequest", "target_measures"],
            "rounding_rules": ["FAMILY_RULES", "RoundingOverrides", "RoundingRules"],
            "rules": ["DIRECTIONS", "at_equal_cost", "dwr", "stepwise_step", "width_lines", "width_resolution_table"],
            "targets": ["CostMeasure"],
            "transform": ["UNSCALED", "Compound", "Factors", "Scaling", "coefficients_of", "scale"],
        },
    )

__all__ = [
    "ALPHAS",
    "BETAS",
    "Compound",
    "CostMeasure",
    "DIRECTIONS",
    "FAMILY_RULES",
    "Factors",
    "GAMMAS",
    "RoundingOverrides",
    "RoundingRules",
    "SCALING_RULES",
    "SHRINK_KINDS",
    "ScaledNetwork",
    "Scaling",
    "ScalingRequest",
    "ShrinkDimension",
    "UNSCALED",
    "at_equal_cost",
    "coefficients_of",
    "compound_triples",
    "distinct_networks",
    "dwr",
    "formula_member",
    "published_label",
    "published_labels",
    "published_member",
    "scale",
    "scale_compound",
    "scale_rounded",
    "shrink_dimensions",
    "smallest_network",
    "stepwise_step",
    "target_measures",
    "width_lines",
    "width_resolution_table",
]
