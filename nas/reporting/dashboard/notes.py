"""Markdown notes of a study and its trials, shown in optuna-dashboard."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from nas.arch.heads.task_scores import METRIC_NAMES, TASK_SCORES
from nas.core.formatting import decimal, interval, ms, ms_with_error, percent
from nas.reporting.columns import Column, Row
from nas.study.trial_record import Outcome, TrialRecord

Pairs = Sequence[tuple[str, str]]

_MARKUP: Final = re.compile(r"([\\`*_\[\]<>|~#])")
_FENCES: Final = re.compile(r"`{3,}")
_WIDTH: Final = 72  # characters of a line of code; longer ones make the dashboard wider than the screen
_LEVELS: Final = "▁▂▃▄▅▆▇█"
_HEADLINES: Final = {
    Outcome.TRAINED: "Trained",
    Outcome.SCORED: "Scored, not trained",
    Outcome.STOPPED: "Training stopped early",
    Outcome.INFEASIBLE: "Not trained: beyond a limit",
    Outcome.DUPLICATE: "Not trained again",
    Outcome.FAILED: "Failed",
    Outcome.RUNNING: "Running when this was written",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyNote:
    """Content of a study's note. ``command`` resumes the study.

    ``warnings``: about the result as a whole. ``caption``, ``best``: caption and Markdown cells of the table of
    winners, the first row its header. ``facts``: plain text (name, value) pairs. ``reading``: sentences in Markdown on
    how to read the dashboard. ``plot``: caption and URL path.
    """

    title: str
    summary: str
    command: str
    facts: Pairs
    warnings: Sequence[str] = ()
    caption: str = ""
    best: Sequence[Sequence[str]] = ()
    reading: Sequence[str] = ()
    plot: tuple[str, str] | None = None

    @property
    def markdown(self) -> str:
        """The note as Markdown."""
        parts = [f"# {escape_markdown(self.title)}", escape_markdown(self.summary)]
        parts += [f"**{escape_markdown(warning)}**" for warning in self.warnings]
        parts += [f"!{link(*self.plot)}"] if self.plot else []
        if self.best:
            parts += [f"## {escape_markdown(self.caption)}", markdown_table(*self.best)]
        if self.reading:
            parts += ["## How to read this", "\n".join(f"- {sentence}" for sentence in self.reading)]
        parts += ["## Resume", code_block(wrap_command(self.command), "sh")]
        parts += [
            "## Facts",
            markdown_table(("", ""), *((escape_markdown(name), escape_markdown(value)) for name, value in self.facts)),
        ]
        return "\n\n".join(parts)

    @property
    def short_facts(self) -> Pairs:
        """Short form of the note as (name, value) pairs.

        For places without room for a note.
        """
        return [("in short", self.summary), ("go on with", self.command), *self.facts]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialNote:
    """Content of a trial's note in addition to its ``row``.

    ``label``: of a winner. ``published``: the published network's name. ``duration``: wall-clock time. ``curve``: the
    ``metric`` by epoch. ``facts``: plain text (name, value) pairs of the study kind. ``drawing``: URL path.
    ``accuracy_name``: what the accuracy is of.
    """

    row: TrialRecord
    label: str = ""
    published: str = ""
    duration: timedelta | None = None
    metric: str = "accuracy"
    curve: Mapping[int, float] = field(default_factory=dict)
    facts: Pairs = ()
    drawing: str = ""
    accuracy_name: str = "proxy accuracy"

    @property
    def markdown(self) -> str:
        """The note as Markdown."""
        facts = [(escape_markdown(name), escape_markdown(value)) for name, value in self._pairs() if value]
        drawn = f"!{link('drawing of the network', self.drawing)}" if self.drawing else ""
        parts = [self._headline(), markdown_table(("", ""), *facts) if facts else "", self._blocks(), drawn]
        return "\n\n".join(part for part in parts if part)

    def _headline(self) -> str:
        text = f"**{_HEADLINES[self.row.outcome]}**" + (
            f": {escape_markdown(self.row.reason)}." if self.row.reason else "."
        )
        text += f" **Winner {escape_markdown(self.label)}.**" if self.label else ""
        return text + (f" The published {escape_markdown(self.published)}, for comparison." if self.published else "")

    def _pairs(self) -> list[tuple[str, str]]:
        row, score = self.row, TASK_SCORES[self.row.task]
        cost = (("M MACs", row.macs_m, 1), ("M parameters", row.params_m, 2), ("MB peak memory", row.peak_memory_mb, 2))
        return [
            *self.facts,
            (
                score.named(self.accuracy_name),
                "" if row.accuracy is None else percent(row.accuracy, row.standard_error),
            ),
            ("trained as", row.role or ""),
            *((METRIC_NAMES.get(name, name), percent(value)) for name, value in row.metrics.items()),
            ("validation loss", "" if row.val_loss is None else f"{row.val_loss:.3f} {score.loss_unit}".rstrip()),
            (f"estimated {score.name}", _estimate_text(row)),
            ("predicted latency", predicted_text(row)),
            ("measured latency", measured_text(row)),
            ("cost", ", ".join(f"{decimal(value, digits)} {unit}" for unit, value, digits in cost if value)),
            ("took", _took(self.duration, row.cpu_s)),
            ("learning curve", self._learning()),
            ("network", row.arch_id),
        ]

    def _learning(self) -> str:
        if not self.curve:
            return ""
        steps = sorted(self.curve)
        first, last = (self._value(self.curve[step]) for step in (steps[0], steps[-1]))
        name = TASK_SCORES[self.row.task].name if self._is_score else self.metric
        if len(steps) == 1:
            return f"{name} {first} after epoch {steps[0]}"
        drawn = sparkline([self.curve[step] for step in steps])
        return f"{drawn} {name} {first} after epoch {steps[0]}, {last} after epoch {steps[-1]}".strip()

    @property
    def _is_score(self) -> bool:
        return self.metric == TASK_SCORES[self.row.task].metric

    def _value(self, value: float) -> str:
        return percent(value) if self._is_score else decimal(value, 4)

    def _blocks(self) -> str:
        if not self.row.blocks:
            return ""
        lines = []
        for index, stage in enumerate(self.row.blocks.split("; ")):
            first, *others = stage.split()
            lines += [f"{f'stage {index}:':<10}{first}", *(f"{'':<10}{block}" for block in others)]
        return code_block("\n".join(lines), "text")


def escape_markdown(text: str) -> str:
    """``text`` in one line, with all Markdown characters escaped."""
    return " ".join(_MARKUP.sub(r"\\\1", text).split())


def code_block(text: str, language: str) -> str:
    """``text`` as a fenced code block."""
    fence = "`" * max([3, *(len(found) + 1 for found in _FENCES.findall(text))])
    return f"{fence}{language}\n{text}\n{fence}"


def wrap_command(command: str) -> str:
    """Wrap a command with line continuations to fit a dashboard."""
    lines: list[str] = []
    for word in map(shlex.quote, shlex.split(command)):
        if lines and len(lines[-1]) + len(word) < _WIDTH:
            lines[-1] += f" {word}"
        else:
            lines.append(f"  {word}" if lines else word)
    return " \\\n".join(lines)


def markdown_table(head: Sequence[str], *rows: Sequence[str]) -> str:
    """A Markdown table of cells that are already Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def markdown_rows(
    columns: Sequence[Column[Row]], rows: Iterable[Row], marked: Mapping[str, Callable[[Row], str]]
) -> list[tuple[str, ...]]:
    """Header and ``rows`` of a Markdown table.

    ``marked``: by column name, functions that render a cell as Markdown.
    """

    def cell(column: Column[Row], row: Row) -> str:
        mark = marked.get(column.name)
        return mark(row) if mark else escape_markdown(column.cell(row))

    head = tuple(escape_markdown(column.label) for column in columns)
    return [head, *(tuple(cell(column, row) for column in columns) for row in rows)]


