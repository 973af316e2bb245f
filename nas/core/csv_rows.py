"""Rows of CSV files as spreadsheets save them; errors name file and line."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final, TypeVar

from nas.core.errors import NasError, suggestion
from nas.core.parsing import read_text
from nas.core.validation import MAX_DIGITS, is_whole_text

_DELIMITERS: Final = {";": "';'", "\t": "tabs"}  # those of spreadsheets that a comma is not
_EXCEL: Final = "sep="  # its own first line, which names the delimiter; "sep=," is read as this cell
_MAX_CHARACTERS: Final = 8_000_000
_MAX_ROWS: Final = 20_000  # a latency table of every block of a large space has some 10,000
_COMMA_NUMBER: Final = re.compile(r"[\d.]+(,\d+)+(\.\d+)?")
_NO_COMMAS: Final = "numbers take a decimal point, such as 1.5, and no thousands separators"
_MAX_CELL: Final = 40  # characters of a cell in a message


class CsvError(NasError):
    """Mistake in a CSV file; the message names file and line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvRow:
    """One row of a CSV file.

    ``path``, ``line``: its position, for errors. ``cells``: by column, without empty ones.
    """

    path: str
    line: int
    cells: dict[str, str]

    def text(self, column: str, default: str | None = None) -> str:
        """Cell of ``column``.

        Raises: CsvError if it is empty and there is no ``default``.
        """
        value = self.cells.get(column, default)
        if value is None:
            raise self.error(f"{column} is missing.")
        return value

    def positive_int(self, column: str, default: int | None = None) -> int:
        """Cell of ``column`` as a whole number of at least 1.

        Raises: CsvError for anything else, and if it is empty and there is no ``default``.
        """
        text = self.text(column, None if default is None else str(default))
        if text.isascii() and text.isdigit() and len(text) > MAX_DIGITS:
            raise self.cell_error(column, f"must have at most {MAX_DIGITS} digits")
        if not (is_whole_text(text) and int(text) > 0):
            raise self.cell_error(column, "must be a whole number of at least 1")
        return int(text)

    def number(self, column: str) -> float:
        """Cell of ``column`` as a number; NaN where it is none.

        Raises: CsvError if it is empty.
        """
        text = self.text(column)
        try:
            return float(text) if text.isascii() and "_" not in text else math.nan
        except ValueError:
            return math.nan

    def error(self, text: str) -> CsvError:
        """Error that starts with file and line."""
        return CsvError(f"{self.path}, line {self.line}: {text}")

    def cell_error(self, column: str, problem: str) -> CsvError:
        """Error that names ``column``, its cell and the ``problem``.

        With a remark where the cell is a number with commas.
        """
        text = self.text(column)
        hint = f"; {_NO_COMMAS}" if _COMMA_NUMBER.fullmatch(text) else ""
        return self.error(f"{column} {shortened_cell(text)!r}: {problem}{hint}.")


Row = TypeVar("Row", bound=CsvRow)


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvRecord:
    """One record of a CSV file: the line that it starts in, and its cells.

    Cells are without blanks around them, and without the empty ones at the end that spreadsheets add. A line that
    starts with # is one cell. ``width``: the number of cells, with the empty ones at the end.
    """

    line: int
    cells: tuple[str, ...]
    width: int

    @property
    def is_comment(self) -> bool:
        return self.cells[0].startswith("#")


def read_csv_records(path: Path, *, max_characters: int = _MAX_CHARACTERS) -> list[CsvRecord]:
    """Records of the CSV file at ``path`` that are not empty, comments included.

    The file is in UTF-8. Lines of empty cells are left out, as is Excel's own first line ``sep=,``.

    Raises: NasError naming file, line and mistake.
    """
    records = list(_records(path, _text(path, max_characters)))
    return records[1:] if records and records[0].cells == (_EXCEL,) else records


def parse_csv_rows(
    path: Path,
    records: Sequence[CsvRecord],
    kind: type[Row],
    *,
    required: Sequence[str],
    optional: Sequence[str],
    others: bool = False,
    number: str = "",
    max_rows: int = _MAX_ROWS,
) -> list[Row]:
    """Rows of ``records``, the first of which has the names of the columns.

    There must be all columns of ``required``; any of ``optional`` may be there, and with ``others`` further ones,
    unless their name is like one that is absent. Comments are left out. ``number``: a column that may have been written
    with a decimal comma, for the error about too many cells.

    Raises: NasError naming file, line and mistake.
    """
    if not records:
        raise NasError(f"{path}: contains no rows; add some with the columns {', '.join((*required, *optional))}.")
    names = records[0]
    check_delimiter(path, names, (*required, *optional))
    _check_columns(path, names, required, optional, others)
    if len(records) > max_rows:
        raise NasError(f"{path}: has more than {max_rows:,} rows, the most that such a file may have.")
    return [_row(path, names, record, kind, number) for record in records[1:] if not record.is_comment]


