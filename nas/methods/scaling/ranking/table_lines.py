"""Table layout, and comparison of its rows as lines of accuracy over cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from nas.analysis.significance import SIGNIFICANCE_LEVEL
from nas.methods.scaling.design.entries import Design, TableCell
from nas.methods.scaling.ranking.ranking import RankedNetwork, Ranking


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLayout:
    """Rows and columns of a table with its ranked networks.

    ``rows`` and ``columns`` are in the requested order; networks that rounding makes equal share an entry of ``cells``.
    A cell beyond the limits holds a network without accuracy.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Mapping[TableCell, RankedNetwork]

    def line(self, row: str) -> list[RankedNetwork]:
        """Trained networks of ``row``, the cheapest first."""
        result = {one.entry.label: one for (name, _), one in self.cells.items() if name == row and one.mean is not None}
        return sorted(result.values(), key=_macs)


class LineHeight(NamedTuple):
    """Accuracy of a line at some cost, in [0, 1].

    ``variance``: in units of the variance of one training.
    """

    accuracy: float
    variance: float


def table_layout(entries: Design, ranking: Ranking) -> TableLayout:
    """Layout of the requested table, with the rank of each network."""
    rows, columns = (tuple(dict.fromkeys(names)) for names in zip(*entries.cells, strict=True))
    cells = {cell: one for one in ranking.all_networks for cell in one.entry.cells}
    return TableLayout(rows=rows, columns=columns, cells=cells)


def compared_at(table: TableLayout) -> tuple[float, dict[str, LineHeight]] | None:
    """Accuracy of each line at the largest common growth of MACs, and that growth.

    None if the lines have no cost in common. Between two networks a line is interpolated linearly over the logarithm of
    MACs.
    """
    lines = {row: line for row in table.rows if (line := table.line(row))}
    if len(lines) < 2:
        return None
    growth = min(_growth(line[-1]) for line in lines.values())
    if growth < max(_growth(line[0]) for line in lines.values()):
        return None
    return growth, {row: _height(line, growth) for row, line in lines.items()}


def table_sentences(table: TableLayout, ranking: Ranking) -> list[str]:
    """Comparison of the lines at equal cost in words; empty without a common cost."""
    result = compared_at(table)
    if result is None:
        return []
    growth, heights = result
    ranked = sorted(heights, key=lambda row: -heights[row].accuracy)
    best, noise = heights[ranked[0]], ranking.noise
    figures = []
    for row in ranked:
        error = f" ± {100 * noise.deviation * math.sqrt(heights[row].variance):.2f}" if noise.freedom else ""
        figures.append(f"{row} has {100 * heights[row].accuracy:.2f}{error}%")
    sentences = [f"At x{growth:.2f} MACs, the largest that all lines reach, by interpolation: {', '.join(figures)}."]
    if noise.freedom:
        p_values = {
            row: noise.p_of_difference(best.accuracy - height.accuracy, best.variance + height.variance, len(heights))
            for row, height in heights.items()
            if row != ranked[0]
        }
        peers = [row for row in ranked[1:] if (p_values[row] or 0.0) >= SIGNIFICANCE_LEVEL]
        sentences.append(
            f"Statistically indistinguishable from {ranked[0]} there: {', '.join(peers)}." if peers else ""
        )
    return [sentence for sentence in sentences if sentence]


def _height(line: Sequence[RankedNetwork], growth: float) -> LineHeight:
    for left, right in pairwise(line):
        low, high = _growth(left), _growth(right)
        if low <= growth <= high and high > low:
            share = math.log(growth / low) / math.log(high / low)
            return LineHeight(
                (1 - share) * _mean(left) + share * _mean(right),
                (1 - share) ** 2 / len(left.accuracies) + share**2 / len(right.accuracies),
            )
    nearest = min(line, key=lambda one: abs(_growth(one) - growth))
    return LineHeight(_mean(nearest), 1 / len(nearest.accuracies))


def _mean(one: RankedNetwork) -> float:
    return one.mean or 0.0


def _macs(one: RankedNetwork) -> int:
    return one.entry.scaled.cost.macs


def _growth(one: RankedNetwork) -> float:
    return one.entry.scaled.macs_growth
