"""Networks of a table, by row and column."""

from __future__ import annotations

from nas.arch.scaling.compound import ScaledNetwork
from nas.arch.scaling.rules import width_lines, width_resolution_table
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.methods.scaling.config import ScalingPlan
from nas.methods.scaling.design.entries import TableCell
from nas.methods.scaling.settings import WIDTH_LINES


def table_cells(plan: ScalingPlan, baseline: ArchSpec) -> list[tuple[TableCell, ScaledNetwork]]:
    """Networks of the table of ``plan``, each with its row and column.

    Raises: NasError for an input side below the strides.
    """
    try:
        if plan.compare == (WIDTH_LINES,):
            return _width_lines(plan, baseline)
        networks = width_resolution_table(baseline, plan.widths, plan.resolutions, plan.rules)
    except NasError as error:
        raise NasError(f"table: {error}") from None
    return [((f"w{one.factors.width:g}", f"{one.arch.resolution_px}px"), one) for one in networks]


def _width_lines(plan: ScalingPlan, baseline: ArchSpec) -> list[tuple[TableCell, ScaledNetwork]]:
    lines = width_lines(baseline, plan.widths, plan.table.starts, plan.rules)
    return [
        ((f"d{depth:g} r{side:g}", f"w{one.factors.width:g}"), one)
        for (depth, side), networks in lines.items()
        for one in networks
    ]
