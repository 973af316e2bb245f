"""What a grid trains: triples, or rules at equal cost, as networks with their real growth after all rounding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from nas.arch.complexity import complexity
from nas.arch.compound import Grown, compound_triples, distinct, grown
from nas.arch.directions import at_equal_cost
from nas.arch.errors import NasError
from nas.arch.scaling import Compound
from nas.arch.spec import ArchSpec
from nas.compound.plan import CompoundPlan
from nas.latency.predictor import LatencyEstimate
from nas.proxy.reduce import Proxy
from nas.study.candidates import Candidate

BASELINE: Final = "baseline"
UNIT: Final = Compound(alpha=1.0, beta=1.0, gamma=1.0)
Predict = Callable[[ArchSpec], LatencyEstimate]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One network of a grid, with what it and its proxy really are beside the baseline's.

    ``compound``: growth of depth, width and side per unit of phi. ``same``: labels of triples that rounding makes this
    network too. ``proxy``: the proxy's own growth over the proxy of the baseline. ``reason``: why it is not trained.
    """

    label: str
    compound: Compound
    grown: Grown
    latency: LatencyEstimate
    latency_growth: float
    proxy: Grown
    same: tuple[str, ...] = ()
    reason: str = ""

    @property
    def arch(self) -> ArchSpec:
        """The network itself."""
        return self.grown.arch

    @property
    def parameters(self) -> dict[str, float]:
        """What a trial of it is told by in the study, besides the seed."""
        return {"alpha": self.compound.alpha, "beta": self.compound.beta, "gamma": self.compound.gamma}

    @property
    def candidate(self) -> Candidate:
        """The network with its price."""
        return Candidate(genotype=self.parameters, arch=self.arch, cost=complexity(self.arch), latency=self.latency)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """All networks of a grid. ``trained`` and ``left_out`` are in the order of the grid; ``triples`` counts before
    rounding made some of them equal."""

    baseline: Entry
    trained: tuple[Entry, ...]
    left_out: tuple[Entry, ...]
    triples: int

    @property
    def by_label(self) -> dict[str, Entry]:
        """Those that are trained, the baseline first."""
        return {entry.label: entry for entry in (self.baseline, *self.trained)}


def find_entries(
    plan: CompoundPlan, baseline: ArchSpec, predict: Predict, proxy_of: Callable[[ArchSpec], Proxy]
) -> Entries:
    """The networks that ``plan`` asks for on ``baseline``, which has the classes and channels of the data already.

    Raises: NasError where there is none, saying what would be possible; SpecError for a side below the strides.
    """
    predict = cache(predict)
    first = grown(baseline, UNIT, 0.0, plan.rules)
    base_ms, base_proxy = predict(first.arch).latency_ms, proxy_of(first.arch).spec

    def entry(label: str, found: Grown, compound: Compound, same: Iterable[str] = ()) -> Entry:
        latency = predict(found.arch)
        return Entry(
            label=label,
            compound=compound,
            grown=replace(found, baseline=first.arch),
            latency=latency,
            latency_growth=latency.latency_ms / base_ms,
            proxy=replace(found, baseline=base_proxy, arch=proxy_of(found.arch).spec),
            same=tuple(same),
        )

    own = entry(BASELINE, first, UNIT)
    _check_baseline(plan, own)
    if plan.compare:
        found = [entry(label, one, _per_phi(one, plan.phi)) for label, one in _compared(plan, baseline, predict)]
        count = len(found)
    else:
        triples = _triples(plan, baseline, predict)
        groups = distinct(_grown(plan, baseline, triple) for triple in triples)
        found = [_of_group(entry, group) for group in groups]
        count = len(triples)
    judged = [replace(one, reason=_reason(plan, one)) for one in found]
    trained = tuple(one for one in judged if not one.reason)
    if not trained:
        raise _nothing_left(plan, judged)
    return Entries(baseline=own, trained=trained, left_out=tuple(one for one in judged if one.reason), triples=count)


def growth_of(plan: CompoundPlan, entry: Entry) -> float:
    """By what the target of ``plan`` really grows."""
    return entry.latency_growth if plan.target == "latency" else entry.grown.macs_growth


