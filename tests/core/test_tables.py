"""Tables: dispensable columns omitted on narrow terminals, all of them when piped."""

from __future__ import annotations

import io
from functools import partial
from operator import itemgetter

import pytest
from rich.console import Console

from nas.core import tables
from nas.core.tables import print_table
from nas.reporting.columns import Column, print_columns

COLUMNS = ("layer", "kind", "acts", "ms")
ROWS = [("blocks.0.0.conv_dw", "depthwise 3x3", "1.5M", "0.25"), None, ("classifier", "linear", "1.0k", "0.5")]


def printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int, **options: bool
) -> list[str]:
    monkeypatch.setattr(tables, "Console", lambda: Console(width=width, color_system=None, **options))
    print_table(COLUMNS, ROWS, ["0.75 ms in total"], left=2, dispensable=("acts", "kind"))
    return capsys.readouterr().out.splitlines()


# 18, 13, 4 and 4 letters with two spaces between are 45, without "acts" 39, with neither 24.
@pytest.mark.parametrize(
    ("width", "omitted"), [(45, []), (44, ["acts"]), (39, ["acts"]), (38, ["acts", "kind"]), (20, ["acts", "kind"])]
)
def test_columns_omitted_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int, omitted: list[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    lines = printed(capsys, monkeypatch, width, force_terminal=True)
    assert lines[0].split() == [name for name in COLUMNS if name not in omitted]
    assert [line for line in lines if line.startswith("columns omitted")] == (
        [f"columns omitted, the terminal is too narrow: {', '.join(omitted)}"] if omitted else []
    )
    assert lines[-1] == "0.75 ms in total"
    if width > 20:
        assert any(line.startswith("blocks.0.0.conv_dw ") for line in lines)


def test_piped_tables_are_complete(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(capsys, monkeypatch, 20, force_terminal=False)
    assert lines[0].split() == list(COLUMNS)
    assert lines[2].split() == ["blocks.0.0.conv_dw", "depthwise", "3x3", "1.5M", "0.25"]


def words(text: str) -> set[str]:
    return {word.strip("│┃") for word in text.split()}


@pytest.mark.parametrize("width", [52, 60, 80])
def test_cells_of_several_words_take_several_lines_and_no_word_is_broken(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    column = partial(Column, align="left")
    columns = (
        column(name="verdict", heading="verdict", value=lambda row: row[0]),
        column(name="reason", heading="reason", value=lambda row: row[1]),
        column(name="label", heading="label", value=lambda row: row[2], wraps=False),
    )
    row = ("statistically indistinguishable", "macs grow x2.28 after rounding", "1.2/1.1 /1.15")
    print_columns(console, "a title that is longer than the table below it, and than the terminal", columns, [row])
    output = console.file.getvalue()
    _, *lines = output.splitlines()
    assert words(output) >= {word for cell in row for word in cell.split()}
    assert "1.2/1.1 /1.15" in output and "columns omitted" not in output
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize(("width", "omitted"), [(36, ""), (35, "x"), (32, "x"), (31, "x, memory")])
def test_columns_are_omitted_before_words_are_broken(width: int, omitted: str) -> None:
    """19, 6 and 1 letters, four borders and six spaces are 36; without the last column 32."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    row = {"distinguishability:": 7, "memory": 8, "x": 9}
    columns = [Column(name=name, heading=name, value=itemgetter(name)) for name in row]
    print_columns(console, "t", columns, [row], dispensable=("x", "memory"))
    output = console.file.getvalue()
    assert words(output) >= set(row) - set(omitted.split(", "))
    remarks = [line.partition(": ")[2] for line in output.splitlines() if "too narrow" in line]
    assert remarks == ([omitted] if omitted else [])
