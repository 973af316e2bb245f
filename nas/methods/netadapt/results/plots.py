"""Plots of an adaptation: accuracy over cost by step, channels before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from nas.core.formatting import decimal, percent
from nas.methods.netadapt.results.layers import LayerChange
from nas.methods.netadapt.results.steps import AdaptationStep
from nas.methods.netadapt.state import Phase
from nas.reporting.plots.axes import (
    BASELINE_COLOR,
    FRONT_COLOR,
    GREY_COLOR,
    LIMIT_COLOR,
    TEXT_COLOR,
    Canvas,
    canvas,
)
from nas.reporting.plots.hover_points import Point
from nas.study.trial_record import TrialRecord

_STAIRCASE_INCHES: Final = (6.6, 4.4)
_LAYERS_INCHES: Final = (6.6, 3.6)
_MOST_LABELS: Final = 20

RecordCost = Callable[[TrialRecord], float]


def staircase_plot(
    steps: Sequence[AdaptationStep], cost: RecordCost, *, name: str, axis: str, target: float | None, measured: bool
) -> Canvas:
    """Validation accuracy in % over ``cost``, step by step, with standard errors.

    ``axis``: the cost's name with its unit. ``target``: drawn as a line where it is of this cost. ``measured``: draw
    measured latencies, too, where ``cost`` is the latency.
    """
    with canvas(name, f"Accuracy over {axis} of {len(steps)} networks", _STAIRCASE_INCHES) as drawn:
        axes = drawn.axes
        axes.set(xlabel=axis, ylabel="validation accuracy, %")
        axes.margins(x=0.08)
        if not steps:
            axes.text(0.5, 0.5, "no network yet", transform=axes.transAxes, ha="center", color=TEXT_COLOR)
        if target is not None:
            axes.axvline(target, color=LIMIT_COLOR, linestyle="--", linewidth=1, label="target")
        if steps:
            _draw_steps(axes, steps, cost)
            _draw_others(axes, steps, cost)
        if measured:
            _draw_measured(axes, [one.row for one in steps if one.row.measured_ms is not None])
        drawn.points += [
            Point(cost(one.row), 100 * (one.row.accuracy or 0.0), step_row_id(one.step), _text(one)) for one in steps
        ]
    return drawn


def layers_plot(changes: Sequence[LayerChange], field: str, *, name: str, axis: str) -> Canvas:
    """Channels of each block, before as outlines and after as filled bars.

    ``field``: of ``LayerSize``; ``axis``: its name.
    """
    blocks = [one for one in changes if one.is_block]
    with canvas(name, f"{axis} of {len(blocks)} blocks before and after", _LAYERS_INCHES) as drawn:
        axes, places = drawn.axes, range(len(blocks))
        axes.set(xlabel="block", ylabel=axis)
        before = [getattr(one.before, field) or 0 for one in blocks]
        after = [getattr(one.after, field, 0) or 0 for one in blocks]
        axes.bar(places, before, width=0.8, color="none", edgecolor=GREY_COLOR, linewidth=1.2, label="before")
        axes.bar(places, after, width=0.6, color=FRONT_COLOR, label="after")
        every = max(1, -(-len(blocks) // _MOST_LABELS))
        axes.set_xticks(
            list(places)[::every], [one.name.removeprefix("blocks.") for one in blocks][::every], rotation=90
        )
        axes.grid(visible=False, axis="x")
    return drawn


def step_row_id(step: int) -> str:
    """HTML id of a step's row in the table of steps."""
    return f"step-{step}"


def _draw_steps(axes: Any, steps: Sequence[AdaptationStep], cost: RecordCost) -> None:
    across, up = [cost(one.row) for one in steps], [100 * (one.row.accuracy or 0.0) for one in steps]
    errors = [100 * (one.row.standard_error or 0.0) for one in steps]
    axes.plot(across, up, drawstyle="steps-post", color=FRONT_COLOR, linewidth=1.2, alpha=0.7)
    axes.errorbar(
        across[1:], up[1:], yerr=errors[1:], fmt="o", color=FRONT_COLOR, markersize=6, capsize=3, elinewidth=0.9,
        linestyle="none", label="network of a step" if len(steps) > 1 else None, zorder=4,
    )  # fmt: skip
    axes.errorbar(
        across[:1], up[:1], yerr=errors[:1], fmt="D", color=BASELINE_COLOR, markerfacecolor="none", markersize=7,
        capsize=3, elinewidth=0.9, linestyle="none", label="seed network", zorder=4,
    )  # fmt: skip
    if len(steps) <= _MOST_LABELS:
        for one, x, y in zip(steps, across, up, strict=True):
            place = {"xytext": (6, 5), "textcoords": "offset points", "fontsize": 10}
            axes.annotate(str(one.step), (x, y), color=TEXT_COLOR, **place)


def _draw_others(axes: Any, steps: Sequence[AdaptationStep], cost: RecordCost) -> None:
    """Draw fine-tuned networks that their step did not keep."""
    rows = [
        found.row
        for one in steps
        for found in one.proposals
        if found.phase is Phase.FINE_TUNING and not found.is_kept and found.row.accuracy is not None
    ]
    if rows:
        points = [(cost(row), 100 * (row.accuracy or 0.0)) for row in rows]
        axes.plot(*zip(*points, strict=True), "o", color=GREY_COLOR, markerfacecolor="none", label="not kept")


def _draw_measured(axes: Any, rows: Sequence[TrialRecord]) -> None:
    if not rows:
        return
    axes.errorbar(
        [row.measured_ms for row in rows],
        [100 * (row.accuracy or 0.0) for row in rows],
        xerr=[row.measured_error_ms or 0.0 for row in rows],
        fmt="x", color=TEXT_COLOR, markersize=7, capsize=3, elinewidth=0.9, linestyle="none", label="as measured",
        zorder=5,
    )  # fmt: skip


def _text(one: AdaptationStep) -> str:
    row = one.row
    lines = [
        f"Step {one.step}" if one.step else "Seed network",
        f"{percent(row.accuracy, row.standard_error)} at {decimal(row.latency_ms, 3)} ms predicted",
        f"{row.macs_m:.2f} M MACs, {row.params_m:.3f} M parameters" if row.macs_m and row.params_m else "",
        *one.changes,
    ]
    return "\n".join(line for line in lines if line)
