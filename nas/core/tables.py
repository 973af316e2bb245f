"""Tables on the console: fitted to the terminal's width, complete when piped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from rich import box
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table

from nas.core.console import plain_text_of, print_lines

_UNBOUNDED: Final = 10_000

TableRow = Sequence[str] | None
TableMaker = Callable[[Sequence[str]], Table]  # from the names of omitted columns


def print_table(
    columns: Sequence[str],
    rows: Sequence[TableRow],
    remarks: Sequence[str],
    *,
    left: int = 1,
    dispensable: Sequence[str] = (),
    console: Console | None = None,
) -> None:
    """Print a table, then ``remarks``, one per line.

    ``columns``: headers. ``rows``: cells; None leaves a gap. The first ``left`` columns are left-aligned, the others
    right-aligned. ``dispensable``: columns that may be omitted, in this order, until the table fits the terminal; a
    remark names those omitted. ``console``: None is standard output.
    """
    console = console or Console()
    omitted = print_fitted(console, lambda omitted: _table(columns, rows, left, omitted), dispensable, wraps=False)
    print_lines(console, "", *omitted, *remarks)


def print_fitted(
    console: Console, make_table: TableMaker, dispensable: Sequence[str], *, wraps: bool = True
) -> list[str]:
    """Print the table of ``make_table``, as many columns as fit the terminal.

    No word is broken as long as there are ``dispensable`` columns to omit. ``wraps``: cells of several words may take
    several lines first. Returns a remark that names the omitted columns, or nothing.
    """
    width = available_width(console)
    omitted: list[str] = []
    for name in (*dispensable, ""):
        table = make_table(omitted)
        if fit_columns(console, table, width, wraps=wraps) or not name:
            break
        omitted.append(name)
    console.print(table)
    return [f"columns omitted, the terminal is too narrow: {', '.join(omitted)}"] if omitted else []


def available_width(console: Console) -> int:
    """Width that a table may take on ``console``.

    A console that is no terminal is widened.
    """
    if not console.is_terminal:
        console.width = _UNBOUNDED
    return console.width


def fit_columns(console: Console, table: Table, width: int, *, wraps: bool) -> bool:
    """Set the widths of the columns of ``table`` to ``width`` in all, no word broken.

    The widest column that holds several words becomes narrower first. Returns whether the table fits.
    """
    needs = [
        _need(console, [column.header, *column.cells], wraps=wraps and not column.no_wrap) for column in table.columns
    ]
    widths = [need.maximum for need in needs]
    options = console.options.update_width(_UNBOUNDED)
    excess = console.measure(table, options=options).maximum - width
    while excess > 0:
        room = [index for index, need in enumerate(needs) if widths[index] > need.minimum]
        if not room:
            return False
        widths[max(room, key=widths.__getitem__)] -= 1
        excess -= 1
    for column, chosen in zip(table.columns, widths, strict=True):
        column.width = chosen
    return True


def _need(console: Console, cells: Sequence[RenderableType], *, wraps: bool) -> Measurement:
    """Width of a column: of its longest word, and of its longest cell."""
    options = console.options.update_width(_UNBOUNDED)
    measured = [Measurement.get(console, options, cell) for cell in cells]
    most = max((one.maximum for one in measured), default=0)
    return Measurement(max((one.minimum for one in measured), default=0) if wraps else most, most)


def _table(columns: Sequence[str], rows: Sequence[TableRow], left: int, omitted: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    shown = [index for index, name in enumerate(columns) if name not in omitted]
    for index in shown:
        table.add_column(plain_text_of(columns[index]), justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        if row is None:
            table.add_section()
        else:
            table.add_row(*(plain_text_of(row[index]) for index in shown))
    return table
