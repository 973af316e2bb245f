"""Compound scaling of any baseline: the grid of triples and the scaled networks.

A ``ScaledNetwork`` also says which multipliers rounding realises.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

from nas.arch.complexity import Complexity, complexity
from nas.arch.limits import MAX_PHI
from nas.arch.rewrites import RewriteStep
from nas.arch.scaling.rounding_rules import RoundingRules, check_side, rules_for
from nas.arch.scaling.transform import Compound, Factors, Scaling, scale
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.core.validation import check_number

_EPSILON: Final = 1e-9  # rounding error of decimal fractions: 2.1 - 2 is more than 0.1


def factor_range(low: float, high: float, step: float) -> tuple[float, ...]:
    """Evenly spaced factors ``low``, ``low + step``, ... up to ``high``.

    They are rounded to the decimal fractions that they would be written as.

    Raises: NasError unless 1 <= low <= high and step is positive.
    """
    check_number("low", low, low=1)
    check_number("high", high, low=low)
    check_number("step", step, low=0, open_low=True)
    return tuple(round(low + index * step, 10) for index in range(int((high - low) / step + _EPSILON) + 1))


ALPHAS: Final = factor_range(1.0, 2.0, 0.1)
BETAS: Final = factor_range(1.0, 1.4, 0.1)
GAMMAS: Final = factor_range(1.0, 1.4, 0.05)


def compound_triples(
    alphas: Sequence[float] = ALPHAS,
    betas: Sequence[float] = BETAS,
    gammas: Sequence[float] = GAMMAS,
    *,
    target: float = 2.0,
    tolerance: float = 0.1,
    growth: Callable[[Compound], float] = lambda compound: compound.macs_growth,
) -> tuple[Compound, ...]:
    """All triples whose ``growth`` is within ``tolerance`` of ``target``.

    They are sorted by alpha, then beta, then gamma. EfficientNet, equation 3: alpha * beta^2 * gamma^2 about 2, each at
    least 1. The published 1.2/1.1/1.15 comes to 1.920. ``growth``: cost growth per unit of phi, by default that of
    MACs; another one, such as that of a predicted latency, fits the triples to that cost.

    Raises: NasError for a factor below 1, and if there is no triple, with the tolerance that would give one.
    """
    check_number("tolerance", tolerance, low=0)
    check_number("target", target, low=1)
    for field, values in (("alpha", alphas), ("beta", betas), ("gamma", gammas)):
        if not values:
            raise NasError(f"{field} []: give at least one value.")
        for value in values:
            check_number(field, value, low=1)
    grid = product(sorted(set(alphas)), sorted(set(betas)), sorted(set(gammas)))
    triples = [Compound(alpha=alpha, beta=beta, gamma=gamma) for alpha, beta, gamma in grid]
    deviations = [abs(growth(triple) - target) for triple in triples]
    matching = tuple(
        triple for triple, deviation in zip(triples, deviations, strict=True) if deviation <= tolerance + _EPSILON
    )
    if not matching:
        least = min(deviations)
        raise NasError(
            f"tolerance {tolerance:g}: none of {len(triples)} triples is within it of a growth of {target:g}; the "
            f"nearest, {triples[deviations.index(least)]}, needs {math.ceil(least * 1e4) / 1e4:g}. Increase it, "
            "or give more values."
        )
    return matching


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledNetwork:
    """A scaled network together with its baseline.

    ``factors``: the requested multipliers; after rounding the network has others, see ``realised`` and the growths.
    ``scaling``: the factors with their rounding rules. ``rounding``: the rules as the family has them, None for a
    complete scaling. ``compound`` and ``phi``: the origin of the factors, None if they have another one; a published
    member has its phi alone. ``rewrites``: those that made the baseline of the network that was given.
    """

    baseline: ArchSpec
    arch: ArchSpec
    factors: Factors
    scaling: Scaling
    rounding: RoundingRules | None = None
    compound: Compound | None = None
    phi: float | None = None
    rewrites: tuple[RewriteStep, ...] = ()

    @property
    def given(self) -> ArchSpec:
        """The network before scaling and rewrites."""
        return self.rewrites[0].before if self.rewrites else self.baseline

    @property
    def cost(self) -> Complexity:
        """Exact cost of the scaled network."""
        return complexity(self.arch)

    @property
    def macs_growth(self) -> float:
        """Ratio of multiply-adds to the baseline's."""
        return self.cost.macs / complexity(self.baseline).macs

    @property
    def params_growth(self) -> float:
        """Ratio of parameters to the baseline's."""
        return self.cost.params / complexity(self.baseline).params

    @property
    def memory_growth(self) -> float:
        """Ratio of peak activation memory to the baseline's."""
        return self.cost.peak_memory_bytes / complexity(self.baseline).peak_memory_bytes

    @property
    def realised(self) -> Factors:
        """Realised multipliers after rounding.

        ``depth``: of the number of blocks. ``width``: of the channels, geometric mean over the block strings.
        ``resolution``: of the input side.
        """
        before, after = (
            [block.channels for stage in arch.stages for block in stage.blocks] for arch in (self.baseline, self.arch)
        )
        logs = [math.log(new / old) for old, new in zip(before, after, strict=True)]
        return Factors(
            depth=self.arch.depth / self.baseline.depth,
            width=math.exp(sum(logs) / len(logs)),
            resolution=self.arch.resolution_px / self.baseline.resolution_px,
        )


