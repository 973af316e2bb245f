"""Plot points with tooltips, linked to rows of the page's table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple
from xml.sax.saxutils import escape, quoteattr

from nas.core.formatting import interval, ms, percent
from nas.reporting.svg import printable
from nas.study.trial_record import BaselineRecord, TrialRecord

MAX_POINTS: Final = 1000  # per plot; more can neither be distinguished by eye nor be hovered fast
_RADIUS: Final = 3
_FINEST: Final = 256  # cells across a plot


class Point(NamedTuple):
    """Data coordinates, table row id and tooltip text of a point.

    The first line of ``text`` is the tooltip's heading.
    """

    x: float
    y: float
    row: str
    text: str


def trial_row_id(number: int) -> str:
    """The id of a trial's row in the table of all candidates."""
    return f"trial-{number}"


def point_of(row: TrialRecord, name: str = "", *, measured: bool = False) -> Point:
    """The point of a trained or scored candidate: latency in ms, accuracy in %.

    ``name``: shown in front of its trial number.

    ``measured``: its latency is measured, so the interval of the prediction is omitted.
    """
    heading = f"{name}, trial {row.number}" if name else f"Trial {row.number}"
    return _point(row, heading, trial_row_id(row.number), measured=measured)


def baseline_point(baseline: BaselineRecord, *, measured: bool = False) -> Point:
    """The point of a baseline, linked to its row in the table of winners."""
    heading = f"{baseline.label}, baseline {baseline.published}"
    return _point(baseline.row, heading, baseline_row_id(baseline.label), measured=measured)


def baseline_row_id(label: str) -> str:
    """The id of a baseline's row in the table of winners."""
    return f"baseline-{label}"


def _point(row: TrialRecord, heading: str, row_id: str, *, measured: bool) -> Point:
    ends = "" if measured else interval(row.latency_low_ms, row.latency_high_ms)
    costs = (
        (row.macs_m, "M MACs", 1), (row.params_m, "M parameters", 2), (row.peak_memory_mb, "MB of activations", 2)
    )  # fmt: skip
    cost = ", ".join(f"{value:.{digits}f} {unit}" for value, unit, digits in costs if value is not None)
    lines = [
        heading,
        f"{_accuracy(row)} at {ms(row.latency_ms)} {'measured' if measured else 'predicted'}"
        + (f" (90% interval {ends} ms)" if ends else ""),
        cost,
        *block_lines(row.blocks.split("; ") if row.blocks else ()),
    ]
    text = "\n".join(line for line in lines if line)
    return Point(row.latency_ms or 0.0, 100 * (row.ranked_accuracy or 0.0), row_id, text)


def _accuracy(row: TrialRecord) -> str:
    text = percent(row.ranked_accuracy, row.ranked_error)
    return f"{text} (estimate)" if row.accuracy is None else text


def block_lines(stages: Iterable[str]) -> list[str]:
    """One line per stage: index and block strings."""
    return [f"{number}: {blocks}" for number, blocks in enumerate(stages)]


def thin_points(rows: Sequence[TrialRecord], required: Collection[int]) -> list[TrialRecord]:
    """Sample at most ``MAX_POINTS`` of ``rows``, spread over the plot.

    Rows whose numbers are in ``required`` are always included.

    The earliest row in each cell of a grid over the plot represents the others in that cell.
    """
    if len(rows) <= MAX_POINTS:
        return list(rows)
    always = [row for row in rows if row.number in required]
    others = [row for row in reversed(rows) if row.number not in required]
    positions = [(row.latency_ms or 0.0, row.ranked_accuracy or 0.0) for row in rows]
    low, high = (tuple(map(pick, zip(*positions, strict=True))) for pick in (min, max))

    def cell(row: TrialRecord, cells: int) -> tuple[int, ...]:
        position = (row.latency_ms or 0.0, row.ranked_accuracy or 0.0)
        spans = zip(position, low, high, strict=True)
        return tuple(int(cells * (value - least) / ((most - least) or 1.0)) for value, least, most in spans)

    cells = _FINEST
    while len(sampled := {cell(row, cells): row for row in others}) > max(1, MAX_POINTS - len(always)):
        cells //= 2
    return sorted([*always, *sampled.values()], key=lambda row: row.number)


def markup(points: Iterable[tuple[Point, float, float]]) -> str:
    """SVG of hover targets, each with its position in drawing units."""
    drawn = "".join(
        f'<circle class="hit" cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}" fill="transparent" role="img" '
        f"data-row={quoteattr(point.row)}><title>{escape(_clean(point.text))}</title></circle>"
        for point, x, y in points
    )
    return f'<g class="hits">{drawn}</g>' if drawn else ""


def _clean(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))
