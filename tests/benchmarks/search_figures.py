"""Figures of searches on tables, with their errors, for tests/benchmarks/sample_efficiency.py."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tests.benchmarks.tabulated_searches import Table

RESAMPLES: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search and what it trained.

    ``trials``: including those that repeated a network. ``cpu_s``: of the search, which trains nothing itself.
    """

    table: str
    mode: str
    arm: str
    seed: int
    trials: int
    cpu_s: float
    arch_ids: tuple[str, ...]


def first_of(search: Search, wanted: frozenset[str]) -> float:
    """Networks trained until one of ``wanted`` is among them; infinite if none is."""
    return next((float(count) for count, name in enumerate(search.arch_ids, 1) if name in wanted), math.inf)


def accuracy_missed(table: Table, search: Search, count: int) -> float:
    """What the best of the first ``count`` networks lacks in mean accuracy, in percentage points."""
    return 100 * (table.best - max(table.networks[name].accuracy for name in search.arch_ids[:count]))


def chosen_missed(table: Table, search: Search, count: int) -> float:
    """The same of the network whose own training of this search was the best."""
    chosen = max(search.arch_ids[:count], key=lambda name: table.training(name, search.seed))
    return 100 * (table.best - table.networks[chosen].accuracy)


def median(counts: Sequence[float], most: int) -> dict[str, float | None]:
    """Median, None where it is above ``most``, and its bootstrap standard error.

    Searches that did not find it count as ``most`` in the error, which is then too small.
    """
    known = np.array([min(count, most) for count in counts])
    resampled = np.random.default_rng(0).choice(known, (RESAMPLES, len(known)))
    found = statistics.median(counts)
    return {
        "median": found if math.isfinite(found) else None,
        "se": float(np.median(resampled, axis=1).std(ddof=1)),
        "not_found": sum(math.isinf(count) for count in counts),
    }


def mean(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and standard error."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "se": error}


def summary(table: Table, searches: Sequence[Search], *, is_front: bool, is_noisy: bool, most: int) -> dict[str, Any]:
    """Figures of the searches of one arm in one mode."""
    first = searches[0]
    found: dict[str, Any] = {"table": first.table, "mode": first.mode, "arm": first.arm, "seeds": len(searches)}
    found["most"] = most
    if is_front:
        for reference in table.references:
            found[f"hypervolume missed, %, reference {reference}"] = {
                count: mean([100 * table.hypervolume_missed(one.arch_ids[:count], reference) for one in searches])
                for count in table.at
            }
    else:
        found["until the best"] = median([first_of(one, frozenset(table.order[:1])) for one in searches], most)
        found["until one of ten"] = median([first_of(one, table.top) for one in searches], most)
        found["missed, points"] = {
            count: mean([accuracy_missed(table, one, count) for one in searches]) for count in table.at
        }
    if is_noisy:
        found["missed by the chosen, points"] = {
            count: mean([chosen_missed(table, one, count) for one in searches]) for count in table.at
        }
    found["trials per network"] = sum(one.trials for one in searches) / sum(len(one.arch_ids) for one in searches)
    found["cpu_s"] = sum(one.cpu_s for one in searches)
    return found


def line(found: dict[str, Any]) -> str:
    """The figures of ``summary`` in words."""
    parts = [f"{found['mode']:8} {found['arm']:9} {found['seeds']:4} seeds"]
    for name, value in found.items():
        if name.startswith("until"):
            shown = f"> {found['most']}" if value["median"] is None else f"{value['median']:g} +- {value['se']:.1f}"
            parts.append(f"{name} {shown} ({value['not_found']} not found)")
        elif "missed" in name:
            means = (f"{count}: {one['mean']:.3f} +- {_shown(one['se'])}" for count, one in value.items())
            parts.append(f"{name}, after {', '.join(means)}")
    return "; ".join([*parts, f"{found['trials per network']:.2f} trials per network, {found['cpu_s']:.0f} CPU-s"])


def _shown(error: float | None) -> str:
    return "-" if error is None else f"{error:.3f}"
