"""Page, table and CSV file of a benchmark of exported networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from nas.core.files import write_text_atomically
from nas.core.formatting import number_with_error, percent_with_error, plural
from nas.latency.bench.results import NO_REWRITE, BenchResult, BenchRow, form_label
from nas.latency.bench.verdicts import Int8Verdict, int8_verdicts, is_separated, verdict_lines
from nas.reporting.columns import Column, csv_table

if TYPE_CHECKING:
    from jinja2 import Template

BENCH_CSV: Final = "bench.csv"
BENCH_PAGE: Final = "report.html"
_DIGITS: Final = 3  # decimals of latencies and ratios, whose errors are often below 1%
_TITLES: Final = {"float32": "float32", "int8": "int8", "mixed": "int8 with float32 layers where int8 costs accuracy"}


class BenchLine(NamedTuple):
    """One row of the table: that of ``network`` at ``place``."""

    network: BenchResult
    place: int

    @property
    def row(self) -> BenchRow:
        return self.network.rows[self.place]

    @property
    def verdict(self) -> Int8Verdict | None:
        """The comparison with float32 in the same runtime, where there is one."""
        return next((one for one in int8_verdicts(self.network) if one.row == self.place), None)


class CostLine(NamedTuple):
    """A network in one precision, with its rows in all runtimes by their labels."""

    network: BenchResult
    macs: int
    params: int
    rows: dict[str, BenchRow]


def bench_lines(networks: Sequence[BenchResult]) -> list[BenchLine]:
    """The rows of all ``networks``."""
    return [BenchLine(network, place) for network in networks for place in range(len(network.rows))]


def _ratio(line: BenchLine) -> float:
    return line.network.ratio(line.place, 0)[0]


def _change(line: BenchLine) -> float | None:
    return line.row.accuracy.change if line.row.accuracy else None


def _change_error(line: BenchLine) -> float | None:
    return line.row.accuracy.change_error if line.row.accuracy else None


# All figures, for CSV and JSON.
BENCH_FIGURES: Final[tuple[Column[BenchLine], ...]] = (
    Column(name="network", heading="network", value=lambda line: line.network.name, align="left"),
    Column(name="arch_id", heading="id", value=lambda line: line.network.arch_id),
    Column(name="resolution_px", heading="side", unit="px", value=lambda line: line.network.resolution_px),
    Column(name="weights", heading="weights", value=lambda line: line.network.weights),
    Column(name="runtime", heading="runtime", value=lambda line: line.row.runtime, align="left"),
    Column(name="runtime_version", heading="version", value=lambda line: line.row.device.backend_version),
    Column(name="precision", heading="precision", value=lambda line: line.row.precision, align="left"),
    Column(name="rewrite", heading="rewrite", value=lambda line: line.row.rewrite, align="left"),
    Column(name="latency_ms", heading="latency", unit="ms", value=lambda line: line.row.latency_ms),
    Column(name="latency_error_ms", heading="error", unit="ms", value=lambda line: line.row.error_ms),
    Column(name="latency_spread_ms", heading="spread", unit="ms", value=lambda line: line.row.spread_ms),
    Column(name="ratio", heading="ratio", value=_ratio),
    Column(name="ratio_error", heading="error", value=lambda line: line.network.ratio(line.place, 0)[1]),
    Column(name="separated", heading="separated", value=lambda line: is_separated(line.network, line.place)),
    Column(name="ratio_to_float32", heading="ratio", value=lambda line: line.verdict and line.verdict.ratio),
    Column(
        name="ratio_to_float32_error", heading="error", value=lambda line: line.verdict and line.verdict.ratio_error,
    ),
    Column(name="size_bytes", heading="size", unit="bytes", value=lambda line: line.row.size_bytes),
    Column(name="accuracy", heading="top-1", value=lambda line: line.row.accuracy and line.row.accuracy.accuracy),
    Column(
        name="accuracy_error", heading="error",
        value=lambda line: line.row.accuracy and line.row.accuracy.standard_error,
    ),
    Column(name="accuracy_images", heading="images", value=lambda line: line.row.accuracy and line.row.accuracy.images),
    Column(name="accuracy_change", heading="change", value=_change),
    Column(name="accuracy_change_error", heading="error", value=_change_error),
    Column(name="float_layers", heading="float32 layers", value=lambda line: " ".join(line.row.float_layers)),
    Column(name="device", heading="device", value=lambda line: str(line.row.device)),
)  # fmt: skip


def _ratio_text(line: BenchLine) -> str:
    if not line.place:
        return "1"
    text = number_with_error(*line.network.ratio(line.place, 0), _DIGITS)
    return text if is_separated(line.network, line.place) else f"{text} (≈)"


def _float_ratio_text(line: BenchLine) -> str:
    return "" if line.verdict is None else number_with_error(line.verdict.ratio, line.verdict.ratio_error, _DIGITS)


def _accuracy_text(row: BenchRow) -> str:
    return "" if row.accuracy is None else percent_with_error(row.accuracy.accuracy, row.accuracy.standard_error)


# What terminal and page show.
_SHOWN: Final[tuple[Column[BenchLine], ...]] = (
    Column(name="network", heading="network", value=lambda line: line.network.name, align="left", wraps=False),
    Column(name="runtime", heading="runtime", value=lambda line: line.row.runtime, align="left"),
    Column(name="precision", heading="precision", value=lambda line: line.row.precision, align="left"),
    Column(name="rewrite", heading="rewrite", value=lambda line: line.row.rewrite, align="left"),
    Column(
        name="latency", heading="latency", unit="ms", note="lower quartile of the runs, with its standard error",
        value=lambda line: number_with_error(line.row.latency_ms, line.row.error_ms, _DIGITS),
    ),
    Column(
        name="spread", heading="spread", unit="ms", note="interquartile range of the runs",
        value=lambda line: number_with_error(line.row.spread_ms, None),
    ),
    Column(
        name="ratio", heading="ratio", note="to the network's first row; (≈): the noise does not separate them",
        value=_ratio_text,
    ),
    Column(
        name="to_float32", heading="to float32", note="latency relative to float32 in the same runtime",
        value=_float_ratio_text,
    ),
    Column(
        name="size", heading="size", unit="MB",
        value=lambda line: number_with_error(line.row.size_bytes / 1e6, None),
    ),
    Column(
        name="accuracy", heading="top-1", unit="%", note="validation images, with its binomial standard error",
        value=lambda line: _accuracy_text(line.row),
    ),
    Column(
        name="change", heading="change", unit="points",
        note="of accuracy relative to float32 in the same runtime, image by image",
        value=lambda line: percent_with_error(_change(line), _change_error(line)),
    ),
    Column(
        name="float_layers", heading="float32", note="layers that stay float32",
        value=lambda line: str(len(line.row.float_layers)) if line.row.precision == "mixed" else "",
    ),
)  # fmt: skip
BENCH_DISPENSABLE: Final = ("spread", "size", "float_layers", "change", "to_float32")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchReport:
    """What the page of a benchmark shows.

    ``networks``: results at one speed of the machine. ``costs``: MACs and parameters of each. ``remarks``: caveats.
    ``facts``: (name, value) pairs. ``command``: which resumes it.
    """

    networks: Sequence[BenchResult]
    costs: Sequence[tuple[int, int]]
    remarks: Sequence[str]
    facts: Sequence[tuple[str, str]]
    command: str

    @property
    def title(self) -> str:
        runtimes = {row.runtime for network in self.networks for row in network.rows}
        return f"{plural(len(self.networks), 'network')} in {plural(len(runtimes), 'runtime')}"

    @property
    def summary(self) -> str:
        return ", ".join(network.name for network in self.networks)

    @property
    def verdicts(self) -> list[str]:
        """What the rows show, one sentence each."""
        return verdict_lines(self.networks)

    @property
    def lines(self) -> list[BenchLine]:
        return bench_lines(self.networks)

    @property
    def columns(self) -> list[Column[BenchLine]]:
        """Columns of the table of all rows; those without content are left out."""
        return bench_columns(self.lines)

    @property
    def precisions(self) -> list[tuple[str, list[str], list[CostLine]]]:
        """A table for each precision: its title, the forms across, the networks.

        The form of tables 3 and 4 of MobileNetV3 (arXiv:1905.02244), float and quantised.
        """
        tables = []
        for precision, title in _TITLES.items():
            found = [
                CostLine(network, *cost, {_across(row): row for row in network.rows if row.precision == precision})
                for network, cost in zip(self.networks, self.costs, strict=True)
            ]
            forms = list(dict.fromkeys(label for line in found for label in line.rows))
            if forms:
                tables.append((title, forms, found))
        return tables

    @property
    def plot(self) -> str:
        """SVG of all latencies."""
        from nas.reporting.plots.latencies import latencies_svg

        return latencies_svg(self.networks)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write the page and the CSV file of all figures to ``folder``. Raises: NasError."""
        page, table = folder / BENCH_PAGE, folder / BENCH_CSV
        write_text_atomically(page, _template().render(data=self, summary=self.summary))
        write_text_atomically(table, csv_table(BENCH_FIGURES, self.lines))
        return page, table


def bench_columns(lines: Sequence[BenchLine]) -> list[Column[BenchLine]]:
    """Columns of ``_SHOWN`` that have content in some of ``lines``."""
    is_rewritten = any(line.row.rewrite != NO_REWRITE for line in lines)
    return [
        column
        for column in _SHOWN
        if any(column.cell(line) for line in lines) and (column.name != "rewrite" or is_rewritten)
    ]


def _across(row: BenchRow) -> str:
    return form_label(row.runtime, row.rewrite)


@cache
def _template() -> Template:
    from nas.reporting.html_page import template

    filters: dict[str, Any] = {
        "accuracy": _accuracy_text,
        "error": lambda row: number_with_error(row.latency_ms, row.error_ms, _DIGITS),
    }
    return template("nas.reporting", "bench.html", filters)
