"""Terminal output of a scaling study: request, result table, and file paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from nas.core.console import print_lines
from nas.core.formatting import plural, shown_path
from nas.core.tables import available_width, fit_columns
from nas.methods.scaling.config import ScalingPlan
from nas.methods.scaling.family_files import FAMILY_FOLDER, FamilyMember
from nas.methods.scaling.ranking.columns import TRIPLE, ranking_columns
from nas.methods.scaling.ranking.ranking import RankedNetwork, Ranking
from nas.methods.scaling.ranking.table_lines import TableLayout
from nas.methods.scaling.settings import WIDTH_LINES, WIDTH_RESOLUTION
from nas.reporting.columns import Column, print_columns, select

_SHOWN: Final = 12
_BEST_COLUMNS: Final = (
    "network", "accuracy_with_error", "val_loss_with_error", "seeds", "macs_x", "latency_ms", "p_value", "verdict",
)  # fmt: skip
_DISPENSABLE: Final = ("p_value", "seeds", "val_loss_with_error", "latency_ms")
TABLE_AXES: Final = {
    WIDTH_LINES: "depth and resolution (d, r) and by width (w)",
    WIDTH_RESOLUTION: "width and input side",
}
_KINDS: Final = {WIDTH_LINES: "width scaling from several baselines", WIDTH_RESOLUTION: "table of width x resolution"}


def scaling_kind(plan: ScalingPlan) -> str:
    """Description of the kind of study."""
    if plan.is_table:
        return _KINDS[plan.compare[0]]
    return "comparison of scaling rules" if plan.compare else "compound grid"


def network_noun(plan: ScalingPlan) -> str:
    """Noun for what a network represents: network, rule or triple."""
    return "network" if plan.is_table else "rule" if plan.compare else TRIPLE


def request_text(plan: ScalingPlan) -> str:
    """Description of the requested networks."""
    if plan.is_table:
        widths = " ".join(f"{width:g}" for width in plan.widths)
        if plan.compare == (WIDTH_LINES,):
            starts = " ".join(f"{depth:g}/{side:g}" for depth, side in plan.table.starts)
            return f"widths {widths} from depth/resolution {starts}"
        return f"widths {widths}, sides {' '.join(map(str, plan.resolutions))} px"
    growth = f"{plan.target} x{plan.growth:g}"
    return f"{plural(len(plan.compare), network_noun(plan))} at {growth}" if plan.compare else growth


def print_ranks(console: Console, plan: ScalingPlan, ranking: Ranking) -> None:
    """Print the best networks and the baseline."""
    title, columns = best_caption(plan, ranking), best_columns(plan, ranking)
    print_columns(console, title, columns, table_networks(ranking), dispensable=_DISPENSABLE)


def best_caption(plan: ScalingPlan, ranking: Ranking) -> str:
    """Caption of the table of the best networks."""
    return f"{plan.name}: {'the best' if ranking.best else 'some'} of {len(ranking.ranked)}"


def best_columns(plan: ScalingPlan, ranking: Ranking) -> tuple[Column[RankedNetwork], ...]:
    """Columns of the best networks in terminal and dashboard."""
    names = (name for name in _BEST_COLUMNS if name != "val_loss_with_error" or ranking.has_losses)
    return select(ranking_columns(network_noun(plan)), *names)


def table_networks(ranking: Ranking) -> tuple[RankedNetwork, ...]:
    """Best networks, and the baseline."""
    best = ranking.ranked[:_SHOWN]
    return best if ranking.baseline.entry.label in {one.entry.label for one in best} else (*best, ranking.baseline)


def print_cells(console: Console, plan: ScalingPlan, table: TableLayout) -> None:
    """Print accuracy by row and column, with the growth of MACs below.

    Columns that the terminal has no room for follow in a table of their own.
    """
    print_lines(console, f"{plan.name}: accuracy, % (MACs x)")
    left, width = list(table.columns), available_width(console)
    while left:
        count = len(left)
        while count > 1 and not fit_columns(console, _cells_table(table, left[:count]), width, wraps=False):
            count -= 1
        console.print(_cells_table(table, left[:count]))
        left = left[count:]


def _cells_table(table: TableLayout, columns: Sequence[str]) -> Table:
    shown = Table()
    for column in ("", *columns):
        shown.add_column(column, justify="right" if column else "left", overflow="fold")
    for row in table.rows:
        cells = [table.cells.get((row, column)) for column in columns]
        texts = [
            f"{one.percent or one.verdict.partition(':')[0]}\n(x{one.entry.scaled.macs_growth:.2f})" if one else ""
            for one in cells
        ]
        shown.add_row(row, *texts)
    return shown


def family_lines(plan: ScalingPlan, members: Sequence[FamilyMember]) -> list[str]:
    """Line on the family and its folder; empty without a family."""
    family = shown_path(plan.folder / FAMILY_FOLDER)
    return [f"family phi 0 to {members[-1].phi} by {members[0].scaled.compound}: {family}"] if members else []
