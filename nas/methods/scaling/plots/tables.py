"""Plots of a table: accuracy over cost with a line per row, and a shaded matrix."""

from __future__ import annotations

from typing import Any, Final

from nas.methods.scaling.plots.networks import COST_INCHES, Cost, draw_cell, network_points
from nas.methods.scaling.ranking.ranking import BEST, Ranking
from nas.methods.scaling.ranking.table_lines import TableLayout
from nas.reporting.plots.axes import BASELINE_COLOR, TEXT_COLOR, Canvas, canvas

# Dashes and markers distinguish the lines, so that they are readable in greyscale.
_DASHES: Final = ("-", "--", "-.", ":")
_MARKERS: Final = "osD^vPX*"
_INKS: Final = ("#0b7285", "#c2255c", "#5f3dc4", "#d9480f", "#2b8a3e", "#868e96")
_CELL_INCHES: Final = (1.7, 0.8)


def lines_plot(table: TableLayout, ranking: Ranking, cost: Cost, *, name: str, axis: str) -> Canvas:
    """Accuracy in % over ``cost``, one line per row, with standard errors of means.

    The baseline is framed. The axis is logarithmic, on which the multipliers of a table are evenly spaced.
    """
    with canvas(name, f"Accuracy over {axis}, one line per row of the table", COST_INCHES) as drawn:
        axes = drawn.axes
        axes.set(xlabel=f"{axis} (logarithmic)", ylabel="proxy accuracy, %", xscale="log")
        for index, row in enumerate(table.rows):
            line = table.line(row)
            if line:
                axes.errorbar(
                    [cost(one) for one in line],
                    [100 * (one.mean or 0.0) for one in line],
                    yerr=[100 * (one.error or 0.0) for one in line],
                    label=row,
                    linestyle=_DASHES[index % len(_DASHES)],
                    marker=_MARKERS[index % len(_MARKERS)],
                    color=_INKS[index % len(_INKS)],
                    capsize=3,
                    elinewidth=0.9,
                    markersize=5,
                )
                drawn.points += network_points(line, cost)
        base = ranking.baseline
        if base.mean is not None:
            style = {"color": BASELINE_COLOR, "markerfacecolor": "none", "markersize": 12, "zorder": 6}
            axes.errorbar([cost(base)], [100 * base.mean], fmt="s", label="baseline", **style)  # last in the legend
        if not ranking.ranked:
            axes.text(0.5, 0.5, "no training finished", transform=axes.transAxes, ha="center", color=TEXT_COLOR)
        _ticks(axes)
    return drawn


def _ticks(axes: Any) -> None:
    """Set plain numbers at 1, 2 and 5 as ticks: powers of ten alone are too few."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def matrix_plot(table: TableLayout, ranking: Ranking) -> Canvas:
    """Accuracy by row and column: the lighter, the better; untrained ones hatched."""
    width, height = _CELL_INCHES
    inches = (max(6.0, 1.2 + width * len(table.columns)), 1.0 + height * len(table.rows))
    means = [one.mean for one in table.cells.values() if one.mean is not None]
    low, high = min(means, default=0.0), max(means, default=1.0)
    with canvas("table", f"Accuracy of {len(table.cells)} networks by row and column", inches) as drawn:
        axes = drawn.axes
        axes.grid(False)
        axes.set_xticks(range(len(table.columns)), table.columns)
        axes.set_yticks(range(len(table.rows)), table.rows)
        axes.set(xlim=(-0.6, len(table.columns) - 0.4), ylim=(len(table.rows) - 0.4, -0.6))
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for (row, column), one in table.cells.items():
            share = ((one.mean or 0.0) - low) / (high - low) if high > low else 1.0
            text = [one.percent or one.verdict.partition(":")[0], f"x{one.entry.scaled.macs_growth:.2f} MACs"]
            cell = table.columns.index(column), table.rows.index(row)
            draw_cell(axes, cell, text, None if one.mean is None else share, marked=one.verdict == BEST)
    return drawn
