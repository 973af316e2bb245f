"""``report.html`` of an adaptation.

It shows the result, accuracy over cost step by step, the layers before and after, and every proposal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import hypot
from typing import TYPE_CHECKING, Final

from nas.analysis.latency_agreement import LatencyPair
from nas.analysis.significance import ChanceLevel
from nas.arch.complexity import Complexity, complexity
from nas.arch.spec import ArchSpec
from nas.core.formatting import ms_with_error, percent, percent_with_error, plural
from nas.methods.netadapt.results.columns import (
    MEASURE_UNITS,
    latency_columns,
    layer_columns,
    proposal_columns,
    step_columns,
)
from nas.methods.netadapt.results.comparison import AccuracyChange
from nas.methods.netadapt.results.layers import LayerChange, change_counts
from nas.methods.netadapt.results.plots import step_row_id
from nas.methods.netadapt.results.steps import AdaptationStep, ProposalRecord
from nas.reporting.class_accuracy import class_columns, class_rows
from nas.reporting.columns import select
from nas.reporting.html_page import template
from nas.reporting.network_drawing.draw import draw
from nas.reporting.plots.axes import Canvas
from nas.reporting.study_report import StudyReport

if TYPE_CHECKING:
    from jinja2 import Template

MEASURE_NAMES: Final = {
    "latency_ms": "predicted latency",
    "macs_m": "multiply-adds",
    "params_m": "parameters",
    "peak_memory_mb": "peak memory of activations",
}
_STEP_COLUMNS: Final = (
    "step", "change", "loss_before", "loss_after", "loss_error", "accuracy_with_error", "share", "latency_ms",
    "macs_m", "params_m", "proposals", "cpu_s",
)  # fmt: skip
_PROPOSAL_COLUMNS: Final = (
    "change", "loss", "increase_with_error", "saving", "accuracy_with_error", "latency_ms", "kept", "outcome", "trial",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class NetAdaptReport(StudyReport):
    """Content of an adaptation's report.

    ``seed`` and ``adapted``: the network to begin with, and that of the last step (None before the seed network is
    trained), which has ``layer_ms`` by operation path. ``measure`` shrinks from ``seed_cost`` to ``adapted_cost``, to
    be at most ``target``. ``steps``: those taken; ``open_proposals``: trials of the step that is not finished.
    ``change``: of the accuracy. ``latency``: predicted and measured, of the two networks. ``plots``: caption and plot
    by file name. ``files``: of the adapted network, by caption.
    """

    seed: ArchSpec
    adapted: ArchSpec | None
    layer_ms: Mapping[str, float]
    measure: str
    seed_cost: float
    target: float
    adapted_cost: float | None
    steps: tuple[AdaptationStep, ...]
    open_proposals: tuple[ProposalRecord, ...]
    change: AccuracyChange | None
    chance: ChanceLevel | None
    latency: tuple[LatencyPair, ...]
    layers: tuple[LayerChange, ...]
    plots: Mapping[str, tuple[str, Canvas]]
    class_names: tuple[str, ...]
    files: Mapping[str, str]

    @property
    def result(self) -> str:
        """The result in words."""
        if self.adapted_cost is None:
            return f"The seed network {self.seed.name} has no accuracy yet; no step was taken."
        return " ".join(filter(None, (self._cost_text, self._accuracy_text, self._measured_text, self._layers_text)))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about accuracy and measured latency of the adapted network."""
        return (*self._chance_warnings, *self._latency_warnings)

    @property
    def all_proposals(self) -> tuple[ProposalRecord, ...]:
        """Trials of all steps, those of the unfinished one included."""
        return (*(found for one in self.steps for found in one.proposals), *self.open_proposals)

    @property
    def measured_share(self) -> tuple[float, float | None] | None:
        """Measured latency of the adapted network, of the seed network's.

        A share with its standard error; None unless both are measured.
        """
        if len(self.latency) < 2:
            return None
        seed, adapted = self.latency
        share = adapted.measured_ms / seed.measured_ms
        if seed.error_ms is None or adapted.error_ms is None:
            return share, None
        return share, share * hypot(seed.error_ms / seed.measured_ms, adapted.error_ms / adapted.measured_ms)

    @property
    def adapted_complexity(self) -> Complexity | None:
        """Exact cost of the adapted network."""
        return complexity(self.adapted) if self.adapted else None

    @property
    def _cost_text(self) -> str:
        unit, cost = MEASURE_UNITS[self.measure], self.adapted_cost or 0.0
        goal = f"the target is {percent(self.target / self.seed_cost, digits=1)}"
        if len(self.steps) < 2:
            return (
                f"{self.seed.name} has {self.seed_cost:.4g} {unit} of {MEASURE_NAMES[self.measure]}, of which {goal}; "
                "no step was taken yet."
            )
        return (
            f"{self.seed.name} was shrunk to {percent(cost / self.seed_cost, digits=1)} of its "
            f"{MEASURE_NAMES[self.measure]} ({self.seed_cost:.4g} to {cost:.4g} {unit}; {goal}) in "
            f"{plural(len(self.steps) - 1, 'step')}."
        )

    @property
    def _accuracy_text(self) -> str:
        seed, adapted = self.steps[0].row, self.steps[-1].row
        before = percent(seed.accuracy, seed.standard_error, digits=1)
        if len(self.steps) < 2:
            return f"Its validation accuracy is {before}."
        after = percent(adapted.accuracy, adapted.standard_error, digits=1)
        change = f": {self.change}" if self.change else ""
        return f"Validation accuracy was {before} before and is {after} after{change}."

    @property
    def _measured_text(self) -> str:
        if self.measured_share is None:
            return ""
        share, error = self.measured_share
        seed, adapted = (ms_with_error(one.measured_ms, one.error_ms) for one in self.latency)
        return f"Measured latency: {seed} before, {adapted} after, {percent(share, error, digits=1)}."

    @property
    def _layers_text(self) -> str:
        return f"{change_counts(self.layers)}." if len(self.steps) > 1 else ""

    @property
    def _chance_warnings(self) -> tuple[str, ...]:
        accuracy = self.steps[-1].row.accuracy if self.steps else None
        if self.chance is None or accuracy is None or self.chance.is_exceeded(accuracy):
            return ()
        which = "adapted" if len(self.steps) > 1 else "seed"
        return (
            f"The {which} network is not significantly better than always guessing the largest class "
            f"({percent(self.chance.accuracy)} of {self.chance.images:,} validation images).",
        )

    @property
    def _latency_warnings(self) -> tuple[str, ...]:
        if self.measure != "latency_ms" or self.progress_text or self.measured_share is None:
            return ()
        (share, error), goal = self.measured_share, self.target / self.seed_cost
        remarks = [f"{one.name}: {text}." for one in self.latency for text in one.remarks()]
        if share - (error or 0.0) > goal:
            remarks.append(
                f"As measured the adapted network has {percent_with_error(share, error, 1)}% of the seed network's "
                f"latency, more than the target of {percent(goal, digits=1)}: lower the target, or calibrate again."
            )
        return tuple(remarks)