def check_delimiter(path: Path, record: CsvRecord, known: Sequence[str]) -> None:
    """Refuse a line of column names that another delimiter than the comma separates.

    Raises: NasError naming the delimiter.
    """
    text, known = ",".join(record.cells), (*known, _EXCEL)
    for delimiter, name in _DELIMITERS.items():
        if delimiter in text and any(part.strip(" \"'") in known for part in text.split(delimiter)):
            raise NasError(f"{path}, line {record.line}: the columns are separated by {name}; {_expected()}")


def shortened_cell(text: str) -> str:
    """``text`` of a cell as messages show it."""
    return text if len(text) <= _MAX_CELL else f"{text[:_MAX_CELL]}..."


def unknown_name(what: str, name: str, known: Sequence[str]) -> str:
    """Message about a ``name`` in a CSV file that is not among the ``known`` ones."""
    return f"unknown {what} {shortened_cell(name)!r}; allowed are {', '.join(known)}.{suggestion(name, known)}"


def _text(path: Path, max_characters: int) -> str:
    """Text of the file. Raises: NasError if it cannot be read."""
    try:
        return read_text(path, max_characters=max_characters, encoding="utf-8-sig")
    except OSError as error:
        raise NasError(f"cannot read {str(path)!r}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise NasError(
            f"cannot read {str(path)!r}: not a text file in UTF-8; save it as CSV with that encoding."
        ) from None


def _records(path: Path, text: str) -> Iterator[CsvRecord]:
    """Records of ``text`` that are not empty.

    A line that starts with # is a record by itself, whatever quotes are in it.

    Raises: NasError naming file, line and mistake.
    """
    lines = io.StringIO(text)
    number = 1
    for line in lines:
        comment = line.lstrip().startswith("#")
        reader = csv.reader([line] if comment else chain([line], lines), strict=not comment)
        try:
            cells = next(reader)
        except csv.Error as error:
            reason = "a quote is not closed" if "end of data" in str(error) else str(error)
            raise NasError(
                f"{path}, line {number}: cannot be read as comma-separated cells: {reason}; "
                'enclose cells with commas in double quotes, and write a quote in them as "".'
            ) from None
        width = len(cells)
        while cells and not cells[-1].strip():
            cells.pop()
        if cells:
            if cells[0].lstrip().startswith("#"):
                cells = [",".join(cells)]  # commas of a line that is not quoted belong to its text
            yield CsvRecord(line=number, cells=tuple(cell.strip() for cell in cells), width=width)
        number += reader.line_num


def _expected() -> str:
    return f"save the table as CSV with commas as delimiters; {_NO_COMMAS}."


def _check_columns(
    path: Path, record: CsvRecord, required: Sequence[str], optional: Sequence[str], others: bool
) -> None:
    columns, known = record.cells, (*required, *optional)
    where = f"{path}, line {record.line}"
    absent = [name for name in known if name not in columns]
    for position, name in enumerate(columns, start=1):
        if not name:
            raise NasError(f"{where}: column {position} has no name; name it or remove it.")
        if name not in known and (not others or suggestion(name, absent)):
            raise NasError(f"{where}: {unknown_name('column', name, known)}")
        if columns.count(name) > 1:
            raise NasError(f"{where}: column {name!r} is given twice; remove one.")
    for name in required:
        if name not in columns:
            raise NasError(f"{where}: column {name!r} is missing; the columns are {', '.join(known)}.")


def _row(path: Path, names: CsvRecord, record: CsvRecord, kind: type[Row], number: str) -> Row:
    """Row of a record. Raises: CsvError if its cells do not fit the column ``names``."""
    columns = names.cells
    row = kind(
        path=str(path),
        line=record.line,
        cells={name: cell for name, cell in zip(columns, record.cells, strict=False) if cell},
    )
    count = len(record.cells)
    for delimiter, name in _DELIMITERS.items():
        if count == 1 < len(columns) and delimiter in record.cells[0]:
            raise row.error(f"the cells are separated by {name}; {_expected()}")
    if record.width > names.width and number in columns:
        index = columns.index(number)
        parts = record.cells[index : index + 2]
        if len(parts) == 2 and all(part.isdigit() for part in parts):
            text = f"{record.width} cells for {len(columns)} columns: if {number} is {','.join(parts)}, {_NO_COMMAS}."
            raise row.error(text)
    if count > len(columns):
        raise row.error(f"{count} cells for {len(columns)} columns; quote cells that contain commas.")
    return row