def _of_group(entry: Callable[..., Entry], group: Sequence[Grown]) -> Entry:
    first = group[0]
    return entry(str(first.compound), first, first.compound, [str(other.compound) for other in group[1:]])


def _grown(plan: CompoundPlan, baseline: ArchSpec, triple: Compound) -> Grown:
    try:
        return grown(baseline, triple, plan.phi, plan.rules)
    except NasError as error:
        raise NasError(f"phi {plan.phi:g} with {triple}: {error} Lower phi.") from None


def _triples(plan: CompoundPlan, baseline: ArchSpec, predict: Predict) -> tuple[Compound, ...]:
    """Triples by the formula, or with the latency as target by what the predictor makes of each."""
    grid, base_ms = plan.grid, predict(baseline).latency_ms

    def latency_growth(triple: Compound) -> float:
        network = _grown(plan, baseline, triple).arch
        return float((predict(network).latency_ms / base_ms) ** (1 / plan.phi))

    try:
        if plan.target == "latency":
            return compound_triples(grid.alpha, grid.beta, grid.gamma, tolerance=grid.tolerance, growth=latency_growth)
        return compound_triples(grid.alpha, grid.beta, grid.gamma, tolerance=grid.tolerance)
    except NasError as error:
        raise NasError(f"grid.{error}" if str(error).startswith("tolerance") else str(error)) from None


def _compared(plan: CompoundPlan, baseline: ArchSpec, predict: Predict) -> list[tuple[str, Grown]]:
    """Each rule grown to the same cost."""

    def latency_ms(arch: ArchSpec) -> float:
        return predict(arch).latency_ms

    def macs(arch: ArchSpec) -> float:
        return complexity(arch).macs

    measure = latency_ms if plan.target == "latency" else macs
    return list(at_equal_cost(baseline, plan.growth, plan.compared, plan.rules, measure=measure).items())


def _per_phi(found: Grown, phi: float) -> Compound:
    depth, width, side = (float(factor ** (1 / phi)) for factor in found.factors)
    return Compound(alpha=depth, beta=width, gamma=side)


def _reason(plan: CompoundPlan, entry: Entry) -> str:
    """Why an entry is not worth a training; empty if it is."""
    broken = plan.constraints.explain(entry.candidate.measures)
    tolerance = plan.grid.realised_tolerance
    real = growth_of(plan, entry)
    if not broken and not plan.compare and tolerance is not None and abs(real ** (1 / plan.phi) - 2) > tolerance:
        return f"{plan.target} grow x{real:.2f} after rounding"
    return broken


def _check_baseline(plan: CompoundPlan, baseline: Entry) -> None:
    broken = plan.constraints.explain(baseline.candidate.measures)
    if broken:
        raise NasError(
            f"constraint: the baseline itself breaks it ({broken}), and it is only to grow: "
            "raise the limit, or begin with a smaller baseline."
        )


def _nothing_left(plan: CompoundPlan, entries: Sequence[Entry]) -> NasError:
    off = [abs(growth_of(plan, entry) ** (1 / plan.phi) - 2) for entry in entries]
    nearest = entries[off.index(min(off))]
    if any("grow x" in entry.reason for entry in entries):
        return NasError(
            f"grid.realised_tolerance {plan.grid.realised_tolerance:g}: after rounding, and within the limits "
            f"({plan.constraints}), none of {len(entries)} networks is left; the nearest, {nearest.label}, grows by "
            f"x{growth_of(plan, nearest):.2f}: {math.ceil(100 * min(off)) / 100:g} would do; or change rounding."
        )
    measures = [entry.candidate.measures for entry in entries]
    least = {name: min(measure[name] for measure in measures) for name in plan.constraints.limits}
    needs = ", ".join(f"{name} {value:.4g}" for name, value in least.items())
    return NasError(
        f"constraint: none of {len(entries)} networks of x{plan.growth:g} {plan.target} meets {plan.constraints}; the "
        f"least that one needs: {needs}. Raise the limit, or lower phi."
    )
