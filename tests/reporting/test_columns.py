"""Tests of columns: equal figures in terminal, CSV, Markdown and pages.

CSV is read back by the standard library.
"""

from __future__ import annotations

import csv
import io
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nas.analysis.latency_agreement import LatencyPair
from nas.core.errors import NasError
from nas.core.formatting import decimal
from nas.reporting.columns import Column, csv_table, plain_record, print_columns, select
from nas.reporting.dashboard.notes import markdown_rows
from nas.reporting.html_page import template
from nas.reporting.search_columns import (
    AGREEMENT_COLUMNS,
    RECORD_COLUMNS,
    LabelledRecord,
    candidate_columns,
    records_to_csv,
    select_winner_columns,
    winner_columns,
)
from nas.study.trial_record import Outcome, TrialRecord

# Carriage returns are left out: with "\n" as line end, csv reads a quoted one back but text files translate it.
TEXTS = st.text(st.characters(exclude_characters="\r\0", exclude_categories=("Cs",)), max_size=20)
REALS = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))


@st.composite
def full_rows(draw: st.DrawFn) -> TrialRecord:
    names = ("accuracy", "latency_ms", "macs_m", "params_m", "cpu_s")
    genotype = draw(st.dictionaries(st.sampled_from(("stage1.kernels", "stage2.expansion")), TEXTS.filter(bool)))
    return TrialRecord(
        number=draw(st.integers(0, 10**6)),
        outcome=draw(st.sampled_from(Outcome)),
        reason=draw(TEXTS),
        blocks=draw(TEXTS),
        genotype=genotype,
        **{name: draw(REALS) for name in names},
    )


@given(st.lists(full_rows(), max_size=4))
def test_csv_reads_back_with_every_value(rows: list[TrialRecord]) -> None:
    lines = list(csv.DictReader(io.StringIO(records_to_csv(rows), newline="")))
    assert len(lines) == len(rows)
    for row, line in zip(rows, lines, strict=True):
        assert line["number"] == ("" if row.outcome is Outcome.BASELINE else str(row.number))
        assert Outcome(line["outcome"]) is row.outcome
        assert (line["reason"], line["blocks"]) == (row.reason, row.blocks)
        for name in ("accuracy", "latency_ms", "macs_m", "params_m", "cpu_s"):
            value = getattr(row, name)
            assert (float(line[name]) if line[name] else None) == value
        chosen = {name: line[name] for name in ("stage1.kernels", "stage2.expansion") if line.get(name)}
        assert chosen == row.genotype


def test_csv_of_no_rows_is_a_header() -> None:
    header = records_to_csv([]).splitlines()
    assert header == [
        "number,outcome,arch_id,accuracy,standard_error,majority_accuracy,val_loss,latency_ms,latency_low_ms,"
        "latency_high_ms,predicted_ms,measured_ms,measured_spread_ms,measured_error_ms,macs_m,params_m,peak_memory_mb,cpu_s,"
        "reason,blocks,class_accuracies"
    ]


class Pair(NamedTuple):
    """A row of the tables below."""

    label: str
    share: float | None


COLUMNS: tuple[Column[Pair], ...] = (
    Column(name="label", heading="name | of it", value=lambda pair: pair.label, align="left"),
    Column(name="share", heading="share", unit="GB", note="of all", value=lambda pair: pair.share, text=decimal),
)
PAIRS = (Pair("a_b", 0.125), Pair("<c>", None))


def test_csv_holds_plain_values_and_people_read_rounded_ones() -> None:
    assert csv_table(COLUMNS, PAIRS) == "label,share\na_b,0.125\n<c>,\n"
    assert plain_record(COLUMNS, PAIRS[0]) == {"label": "a_b", "share": 0.125}
    head, first, second = markdown_rows(COLUMNS, PAIRS, {"share": lambda pair: f"**{pair.label}**"})
    assert head == ("name \\| of it", "share, GB")
    assert first == ("a\\_b", "**a_b**") and second[0] == "\\<c\\>"
    console = Console(width=60, record=True, file=io.StringIO())
    print_columns(console, "both", COLUMNS, PAIRS)
    lines = [line.strip("│┃ ") for line in console.export_text().splitlines()]
    assert [line.split("│")[-1].strip() for line in lines if line.startswith(("a_b", "<c>"))] == ["0.12", decimal(None)]