def scale_rounded(
    baseline: ArchSpec,
    factors: Factors,
    rules: RoundingRules | None = None,
    *,
    name: str | None = None,
    dropout: float | None = None,
    compound: Compound | None = None,
    phi: float | None = None,
) -> ScaledNetwork:
    """Scale ``baseline`` by ``factors``, rounded by ``rules``.

    ``rules``: None is the rules of the baseline's family. Proxies of few channels and small images keep more of the
    factors with a finer rule, such as ``RoundingRules(divisor=2, resolution_rule="exact")``. At a negative ``phi`` the
    side stays at least the total stride, as no stage gets less than one block and no layer less than one channel.

    Raises: SpecError for a side too small for the strides.
    """
    chosen = rules or rules_for(baseline)
    scaling = chosen.scaling(factors, baseline.resolution_px, dropout=dropout)
    if phi is not None and phi < 0:
        least_px = min(baseline.total_stride, baseline.resolution_px)
        scaling = replace(scaling, resolution_px=max(scaling.resolution_px or least_px, least_px))
    arch = scale(baseline, scaling, name=name)
    check_side(arch)
    return ScaledNetwork(
        baseline=baseline, arch=arch, factors=factors, scaling=scaling, rounding=chosen, compound=compound, phi=phi
    )


def scale_compound(
    baseline: ArchSpec, compound: Compound, phi: float, rules: RoundingRules | None = None, *, name: str | None = None
) -> ScaledNetwork:
    """Scale ``baseline`` by the compound scaling formula at ``phi``.

    Depth alpha^phi, width beta^phi, resolution gamma^phi, rounded by ``rules`` (None: those of the baseline's family).
    A negative ``phi`` makes the network smaller. Dropout is the baseline's, unlike that of ``formula_member``.

    Raises: NasError for a ``phi`` out of range, SpecError as ``scale_rounded``.
    """
    check_number("phi", phi, low=-MAX_PHI, high=MAX_PHI)
    return scale_rounded(baseline, compound.factors(phi), rules, name=name, compound=compound, phi=phi)


def distinct_networks(candidates: Iterable[ScaledNetwork]) -> tuple[tuple[ScaledNetwork, ...], ...]:
    """Group candidates that rounding makes the same network (equal ``arch_id``).

    Groups and their members are in the order of the candidates; the first member represents its group.
    """
    groups: dict[str, list[ScaledNetwork]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.arch.arch_id, []).append(candidate)
    return tuple(tuple(group) for group in groups.values())
