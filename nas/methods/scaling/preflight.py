"""Summary before training: realised growth of networks and proxies, and warnings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console

from nas.core.console import print_lines
from nas.core.tables import print_table
from nas.estimators.proxy.reduce import Proxy
from nas.methods.scaling.config import ScalingPlan
from nas.methods.scaling.design.entries import Design, DesignEntry
from nas.methods.scaling.ranking.columns import GROWTH_COLUMNS
from nas.methods.scaling.settings import STEPWISE
from nas.methods.scaling.terminal import request_text

_GROWTH: Final = ("network", "MACs", "params", "memory", "latency", "| depth", "width", "px", "proxy MACs")
_DISPENSABLE: Final = ("memory", "params", "latency")
_MAX_DEVIATION: Final = 0.15  # relative to the median growth; proxies beyond it are listed


def design_summary(plan: ScalingPlan, entries: Design) -> str:
    """One line on the baseline, the requested networks, and how many are trained."""
    base = entries.baseline
    trained = f"{len(entries.trained) + len(entries.step_networks)} to train"
    if plan.compare:
        what = request_text(plan)
    else:
        networks = len(entries.trained) + len(entries.left_out)
        what = f"{entries.requested} triples at phi {plan.phi:g}, {networks} networks after rounding"
    cost = base.candidate.measures
    return (
        f"{plan.baseline.name}: {cost['macs_m']:.1f} M MACs, {cost['params_m']:.2f} M parameters, "
        f"{cost['latency_ms']:.2f} ms; {what}, {trained}, limits {plan.constraints}"
    )


def print_growth(console: Console, plan: ScalingPlan, entries: Design) -> None:
    """Print each network's growth over the baseline, and its proxy's, all rounded.

    A proxy's growth is over the baseline's proxy.
    """
    triple = "" if plan.compare else " (alpha/beta/gamma)"
    print_lines(console, f"growth after rounding: of the network{triple} | of its proxy", "")
    rows = [(entry.label, *(column.cell(entry) for column in GROWTH_COLUMNS)) for entry in entries.all_entries]
    print_table(_GROWTH, rows, growth_remarks(entries), dispensable=_DISPENSABLE, console=console)


def growth_remarks(entries: Design) -> list[str]:
    """Networks that several labels share, and those that are not trained."""
    same = [f"{' = '.join((entry.label, *entry.same))}: one network" for entry in entries.all_entries if entry.same]
    left_out = [f"{entry.label} is left out: {entry.reason}" for entry in entries.all_entries if entry.reason]
    return [*same, *left_out]


def design_notes(plan: ScalingPlan, entries: Design, baseline: Proxy) -> list[str]:
    """Warnings on the proxies, and a note on stepwise expansion.

    Proxies may lose equal cost, differences between networks, or feature maps as large as the kernels.
    """
    notes = [f"{text} (proxy of the baseline)" for text in baseline.warnings]
    if not plan.is_table:  # whose costs differ on purpose
        notes += _unequal_cost(entries.trained)
    for labels in _same_proxies((*entries.trained, *entries.step_networks)):
        notes.append(f"{' and '.join(labels)} have the same proxy: training cannot distinguish them")
    if entries.steps:
        notes.append(
            f"{STEPWISE} grows one axis at a time (d: depth, w: width, r: resolution) and keeps the best of each "
            f"doubling of {plan.target}; the networks of a step are known once the step before it is trained"
        )
    return notes


def _unequal_cost(entries: Sequence[DesignEntry]) -> list[str]:
    """Warning on proxies whose growth is far from the median growth."""
    growths = sorted(entry.proxy.macs_growth for entry in entries)
    median = growths[len(growths) // 2] if growths else 1.0
    outliers = [entry for entry in entries if abs(entry.proxy.macs_growth / median - 1) > _MAX_DEVIATION]
    if not outliers:
        return []
    named = ", ".join(f"{entry.label} x{entry.proxy.macs_growth:.2f}" for entry in outliers)
    return [
        f"proxies are not of equal cost: MACs grow x{growths[0]:.2f} to x{growths[-1]:.2f}, the median is "
        f"x{median:.2f}; off by more than {_MAX_DEVIATION:.0%}: {named}"
    ]


def _same_proxies(entries: Sequence[DesignEntry]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for entry in entries:
        groups.setdefault(entry.proxy.arch.arch_id, []).append(entry.label)
    return [labels for labels in groups.values() if len(labels) > 1]
