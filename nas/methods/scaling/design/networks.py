"""Networks that a plan requests.

These are the triples of a grid, rules at equal cost, a table, or the steps of stepwise expansion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Final

from nas.arch.scaling.compound import ScaledNetwork, compound_triples, distinct_networks, scale_compound, scale_rounded
from nas.arch.scaling.rules import DIRECTIONS, at_equal_cost, stepwise_step
from nas.arch.scaling.transform import UNSCALED, Compound
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.estimators.proxy.reduce import Proxy
from nas.methods.scaling.config import ScalingPlan
from nas.methods.scaling.design.entries import (
    BASELINE,
    Design,
    DesignEntry,
    DesignStep,
    EntryPricer,
    Predict,
    growth_of,
)
from nas.methods.scaling.design.tables import table_cells
from nas.methods.scaling.settings import STEPWISE

_UNIT: Final = Compound(alpha=1.0, beta=1.0, gamma=1.0)

DesignAt = Callable[[tuple[str, ...]], Design]


def make_design(
    plan: ScalingPlan, baseline: ArchSpec, predict: Predict, proxy_of: Callable[[ArchSpec], Proxy]
) -> DesignAt:
    """Networks that ``plan`` requests, by the axes stepwise expansion has chosen.

    ``baseline`` already has the classes and channels of the data. The chosen axes decide which networks come next;
    without stepwise expansion, or before its first step, they are ().

    Raises: NasError where there is no network, with what would be possible; SpecError for an input side below the
    strides.
    """
    is_grid = not plan.compare
    base = (
        scale_compound(baseline, _UNIT, 0.0, plan.rules) if is_grid else scale_rounded(baseline, UNSCALED, plan.rules)
    )
    pricer = EntryPricer(plan=plan, base=base, predict=cache(predict), proxy_of=cache(proxy_of))
    baseline_entry = pricer.entry(BASELINE, base)
    _check_baseline(plan, baseline_entry)
    if plan.is_table:
        first = _table(pricer, baseline, baseline_entry)
    else:
        candidates, requested = _grid(pricer, baseline) if is_grid else _rules(pricer, baseline)
        trained, left_out = _split_by_reason(candidates)
        first = Design(baseline=baseline_entry, trained=trained, left_out=left_out, requested=requested)
        if not trained and candidates:
            raise _none_feasible(plan, candidates)
    at = cache(partial(_with_steps, pricer, baseline, first))
    at(())
    return at


def _split_by_reason(candidates: Sequence[DesignEntry]) -> tuple[tuple[DesignEntry, ...], tuple[DesignEntry, ...]]:
    return tuple(one for one in candidates if not one.reason), tuple(one for one in candidates if one.reason)


def _grid(pricer: EntryPricer, baseline: ArchSpec) -> tuple[list[DesignEntry], int]:
    """Triples whose cost grows by about two per unit of phi; their number unrounded.

    The number counts triples before rounding made some networks equal.
    """
    plan = pricer.plan
    triples = _triples(pricer, baseline)
    groups = distinct_networks(_scale(plan, baseline, triple) for triple in triples)
    candidates = [
        pricer.entry(str(group[0].compound), group[0], [str(other.compound) for other in group[1:]]) for group in groups
    ]
    return [replace(one, reason=one.reason or _off_target_reason(plan, one)) for one in candidates], len(triples)


def _off_target_reason(plan: ScalingPlan, entry: DesignEntry) -> str:
    tolerance, real = plan.grid.realised_tolerance, growth_of(plan, entry)
    if tolerance is not None and abs(real ** (1 / plan.phi) - 2) > tolerance:
        return f"{plan.target} grow x{real:.2f} after rounding"
    return ""


def _scale(plan: ScalingPlan, baseline: ArchSpec, triple: Compound) -> ScaledNetwork:
    try:
        return scale_compound(baseline, triple, plan.phi, plan.rules)
    except NasError as error:
        raise NasError(f"phi {plan.phi:g} with {triple}: {error} Lower phi.") from None


def _triples(pricer: EntryPricer, baseline: ArchSpec) -> tuple[Compound, ...]:
    """Triples by the formula, or by predicted latency if that is the target."""
    plan, grid, base_ms = pricer.plan, pricer.plan.grid, pricer.predict(baseline).latency_ms

    def latency_growth(triple: Compound) -> float:
        network = _scale(plan, baseline, triple).arch
        return float((pricer.predict(network).latency_ms / base_ms) ** (1 / plan.phi))

    try:
        if plan.target == "latency":
            return compound_triples(grid.alpha, grid.beta, grid.gamma, tolerance=grid.tolerance, growth=latency_growth)
        return compound_triples(grid.alpha, grid.beta, grid.gamma, tolerance=grid.tolerance)
    except NasError as error:
        raise NasError(f"grid.{error}" if str(error).startswith("tolerance") else str(error)) from None


def _rules(pricer: EntryPricer, baseline: ArchSpec) -> tuple[list[DesignEntry], int]:
    """Each rule scaled to the same cost, without stepwise expansion."""
    plan = pricer.plan
    networks = at_equal_cost(baseline, plan.growth, plan.compared, plan.rules, measure=pricer.measure)
    return [pricer.entry(label, one) for label, one in networks.items()], len(plan.compare)


def _table(pricer: EntryPricer, baseline: ArchSpec, baseline_entry: DesignEntry) -> Design:
    """Networks of the table, each once; one that equals the baseline is the baseline."""
    groups: dict[str, list[tuple[tuple[str, str], ScaledNetwork]]] = {}
    cells = table_cells(pricer.plan, baseline)
    for cell, one in cells:
        groups.setdefault(one.arch.arch_id, []).append((cell, one))
    candidates = []
    for group in groups.values():
        labels, cells_of_group = [" ".join(cell) for cell, _ in group], [cell for cell, _ in group]
        candidates.append(pricer.entry(labels[0], group[0][1], labels[1:], cells_of_group))
    trained, left_out = _split_by_reason(candidates)
    if not trained:
        raise _none_feasible(pricer.plan, candidates)
    base = next((entry for entry in trained if entry.arch.arch_id == baseline_entry.arch.arch_id), baseline_entry)
    order = tuple(cell for cell, _ in cells)
    return Design(baseline=base, trained=trained, left_out=left_out, requested=len(cells), cells=order)


def _with_steps(pricer: EntryPricer, baseline: ArchSpec, first: Design, chosen: tuple[str, ...]) -> Design:
    """Add to ``first`` the networks of stepwise expansion after the ``chosen`` axes.

    The candidates of the next step are among them.
    """
    plan = pricer.plan
    if STEPWISE not in plan.compare:
        return first
    known = {entry.arch.arch_id: entry for entry in first.trained}
    path: list[ScaledNetwork] = []
    steps, step_networks, infeasible = [], [], []
    for number in range(1, len(chosen) + 2):
        networks = _candidates(pricer, baseline, path)
        if not networks:
            break
        letters = [axis[0] for axis in chosen[: number - 1]]
        entries = {
            axis: known.get(one.arch.arch_id) or pricer.entry(f"step {'>'.join([*letters, axis[0]])}", one)
            for axis, one in networks.items()
        }
        new = [entry for entry in entries.values() if entry.arch.arch_id not in known]
        step_networks += [entry for entry in new if not entry.reason]
        infeasible += [entry for entry in new if entry.reason]
        steps.append(
            DesignStep(number=number, candidates={axis: one for axis, one in entries.items() if not one.reason})
        )
        if number <= len(chosen):
            path.append(networks[chosen[number - 1]])
    if not first.trained and not step_networks:
        raise _none_feasible(plan, infeasible)
    further = max(0, math.ceil(plan.phi - 1e-9) - len(steps)) if len(steps) > len(chosen) else 0
    return replace(
        first,
        steps=tuple(steps),
        chosen_axes=chosen,
        step_networks=tuple(step_networks),
        left_out=(*first.left_out, *infeasible),
        further=further,
    )


def _candidates(pricer: EntryPricer, baseline: ArchSpec, path: Sequence[ScaledNetwork]) -> dict[str, ScaledNetwork]:
    """Scale the end of ``path`` along each axis alone.

    After the first step an axis that cannot grow further is left out instead of ending a study that ran for hours.
    """
    networks: dict[str, ScaledNetwork] = {}
    for axis in DIRECTIONS:
        try:
            networks |= stepwise_step(
                baseline, path, pricer.plan.growth, (axis,), pricer.plan.rules, measure=pricer.measure
            )
        except NasError:
            if not path:
                raise
    return networks


def _check_baseline(plan: ScalingPlan, baseline: DesignEntry) -> None:
    if baseline.reason:
        what = "all others are compared with it" if plan.is_table else "every other network is larger"
        raise NasError(
            f"constraint: the baseline itself breaks it ({baseline.reason}), and {what}: "
            "raise the limit, or use a smaller baseline."
        )


def _none_feasible(plan: ScalingPlan, entries: Sequence[DesignEntry]) -> NasError:
    off = [abs(growth_of(plan, entry) ** (1 / plan.phi) - 2) for entry in entries]
    nearest = entries[off.index(min(off))]
    if any("grow x" in entry.reason for entry in entries):
        return NasError(
            f"grid.realised_tolerance {plan.grid.realised_tolerance:g}: after rounding, and within the limits "
            f"({plan.constraints}), none of {len(entries)} networks is left; the closest, {nearest.label}, grows by "
            f"x{growth_of(plan, nearest):.2f}: {math.ceil(100 * min(off)) / 100:g} suffices; or change rounding."
        )
    measures = [entry.candidate.measures for entry in entries]
    least = {name: min(measure[name] for measure in measures) for name in plan.constraints.limits}
    needs = ", ".join(f"{name} {value:.4g}" for name, value in least.items())
    which = "of the table" if plan.is_table else f"of x{plan.growth:g} {plan.target}"
    return NasError(
        f"constraint: none of {len(entries)} networks {which} meets {plan.constraints}; the "
        f"lowest values are {needs}. Raise the limit, or {'change the multipliers' if plan.is_table else 'lower phi'}."
    )
