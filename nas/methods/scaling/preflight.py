"""Summary before training: realised growth of networks and proxies, and warnings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.table import Table

from nas.estimators.proxy.reduce import Proxy
from nas.methods.scaling.config import ScalingPlan
from nas.methods.scaling.design.entries import Design, DesignEntry
from nas.methods.scaling.ranking.columns import GROWTH_COLUMNS
from nas.methods.scaling.settings import STEPWISE
from nas.methods.scaling.terminal import request_text

_UNEVEN: Final = 0.15  # proxies whose growth differs from the middle one's by more than this are named


def design_summary(plan: ScalingPlan, entries: Design) -> str:
    """One line on the baseline, the requested networks, and how many are trained."""
    base = entries.baseline
    kept = f"{len(entries.trained) + len(entries.step_networks)} to train"
    if plan.compare:
        what = request_text(plan)
    else:
        networks = len(entries.trained) + len(entries.left_out)
        what = f"{entries.requested} triples at phi {plan.phi:g}, {networks} networks after rounding"
    cost = base.candidate.measures
    return (
        f"{plan.baseline.name}: {cost['macs_m']:.1f} M MACs, {cost['params_m']:.2f} M parameters, "
        f"{cost['latency_ms']:.2f} ms; {what}, {kept}, limits {plan.constraints}"
    )


def growth_table(plan: ScalingPlan, entries: Design) -> Table:
    """Table of each network's growth over the baseline, and its proxy's, all rounded.

    A proxy's growth is over the baseline's proxy.
    """
    triple = "" if plan.compare else " (alpha/beta/gamma)"
    title = f"growth after rounding: of the network{triple} | of its proxy"
    table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("network", "MACs", "params", "memory", "latency", "| depth", "width", "px", "MACs", ""):
        left = column in ("network", "")
        table.add_column(column, justify="left" if left else "right", overflow="fold", no_wrap=bool(column))
    for entry in entries.all_entries:
        same = f"= {', '.join(entry.same)}" if entry.same else ""
        table.add_row(
            entry.label,
            *(column.cell(entry) for column in GROWTH_COLUMNS),
            "; ".join(filter(None, (same, f"left out: {entry.reason}" if entry.reason else ""))),
        )
    return table


def design_notes(plan: ScalingPlan, entries: Design, baseline: Proxy) -> list[str]:
    """Warnings on the proxies, and a note on stepwise expansion.

    Proxies may lose equal cost, differences between networks, or feature maps as large as the kernels.
    """
    found = [f"{text} (proxy of the baseline)" for text in baseline.warnings]
    if not plan.is_table:  # where costs differ on purpose
        found += _uneven(entries.trained)
    for twins in _same_proxies((*entries.trained, *entries.step_networks)):
        found.append(f"{' and '.join(twins)} have the same proxy: training cannot tell them apart")
    if entries.steps:
        found.append(
            f"{STEPWISE} grows one axis at a time (d: depth, w: width, r: resolution) and keeps the best of each "
            f"doubling of {plan.target}, so that a step's networks are known when the step before it is trained"
        )
    return found


def _uneven(entries: Sequence[DesignEntry]) -> list[str]:
    """Warning on proxies whose growth is far from the median growth."""
    growths = sorted(entry.proxy.macs_growth for entry in entries)
    middle = growths[len(growths) // 2] if growths else 1.0
    uneven = [entry for entry in entries if abs(entry.proxy.macs_growth / middle - 1) > _UNEVEN]
    if not uneven:
        return []
    named = ", ".join(f"{entry.label} x{entry.proxy.macs_growth:.2f}" for entry in uneven)
    return [
        f"proxies are not of equal cost: MACs grow x{growths[0]:.2f} to x{growths[-1]:.2f}, the middle one's "
        f"x{middle:.2f}; more than {_UNEVEN:.0%} off: {named}"
    ]


def _same_proxies(entries: Sequence[DesignEntry]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for entry in entries:
        groups.setdefault(entry.proxy.arch.arch_id, []).append(entry.label)
    return [labels for labels in groups.values() if len(labels) > 1]