def render_netadapt_report(data: NetAdaptReport) -> str:
    """Render the page as self-contained HTML that fetches nothing."""
    names = ("seed network", "adapted")
    ends = dict(zip(names, (data.steps[0], data.steps[-1]), strict=True)) if len(data.steps) > 1 else {}
    by_class = class_rows(data.class_names, {name: [one.row] for name, one in ends.items()})
    measure_columns = (data.measure,) if data.measure == "peak_memory_mb" else ()
    return _template().render(
        data=data,
        summary=data.summary,
        warnings=data.warnings,
        step_columns=select(step_columns(), *_STEP_COLUMNS, *measure_columns),
        proposal_columns=select(proposal_columns(data.measure), *_PROPOSAL_COLUMNS),
        layer_columns=layer_columns(),
        latency_columns=latency_columns(),
        class_rows=by_class,
        class_columns=class_columns(by_class),
        drawing=drawing_of(data),
    )


def drawing_of(data: NetAdaptReport) -> str:
    """SVG of the adapted network with the latency share of each block; else the seed."""
    if data.adapted is None:
        return draw(data.seed)
    total_ms = data.steps[-1].row.predicted_ms if data.steps else None
    return draw(data.adapted, latency_by_path=data.layer_ms or None, total_ms=total_ms)


@cache
def _template() -> Template:
    return template("nas.methods.netadapt", "netadapt.html", {"row_id": step_row_id})
