"""Scaling requests: rewrites; multipliers, phi or limits of cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from nas.arch.limits import MAX_FACTOR, MAX_PHI, MAX_RESOLUTION_PX
from nas.arch.rewrites import Rewrites
from nas.arch.scaling.compound import ScaledNetwork, scale_rounded
from nas.arch.scaling.family import formula_member, published_label, published_member, published_table
from nas.arch.scaling.rounding_rules import RoundingRules, rules_for
from nas.arch.scaling.rules import DIRECTIONS, dwr
from nas.arch.scaling.targets import CostMeasure, macs, params, peak_memory_bytes, phi_floor, phi_for, phi_limit
from nas.arch.scaling.transform import Compound, Factors
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, quoted, unknown_choice
from nas.core.validation import check_number

SCALING_RULES: Final = ("compound", "published", "dwr", *DIRECTIONS)

_SIDE_STEP: Final = 32  # in px, of the sides that are tried for a target below the baseline


def target_measures(latency_ms: CostMeasure | None = None) -> dict[str, CostMeasure]:
    """Cost measure of each scaling target, by the target's name.

    ``target_macs_m`` and ``target_params_m`` in millions, ``target_memory_mb`` in MB (10^6 bytes), and ``target_ms`` in
    milliseconds if ``latency_ms``, the measure of a latency predictor, is given.
    """
    measures: dict[str, CostMeasure] = {
        "target_macs_m": lambda arch: macs(arch) / 1e6,
        "target_params_m": lambda arch: params(arch) / 1e6,
        "target_memory_mb": lambda arch: peak_memory_bytes(arch) / 1e6,
    }
    return measures if latency_ms is None else {"target_ms": latency_ms, **measures}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingRequest:
    """One scaling, given by phi, by multipliers or by targets, and rewrites.

    ``phi``: compound coefficient, negative for a smaller network. ``width``, ``depth``: multipliers. ``resolution_px``:
    input side, used without rounding. ``targets``: upper limits of cost by name; the largest phi that meets all of them
    is used. ``rewrites``: applied to the network before it is scaled. ``rule``: how phi becomes depth, width and input
    side: by ``coefficients`` (``compound``), by EfficientNet's hand-rounded ones (``published``; phi may be a member's
    name, such as l2), mostly by width (``dwr``, with ``dwr_alpha``), or by one dimension alone.

    Raises: NasError for values out of range, and for more than one of phi, multipliers and targets.
    """

    rule: str = "compound"
    coefficients: Compound = field(default_factory=Compound)
    dwr_alpha: float = 0.8
    phi: float | str | None = None
    width: float | None = None
    depth: float | None = None
    resolution_px: int | None = None
    targets: Mapping[str, float] = field(default_factory=dict)
    rewrites: Rewrites = field(default_factory=Rewrites)

    def __post_init__(self) -> None:
        if self.rule not in SCALING_RULES:
            raise unknown_choice("rule", self.rule, SCALING_RULES)
        check_number("dwr_alpha", self.dwr_alpha, low=0, high=1)
        for name in ("width", "depth"):
            check_number(name, getattr(self, name), low=0, high=MAX_FACTOR, open_low=True, optional=True)
        check_number("resolution_px", self.resolution_px, low=1, high=MAX_RESOLUTION_PX, whole=True, optional=True)
        for name, target in self.targets.items():
            check_number(name, target, low=0, open_low=True)
        if not (isinstance(self.phi, str) and self.rule == "published"):
            check_number("phi", self.phi, low=-MAX_PHI, high=MAX_PHI, optional=True)
        given = [self.phi is not None, bool(self._multipliers), bool(self.targets)]
        if sum(given) > 1:
            raise NasError("phi, multipliers (width, depth, resolution_px) and targets exclude each other; give one.")

    @property
    def is_empty(self) -> bool:
        """Whether none of phi, multipliers and targets is given, nothing to scale by."""
        return self.phi is None and not self._multipliers and not self.targets

    @property
    def applied_rule(self) -> str | None:
        """The rule that applies: ``multipliers`` if given, None for rewrites alone."""
        return None if self.is_empty else "multipliers" if self._multipliers else self.rule

    @property
    def _multipliers(self) -> dict[str, float]:
        names = ("width", "depth", "resolution_px")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def compound(self) -> Compound:
        """Compound coefficients of the rule.

        ``published`` has no formula: for it these are ``coefficients``.
        """
        if self.rule in DIRECTIONS:
            return DIRECTIONS[self.rule]
        return dwr(self.dwr_alpha) if self.rule == "dwr" else self.coefficients

    def resolve(
        self, baseline: ArchSpec, measures: Mapping[str, CostMeasure], rules: RoundingRules | None = None
    ) -> ScaledNetwork:
        """Rewrite and scale ``baseline`` as requested.

        ``measures``: a cost measure for each target, by its name. ``rules``: None is the rules of the baseline's
        family.

        Raises: NasError for an empty request, for a network that cannot be rewritten, and if none meets the targets.
        """
        if self.is_empty and self.rewrites.is_empty:
            raise NasError("nothing to scale by: give phi, width, depth, resolution_px, a target or a rewrite.")
        if self.rewrites.is_empty:
            return self._scaled(baseline, measures, rules)
        steps = self.rewrites.steps(baseline)
        # The family is that of the network as it was given: its layers may say something else after a rewrite.
        return replace(self._scaled(steps[-1].after, measures, rules or rules_for(baseline)), rewrites=steps)

    def _scaled(
        self, baseline: ArchSpec, measures: Mapping[str, CostMeasure], rules: RoundingRules | None
    ) -> ScaledNetwork:
        if self._multipliers or self.is_empty:
            return self._by_multipliers(baseline, rules or rules_for(baseline))
        if self.rule == "published":
            return published_member(baseline, self._published_label(baseline, measures, rules), rules)
        phi = self._largest_phi(baseline, measures, rules) if self.phi is None else self.phi
        label = "" if self.rule == "compound" else f"{self.rule}_"
        return formula_member(baseline, self.compound, float(phi), rules, label=label)

    def _by_multipliers(self, baseline: ArchSpec, rules: RoundingRules) -> ScaledNetwork:
        multipliers = self._multipliers
        factors = Factors(
            depth=multipliers.get("depth", 1.0),
            width=multipliers.get("width", 1.0),
            resolution=multipliers.get("resolution_px", baseline.resolution_px) / baseline.resolution_px,
        )
        labels = [f"{name[0]}{value:g}" for name, value in multipliers.items()]
        # A side given in px is used without rounding.
        exact = replace(rules, resolution_rule="exact")
        return scale_rounded(baseline, factors, exact, name="_".join([baseline.name, *labels]))

    def _largest_phi(
        self, baseline: ArchSpec, measures: Mapping[str, CostMeasure], rules: RoundingRules | None
    ) -> float:
        """The largest phi that meets all targets."""

        def network_at(phi: float) -> ArchSpec:
            return formula_member(baseline, self.compound, phi, rules).arch

        def largest_ratio(arch: ArchSpec) -> float:
            return max(measures[name](arch) / target for name, target in self.targets.items())

        min_phi, max_phi = phi_floor(network_at), phi_limit(baseline, self.compound)
        smallest = f"the smallest network of rule={self.rule}, that of phi {min_phi:g}"
        self._check_reachable(baseline, network_at(min_phi), smallest, measures, rules)
        phis = [
            phi_for(network_at, measures[name], target, field=name, min_phi=min_phi, max_phi=max_phi)
            for name, target in self.targets.items()
        ]
        # A measure that is not monotone may exceed its target again below the smallest of these phi.
        return (
            phis[0]
            if len(phis) == 1
            else phi_for(network_at, largest_ratio, 1.0, field="all targets together", min_phi=min_phi, max_phi=max_phi)
        )

    def _check_reachable(
        self,
        baseline: ArchSpec,
        least: ArchSpec,
        what: str,
        measures: Mapping[str, CostMeasure],
        rules: RoundingRules | None,
    ) -> None:
        """Refuse targets that ``least``, the smallest network of the rule, exceeds.

        ``what`` says which network that is.

        Raises: NasError that names multipliers with which ``baseline`` meets all of them.
        """
        exceeded = {name: value for name in self.targets if (value := measures[name](least)) > self.targets[name]}
        if exceeded:
            name, value = next(iter(exceeded.items()))
            smaller = self._smaller(baseline, name, measures, rules)
            remedy = f"give instead {', or '.join(smaller)}" if smaller else "raise it, or start from a smaller network"
            raise NasError(f"{name} {quoted(self.targets[name])}: below {what}, which needs {value:.4g}; {remedy}.")

    def _smaller(
        self, baseline: ArchSpec, target: str, measures: Mapping[str, CostMeasure], rules: RoundingRules | None
    ) -> list[str]:
        """The largest request by each multiplier that meets all targets.

        With its cost of ``target``.
        """
        found = []
        for name, values in _smaller_values(baseline).items():
            for value in values:
                arch = ScalingRequest(**{name: value}).resolve(baseline, {}, rules).arch  # type: ignore[arg-type]
                if all(measures[each](arch) <= limit for each, limit in self.targets.items()):
                    found.append(f"{name}={value:g} ({measures[target](arch):.4g})")
                    break
        return found

    def _published_label(
        self, baseline: ArchSpec, measures: Mapping[str, CostMeasure], rules: RoundingRules | None
    ) -> str:
        """Published member that phi names, or the largest that meets all targets."""
        if isinstance(self.phi, str):
            return self.phi
        if self.phi is not None:
            return published_label(baseline, self.phi)
        fitting = None
        for label in published_table(baseline):
            arch = published_member(baseline, label, rules).arch
            if fitting is None:
                self._check_reachable(baseline, arch, f"the smallest published member, {label}", measures, rules)
            if all(measures[name](arch) <= limit for name, limit in self.targets.items()):
                fitting = label
        return str(fitting)


def _smaller_values(baseline: ArchSpec) -> dict[str, list[float]]:
    """Values below those of ``baseline`` of each multiplier, from large to small."""
    sides = range((baseline.resolution_px - 1) // _SIDE_STEP * _SIDE_STEP, 0, -_SIDE_STEP)
    shares = [step / 20 for step in range(19, 0, -1)]
    return {
        "width": shares,
        "resolution_px": [side for side in sides if side >= baseline.total_stride],
        "depth": shares if baseline.depth > len(baseline.stages) else [],
    }
