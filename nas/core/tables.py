"""Tables on the console: fitted to the terminal's width, complete when piped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

from nas.core.console import print_lines

_PIPED_WIDTH: Final = 160
_UNBOUNDED: Final = 10_000

TableRow = Sequence[str] | None


def print_table(
    columns: Sequence[str],
    rows: Sequence[TableRow],
    remarks: Sequence[str],
    *,
    left: int = 1,
    dispensable: Sequence[str] = (),
) -> None:
    """Print a table, then ``remarks``, one per line.

    ``columns``: headers. ``rows``: cells; None leaves a gap. The first ``left`` columns are left-aligned, the others
    right-aligned. ``dispensable``: columns that may be omitted, in this order, until the table fits the terminal; a
    remark names those omitted.
    """
    console = Console()
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    omitted: list[str] = []
    for name in (*dispensable, ""):
        table = _table(columns, rows, left, omitted)
        required_width = console.measure(table, options=console.options.update_width(_UNBOUNDED)).maximum
        if required_width <= console.width or not name:
            break
        omitted.append(name)
    console.print(table)
    console.print()
    if omitted:
        remarks = (f"columns omitted, the terminal is too narrow: {', '.join(omitted)}", *remarks)
    print_lines(console, *remarks)


def _table(columns: Sequence[str], rows: Sequence[TableRow], left: int, omitted: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    shown = [index for index, name in enumerate(columns) if name not in omitted]
    for index in shown:
        table.add_column(columns[index], justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        if row is None:
            table.add_section()
        else:
            table.add_row(*(row[index] for index in shown))
    return table
