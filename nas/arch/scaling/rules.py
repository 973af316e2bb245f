"""Alternatives to compound scaling.

One dimension alone, mostly width (dWr), stepwise expansion (X3D), and tables of width and resolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from nas.arch.scaling.compound import ScaledNetwork, scale_rounded
from nas.arch.scaling.rounding_rules import RoundingRules, rules_for
from nas.arch.scaling.targets import CostMeasure, at_cost, macs
from nas.arch.scaling.transform import UNSCALED, Compound, Factors
from nas.arch.spec import ArchSpec
from nas.core.errors import unknown_choice
from nas.core.validation import check_number

# Each about doubles MACs per unit of phi: linear in depth, square in width and in the input side.
DIRECTIONS: Final[Mapping[str, Compound]] = MappingProxyType(
    {
        "depth": Compound(alpha=2.0, beta=1.0, gamma=1.0),
        "width": Compound(alpha=1.0, beta=math.sqrt(2), gamma=1.0),
        "resolution": Compound(alpha=1.0, beta=1.0, gamma=math.sqrt(2)),
    }
)


def dwr(alpha: float = 0.8) -> Compound:
    """Fast compound scaling (dWr) of Dollar et al., arXiv:2103.06877.

    Most of the growth is in width. For s times the MACs: depth s^((1 - alpha) / 2), width s^(alpha / 2), resolution
    s^((1 - alpha) / 4), so that depth * width^2 * resolution^2 = s while activations grow by s^((2 - alpha) / 2), close
    to sqrt(s). Here s is 2^phi. ``alpha`` 1 is width alone, 1/3 all three alike, 0 depth and resolution.

    Raises: NasError outside of [0, 1].
    """
    check_number("alpha", alpha, low=0, high=1)
    return Compound(alpha=2 ** ((1 - alpha) / 2), beta=2 ** (alpha / 2), gamma=2 ** ((1 - alpha) / 4))


def at_equal_cost(
    baseline: ArchSpec,
    factor: float,
    directions: Mapping[str, Compound],
    rules: RoundingRules | None = None,
    *,
    measure: CostMeasure = macs,
) -> dict[str, ScaledNetwork]:
    """Scale ``baseline`` to ``factor`` times its cost along each of ``directions``.

    EfficientNet, table 3 and figure 8. After rounding the costs differ slightly, see ``macs_growth``.

    Raises: NasError as ``at_cost``.
    """
    return {
        name: at_cost(baseline, direction, factor, rules, measure=measure) for name, direction in directions.items()
    }


def width_lines(
    baseline: ArchSpec,
    widths: Sequence[float],
    starts: Sequence[tuple[float, float]] = ((1.0, 1.0), (1.0, 1.3), (2.0, 1.0), (2.0, 1.3)),
    rules: RoundingRules | None = None,
) -> dict[tuple[float, float], tuple[ScaledNetwork, ...]]:
    """Width scaling from several (depth, resolution) multipliers of the baseline.

    EfficientNet, figure 4.
    """
    return {
        (depth, side): tuple(scale_rounded(baseline, Factors(depth, width, side), rules) for width in widths)
        for depth, side in starts
    }


def width_resolution_table(
    baseline: ArchSpec,
    widths: Sequence[float] = (1.0, 0.75, 0.5, 0.25),
    resolution_px: Sequence[int] = (224, 192, 160, 128),
    rules: RoundingRules | None = None,
) -> tuple[ScaledNetwork, ...]:
    """Every width at every input side of ``resolution_px``.

    The defaults are the 16 networks of MobileNetV1 (arXiv:1704.04861, section 4.2, figure 4). Sides are used without
    rounding, whatever ``rules`` say.
    """
    exact = replace(rules or rules_for(baseline), resolution_rule="exact")
    return tuple(
        scale_rounded(baseline, Factors(1.0, width, side / baseline.resolution_px), exact)
        for width in widths
        for side in resolution_px
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepwiseStep:
    """One step of stepwise expansion.

    ``candidates``: the network that each axis alone gives at the step's cost. ``axis``: the one chosen.
    """

    axis: str
    candidates: Mapping[str, ScaledNetwork]

    @property
    def chosen(self) -> ScaledNetwork:
        """The candidate that the next step starts from."""
        return self.candidates[self.axis]


def stepwise_step(
    baseline: ArchSpec,
    path: Sequence[ScaledNetwork],
    factor: float,
    axes: Sequence[str] = tuple(DIRECTIONS),
    rules: RoundingRules | None = None,
    *,
    measure: CostMeasure = macs,
) -> dict[str, ScaledNetwork]:
    """Candidates of one step of stepwise expansion, by axis.

    Each of ``axes`` alone expands the last network of ``path``, the networks chosen so far, until its cost has doubled,
    or is ``factor`` times the baseline's if that is less. Empty if ``path`` is there already. All are scaled from
    ``baseline``, so that rounding errors do not accumulate.

    Raises: NasError for an unknown axis, or one that does not reach the cost.
    """
    check_number("factor", factor, low=1)
    for axis in axes:
        if axis not in DIRECTIONS:
            raise unknown_choice("axis", axis, DIRECTIONS)
    if len(path) >= math.log2(factor) - 1e-9:
        return {}
    total, start = min(2.0 ** (len(path) + 1), factor), path[-1].factors if path else UNSCALED
    if path and measure(path[-1].arch) >= total * measure(baseline):
        return {}  # due to rounding, the last step has already reached this cost
    return {axis: at_cost(baseline, DIRECTIONS[axis], total, rules, measure=measure, start=start) for axis in axes}


def stepwise(
    baseline: ArchSpec,
    score: Callable[[ScaledNetwork], float],
    factor: float,
    axes: Sequence[str] = tuple(DIRECTIONS),
    rules: RoundingRules | None = None,
    *,
    measure: CostMeasure = macs,
) -> tuple[StepwiseStep, ...]:
    """Stepwise expansion: expand the best single axis per doubling of cost.

    After X3D (arXiv:2004.04730), up to ``factor`` times the baseline's cost: in every step each of ``axes`` alone is
    expanded until the cost has doubled, and the candidate with the highest ``score`` is chosen (ties go to the axis
    named first).

    Raises: NasError as ``stepwise_step``.
    """
    expansions: list[StepwiseStep] = []
    while candidates := stepwise_step(
        baseline, [step.chosen for step in expansions], factor, axes, rules, measure=measure
    ):
        scores = {axis: score(candidate) for axis, candidate in candidates.items()}
        expansions.append(StepwiseStep(axis=max(scores, key=scores.__getitem__), candidates=candidates))
    return tuple(expansions)
