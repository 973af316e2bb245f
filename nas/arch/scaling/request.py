"""What is asked of one scaling, by multipliers, by phi or as far as limits allow, and the network that answers it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from nas.arch.scaling.compound import ScaledNetwork, scale_rounded
from nas.arch.scaling.family import formula_member, published_label, published_member, published_table
from nas.arch.scaling.rounding_rules import RoundingRules, rules_for
from nas.arch.scaling.rules import DIRECTIONS, dwr
from nas.arch.scaling.targets import CostMeasure, macs, most_phi, params, peak_memory_bytes, phi_for
from nas.arch.scaling.transform import Compound, Factors
from nas.arch.spec import MAX_RESOLUTION_PX, ArchSpec
from nas.core.errors import NasError, quoted, unknown_choice
from nas.core.validation import check_number

SCALING_RULES: Final = ("compound", "published", "dwr", *DIRECTIONS)


def target_measures(latency_ms: CostMeasure | None = None) -> dict[str, CostMeasure]:
    """What each target limits, by its name; ``target_ms`` where ``latency_ms`` (of a predictor) is given."""
    measures: dict[str, CostMeasure] = {
        "target_macs_m": lambda arch: macs(arch) / 1e6,
        "target_params_m": lambda arch: params(arch) / 1e6,
        "target_memory_mb": lambda arch: peak_memory_bytes(arch) / 1e6,
    }
    return measures if latency_ms is None else {"target_ms": latency_ms, **measures}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingRequest:
    """One scaling, in one of three ways: ``phi``; some of ``width``, ``depth``, ``resolution``; or ``targets``.

    ``rule``: how phi becomes depth, width and input side: by ``coefficients`` (``compound``), by EfficientNet's
    hand-rounded ones (``published``; phi may be a member's name, such as l2), mostly width (``dwr``, with
    ``dwr_alpha``), or one dimension alone. ``resolution``: an input side in px, taken as it is. ``targets``: upper
    limits by name; the largest phi that meets all of them is looked for.
    Raises: NasError for values out of range, and for none or more than one of the three ways.
    """

    rule: str = "compound"
    coefficients: Compound = field(default_factory=Compound)
    dwr_alpha: float = 0.8
    phi: float | str | None = None
    width: float | None = None
    depth: float | None = None
    resolution: int | None = None
    targets: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rule not in SCALING_RULES:
            raise unknown_choice("rule", self.rule, SCALING_RULES)
        check_number("dwr_alpha", self.dwr_alpha, low=0, high=1)
        for name in ("width", "depth"):
            check_number(name, getattr(self, name), low=0, open_low=True, optional=True)
        check_number("resolution", self.resolution, low=1, high=MAX_RESOLUTION_PX, whole=True, optional=True)
        for name, target in self.targets.items():
            check_number(name, target, low=0, open_low=True)
        if not (isinstance(self.phi, str) and self.rule == "published"):
            check_number("phi", self.phi, low=0, optional=True)
        ways = [self.phi is not None, bool(self._multipliers), bool(self.targets)]
        if sum(ways) > 1:
            raise NasError("phi, multipliers (width, depth, resolution) and targets each say how far to go; give one.")

    @property
    def empty(self) -> bool:
        """Whether nothing says how far to go."""
        return self.phi is None and not self._multipliers and not self.targets

    @property
    def way(self) -> str:
        """The rule that is followed; ``multipliers`` where they are given themselves."""
        return "multipliers" if self._multipliers else self.rule

    @property
    def _multipliers(self) -> dict[str, float]:
        names = ("width", "depth", "resolution")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def compound(self) -> Compound:
        """The formula of the rule; of ``published``, which has none, the formula that stands beside it."""
        if self.rule in DIRECTIONS:
            return DIRECTIONS[self.rule]
        return dwr(self.dwr_alpha) if self.rule == "dwr" else self.coefficients

    def answer(
        self, baseline: ArchSpec, measures: Mapping[str, CostMeasure], rules: RoundingRules | None = None
    ) -> ScaledNetwork:
        """The network that is asked for; ``measures`` has one for every target. Raises: NasError if there is none."""
        if self.empty:
            raise NasError("how far is it to be scaled? Give phi, width, depth, resolution or a target.")
        if self._multipliers:
            return self._multiplied(baseline, rules or rules_for(baseline))
        if self.rule == "published":
            return published_member(baseline, self._published(baseline, measures, rules), rules)
        phi = self._phi(baseline, measures, rules) if self.phi is None else self.phi
        label = "" if self.rule == "compound" else f"{self.rule}_"
        return formula_member(baseline, self.compound, float(phi), rules, label=label)

    def _multiplied(self, baseline: ArchSpec, rules: RoundingRules) -> ScaledNetwork:
        given = self._multipliers
        factors = Factors(
            depth=given.get("depth", 1.0),
            width=given.get("width", 1.0),
            resolution=given.get("resolution", baseline.resolution_px) / baseline.resolution_px,
        )
        label = "_".join(f"{name[0]}{value:g}" for name, value in given.items())
        # A side that is given in px is meant.
        return scale_rounded(
            baseline, factors, replace(rules, resolution_rule="exact"), name=f"{baseline.name}_{label}"
        )

    def _phi(self, baseline: ArchSpec, measures: Mapping[str, CostMeasure], rules: RoundingRules | None) -> float:
        """The largest phi at which all targets are met."""

        def at(phi: float) -> ArchSpec:
            return formula_member(baseline, self.compound, phi, rules).arch

        def worst(arch: ArchSpec) -> float:
            return max(measures[name](arch) / target for name, target in self.targets.items())

        most = most_phi(baseline, self.compound)
        phis = [phi_for(at, measures[name], target, field=name, most=most) for name, target in self.targets.items()]
        # Below the least of them another target may be missed again where its measure is not monotone.
        return phis[0] if len(phis) == 1 else phi_for(at, worst, 1.0, field="all targets together", most=most)

    def _published(self, baseline: ArchSpec, measures: Mapping[str, CostMeasure], rules: RoundingRules | None) -> str:
        """The member that phi names, or the largest that meets all targets."""
        if isinstance(self.phi, str):
            return self.phi
        if self.phi is not None:
            return published_label(baseline, self.phi)
        fitting = None
        for label in published_table(baseline):
            arch = published_member(baseline, label, rules).arch
            over = {name: value for name in self.targets if (value := measures[name](arch)) > self.targets[name]}
            if over and fitting is None:
                name, value = next(iter(over.items()))
                raise NasError(
                    f"{name} {quoted(self.targets[name])}: below the smallest published member, {label}, which needs "
                    f"{value:.4g}; allow that, or begin with a smaller network."
                )
            if not over:
                fitting = label
        return str(fitting)