def test_the_winners_of_a_search_fit_into_80_characters() -> None:
    names = ("name", "reward", "accuracy", "predicted_ms", "measured_ms", "macs_m", "params_m", "files")
    console = Console(width=80, record=True, file=io.StringIO())
    winner = LabelledRecord(label="W10", row=ROW, spec_file="winners/winner_10.yaml")
    print_columns(console, "winners", select_winner_columns({7: 0.5}, *names), [winner])
    _, _, headings, units, _, cells, *_ = (
        line.replace("┃", "│").strip("│").split("│") for line in console.export_text().splitlines()
    )
    assert [text.strip() for text in units] == ["", "reward", "%", "ms", "ms", "M", "M", "files"]
    assert [text.strip() for text in headings][2:5] == ["accuracy", "predicted", "measured"]
    expected = ["W10", "0.5000", "98.77", "2.50", "3.00", "39.00", "0.215", "winner_10"]
    assert [text.strip() for text in cells] == expected


def test_a_page_escapes_cells_and_takes_html_for_those_that_are_marked() -> None:
    page = template("nas.reporting", "table.html", {}).module
    cells = str(page.cells(COLUMNS, PAIRS[1], head="label", classes={"label": "text"}))
    assert '<th class="text" scope="row">&lt;c&gt;</th>' in cells and f'<td class="n">{decimal(None)}</td>' in cells
    heads = str(page.heads(COLUMNS, sortable=True))
    assert '<th class="n" scope="col" title="of all"><button type="button">Share, GB</button></th>' in heads


@pytest.mark.parametrize(
    ("heading", "title"),
    [
        ("accuracy", "Accuracy"),
        ("p", "p"),
        ("ms", "ms"),
        ("MACs ×", "MACs ×"),
        ("90% interval", "90% interval"),
        ("", ""),
    ],
)
def test_a_title_is_in_sentence_case_and_symbols_stay(heading: str, title: str) -> None:
    assert Column(name="x", heading=heading, value=str).title == title


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(NasError, match=r"column 'macs': not in this table; choose from label, share\."):
        select(COLUMNS, "label", "macs")


ROW = TrialRecord(
    number=7, outcome=Outcome.TRAINED, arch_id="0123456789ab", accuracy=0.98765, latency_ms=3.0, predicted_ms=2.5,
    latency_low_ms=2.0, latency_high_ms=3.5, measured_ms=3.0, measured_spread_ms=0.25, measured_error_ms=0.02,
    macs_m=39.0, params_m=0.2154, peak_memory_mb=1.25, cpu_s=12.3456,
)  # fmt: skip


def test_a_winner_has_equal_figures_in_every_table() -> None:
    winner = LabelledRecord(label="W1", row=ROW)
    known = {column.label: column.cell(ROW) for column in RECORD_COLUMNS}
    for column in select_winner_columns(None, "trial", "accuracy", "predicted_ms", "latency_interval_ms", "macs_m"):
        assert column.cell(winner) == known[column.label]
    pair = LatencyPair(
        name="W1", predicted_ms=2.5, measured_ms=3.0, low_ms=2.0, high_ms=3.5, spread_ms=0.25, error_ms=0.02
    )
    for agreement in AGREEMENT_COLUMNS[1:-1]:
        assert agreement.cell(pair) == known[agreement.label]
    assert known["accuracy, %"] == "98.77" and known["90% interval, ms"] == "2.00 to 3.50"


def test_a_reward_has_a_column_only_where_the_search_had_one() -> None:
    assert "reward" not in {column.name for column in (*candidate_columns(), *winner_columns())}
    assert [column.name for column in select_winner_columns(None, "name", "reward")] == ["name"]
    (reward,) = select(candidate_columns({7: 0.51234}), "reward")
    assert reward.cell(ROW) == "0.5123"
    _, of_winner = select_winner_columns({7: 0.51234}, "name", "reward")
    assert of_winner.cell(LabelledRecord(label="W1", row=ROW)) == "0.5123"
