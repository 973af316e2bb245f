"""``report.html`` of a scaling study.

It shows the result, accuracy over cost, the coefficients' surface, the family, and every training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from nas.methods.scaling.family_files import FamilyMember
from nas.methods.scaling.plots.networks import network_row_id
from nas.methods.scaling.ranking.columns import GROWTH_COLUMNS, Training, ranking_columns, training_columns
from nas.methods.scaling.ranking.ranking import Ranking
from nas.methods.scaling.ranking.table_lines import TableLayout
from nas.reporting.class_accuracy import ClassRow, class_columns
from nas.reporting.columns import select
from nas.reporting.html_page import template
from nas.reporting.plots.axes import Canvas
from nas.reporting.study_report import StudyReport

if TYPE_CHECKING:
    from jinja2 import Template

_NETWORK_COLUMNS: Final = (
    "network", "accuracy", "standard_error", "val_loss_with_error", "seeds", "p_value", "macs_m", "latency_ms",
    *(column.name for column in GROWTH_COLUMNS), "verdict",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingReport(StudyReport):
    """Content of a scaling study's report.

    ``ranking``: its networks as they rank, with their ``layout`` if the study is a table; ``sentences``: the result in
    words. ``plots``: caption and plot, by file name. ``labels``: of the trials' networks, by trial number. ``noun``:
    what a network represents: a triple, a rule, or just a network. ``by_class``: accuracy by class of the best network
    and the baseline; empty where it was not stored.
    """

    ranking: Ranking
    layout: TableLayout | None
    sentences: tuple[str, ...]
    notes: tuple[str, ...]
    plots: Mapping[str, tuple[str, Canvas]]
    members: tuple[FamilyMember, ...]
    labels: Mapping[int, str]
    noun: str
    by_class: tuple[ClassRow, ...] = ()

    @property
    def result(self) -> str:
        """The result in words."""
        return " ".join(self.sentences)

    @property
    def trainings(self) -> tuple[Training, ...]:
        """Network label and record of every trial."""
        return tuple((self.labels[row.number], row) for row in self.rows)


def render_scaling_report(data: ScalingReport) -> str:
    """Render the page as self-contained HTML that fetches nothing."""
    return _template().render(
        data=data,
        summary=data.summary,
        warnings=data.warnings,
        class_columns=class_columns(data.by_class),
        network_columns=select(ranking_columns(data.noun), *_network_columns(data.ranking)),
        training_columns=training_columns(),
    )


def _network_columns(ranking: Ranking) -> tuple[str, ...]:
    return tuple(name for name in _NETWORK_COLUMNS if name != "val_loss_with_error" or ranking.has_losses)


@cache
def _template() -> Template:
    return template("nas.methods.scaling", "compound.html", {"row_id": network_row_id})
