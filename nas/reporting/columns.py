"""Table columns, defined once for terminal, CSV, JSON, pages and dashboards."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar

from nas.core.errors import NasError
from nas.core.formatting import decimal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Row = TypeVar("Row")
Whole = TypeVar("Whole")
_SHORTEST_WORD: Final = 3  # shorter ones are symbols and units: p, ms, px


def plain_text(value: object) -> str:
    """``value`` as text; empty for None."""
    return "" if value is None else str(value)


def percent_number(value: float | None) -> str:
    """A fraction in percent, as a number without a unit."""
    return decimal(None if value is None else 100 * value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column(Generic[Row]):
    """One column of a table.

    ``name``: its key in CSV and JSON. ``value``: extracts a row's plain data for these. ``heading``: the displayed name
    in lower case, without the ``unit``; ``note``: its meaning, for pages. ``text``: formats a value for display.
    ``wraps``: a narrow terminal may break its cells into several lines.
    """

    name: str
    heading: str
    value: Callable[[Row], Any]
    unit: str = ""
    note: str = ""
    text: Callable[[Any], str] = plain_text
    align: Literal["left", "right"] = "right"
    wraps: bool = True

    @property
    def label(self) -> str:
        """Heading and unit in one line."""
        return f"{self.heading}, {self.unit}" if self.unit else self.heading

    @property
    def title(self) -> str:
        """The label in sentence case, as pages show it; symbols stay as they are."""
        word = self.label.partition(" ")[0].rstrip(",")
        is_word = len(word) >= _SHORTEST_WORD and word.isalpha() and word.islower()
        return self.label[:1].upper() + self.label[1:] if is_word else self.label

    def cell(self, row: Row) -> str:
        """The displayed text for ``row``."""
        return self.text(self.value(row))

    def of(self, part: Callable[[Whole], Row]) -> Column[Whole]:
        """This column for a table whose rows contain a row of this one, as ``part``."""
        return replace(self, value=lambda whole: self.value(part(whole)))  # type: ignore[arg-type,return-value]


def select(columns: Iterable[Column[Row]], *names: str) -> tuple[Column[Row], ...]:
    """The columns called ``names``, in that order.

    Raises: NasError for an unknown name.
    """
    known = {column.name: column for column in columns}
    for name in names:
        if name not in known:
            raise NasError(f"column {name!r}: not in this table; choose from {', '.join(known)}.")
    return tuple(known[name] for name in names)


def plain_record(columns: Iterable[Column[Row]], row: Row) -> dict[str, Any]:
    """A row as plain data by the names of ``columns``."""
    return {column.name: column.value(row) for column in columns}


def print_columns(
    console: Console,
    title: str,
    columns: Sequence[Column[Row]],
    rows: Iterable[Row],
    *,
    dispensable: Sequence[str] = (),
) -> None:
    """Print ``title`` and a table of ``rows``, with units below headings.

    ``dispensable``: names of columns that a narrow terminal may omit, in this order.
    """
    from nas.core.console import print_lines
    from nas.core.tables import print_fitted

    listed = list(rows)
    labels = [column.label for name in dispensable for column in columns if column.name == name]
    print_lines(console, title)
    print_lines(console, *print_fitted(console, partial(_boxed_table, columns, listed), labels))


def _boxed_table(columns: Sequence[Column[Row]], rows: Sequence[Row], omitted: Sequence[str]) -> Table:
    from rich.table import Table

    from nas.core.console import plain_text_of

    shown, table = [column for column in columns if column.label not in omitted], Table()
    for column in shown:
        heading = plain_text_of(column.heading)
        if column.unit:
            heading.append("\n").append_text(plain_text_of(column.unit))
        table.add_column(heading, justify=column.align, overflow="fold", no_wrap=not column.wraps)
    for row in rows:
        table.add_row(*(plain_text_of(column.cell(row)) for column in shown))
    return table


def csv_text(names: Sequence[str], records: Iterable[Mapping[str, object]]) -> str:
    """CSV text: a header of ``names``, then one row per record.

    Missing values are empty cells.
    """
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return stream.getvalue()


def csv_table(columns: Sequence[Column[Row]], rows: Iterable[Row]) -> str:
    """``rows`` as CSV: their plain data by the names of ``columns``."""
    return csv_text([column.name for column in columns], (plain_record(columns, row) for row in rows))