def link(text: str, address: str) -> str:
    """A Markdown link within the dashboard."""
    return f"[{escape_markdown(text)}]({address})"


def sparkline(values: Sequence[float]) -> str:
    """Values as block characters between their minimum and maximum.

    Empty if all values are equal.
    """
    low, reach = min(values), max(values) - min(values)
    top = len(_LEVELS) - 1
    return "".join(_LEVELS[round(top * (value - low) / reach)] for value in values) if reach else ""


def _estimate_text(row: TrialRecord) -> str:
    """Estimated accuracy with its error, and the scores that it was made from."""
    if row.estimated_accuracy is None:
        return ""
    scores = ", ".join(f"{name} {value:.4g}" for name, value in row.scores.items())
    return percent(row.estimated_accuracy, row.estimate_error) + (f", from {scores}" if scores else "")


def predicted_text(row: TrialRecord) -> str:
    """Predicted latency with its 90% interval; empty if not predicted."""
    if row.predicted_ms is None:
        return ""
    ends = interval(row.latency_low_ms, row.latency_high_ms)
    return ms(row.predicted_ms) + (f" (90% interval {ends})" if ends else "")


def measured_text(row: TrialRecord) -> str:
    """Measured latency with its standard error and interquartile range.

    Empty if not measured.
    """
    if row.measured_ms is None:
        return ""
    spread = "" if row.measured_spread_ms is None else f" (spread {decimal(row.measured_spread_ms)})"
    return f"{ms_with_error(row.measured_ms, row.measured_error_ms)}{spread}"


def _took(duration: timedelta | None, cpu_s: float | None) -> str:
    seconds = round(duration.total_seconds()) if duration else 0
    clock = f"{timedelta(seconds=seconds)} by the clock" if seconds else ""
    return ", ".join(filter(None, (clock, "" if cpu_s is None else f"{cpu_s:.1f} s of CPU in training")))
