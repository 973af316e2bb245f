"""CSV files of latencies from elsewhere: device header, columns, rows.

Errors name file and line.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from nas.arch.parts import MOBILENET_V3_SE, SqueezeExcite
from nas.core.errors import NasError, suggestion
from nas.core.parsing import read_text
from nas.core.validation import MAX_DIGITS, is_whole_text
from nas.latency.device import MAX_MS, MIN_MS, Device

SQUEEZE_EXCITES: Final = {"efficientnet": SqueezeExcite(), "mobilenet_v3": MOBILENET_V3_SE}
_REQUIRED: Final = ("device", "backend")
_DEFAULTS: Final = {"threads": "1", "batch": "1", "precision": "float32", "unit": "ms", "cores": "", "os": "elsewhere"}
_DELIMITERS: Final = {";": "';'", "\t": "tabs"}  # those of spreadsheets that a comma is not
_MAX_CHARACTERS: Final = 8_000_000
_MAX_ROWS: Final = 20_000  # a table of every block of a large space has some 10,000
_COMMA_NUMBER: Final = re.compile(r"[\d.]+(,\d+)+(\.\d+)?")
_NO_COMMAS: Final = "numbers take a decimal point, such as 1.5, and no thousands separators"


class CsvError(NasError):
    """Mistake in a CSV file of latencies; the message names file and line."""


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
            raise self.error(f"{column} {_shortened(text)!r}: must have at most {MAX_DIGITS} digits.")
        if not (is_whole_text(text) and int(text) > 0):
            raise self.error(f"{column} {_shortened(text)!r}: must be a whole number of at least 1{_comma_hint(text)}.")
        return int(text)

    def latency_ms(self) -> float:
        """Cell ``latency_ms``.

        Raises: CsvError if it is missing or not a positive number.
        """
        text = self.text("latency_ms")
        try:
            value = float(text) if text.isascii() and "_" not in text else math.nan
        except ValueError:
            value = math.nan
        if value > MAX_MS or 0 < value < MIN_MS:
            raise self.error(f"latency_ms {_shortened(text)!r}: must be at least {MIN_MS:g} and at most {MAX_MS:g} ms.")
        if not value > 0:
            hint = _comma_hint(text)
            raise self.error(f"latency_ms {_shortened(text)!r}: must be a positive number of ms{hint}.")
        return value

    def squeeze_excite(self) -> SqueezeExcite:
        """Squeeze-excite convention of the row, EfficientNet's if the cell is empty.

        Raises: CsvError for an unknown convention.
        """
        name = self.text("squeeze_excite", "efficientnet")
        if name not in SQUEEZE_EXCITES:
            raise self.error(f"squeeze_excite {_shortened(name)!r}: must be {' or '.join(SQUEEZE_EXCITES)}.")
        return SQUEEZE_EXCITES[name]

    def error(self, text: str) -> CsvError:
        """Error that starts with file and line."""
        return CsvError(f"{self.path}, line {self.line}: {text}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """One record of a CSV file: the line that it starts in, and its cells.

    Cells are without blanks around them, and without the empty ones at the end that spreadsheets add. A line that
    starts with # is one cell.
    """

    line: int
    cells: tuple[str, ...]
    width: int  # number of cells, with the empty ones at the end

    @property
    def is_comment(self) -> bool:
        return self.cells[0].startswith("#")


def read_csv(path: Path, *, required: Sequence[str], optional: Sequence[str]) -> tuple[Device, list[CsvRow]]:
    """Device and rows of a CSV file of latencies.

    The file starts with lines ``# name: value``: ``device`` and ``backend`` (``tflite 2.16``) are required; ``threads``
    and ``batch`` (1), ``precision`` (float32), ``unit`` (must be ms), ``cores`` and ``os`` have defaults. The line of
    column names follows, with all columns of ``required``, any of ``optional`` and no others, and then the rows. Empty
    lines and further lines that start with # are ignored.

    All of it may come from a spreadsheet: header lines may be quoted, empty cells at the end of any line and lines of
    empty cells are ignored. The delimiter is a comma, decimals have a point.

    Raises: NasError naming file, line and mistake.
    """
    records = list(_records(path, _text(path)))
    if records and records[0].cells == ("sep=",):  # Excel's own line for "sep=,"
        del records[0]
    start = next((i for i, record in enumerate(records) if not record.is_comment), len(records))
    if start < len(records):
        _check_delimiter(path, records[start], (*required, *optional, "sep="))
    device = _device(path, records[:start])
    if start == len(records):
        raise NasError(f"{path}: contains no rows; add some with the columns {', '.join((*required, *optional))}.")
    names = records[start]
    columns = list(names.cells)
    _check_columns(path, names.line, columns, required, optional)
    if len(records) - start > _MAX_ROWS:
        raise NasError(f"{path}: has more than {_MAX_ROWS:,} rows, the most that such a file may have.")
    rows = [_row(path, names, record) for record in records[start + 1 :] if not record.is_comment]
    return device, rows


def _text(path: Path) -> str:
    """Text of the file. Raises: NasError if it cannot be read."""
    try:
        return read_text(path, max_characters=_MAX_CHARACTERS, encoding="utf-8-sig")
    except OSError as error:
        raise NasError(f"cannot read {str(path)!r}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise NasError(
            f"cannot read {str(path)!r}: not a text file in UTF-8; save it as CSV with that encoding."
        ) from None


def _records(path: Path, text: str) -> Iterator[_Record]:
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
            yield _Record(line=number, cells=tuple(cell.strip() for cell in cells), width=width)
        number += reader.line_num


def _check_delimiter(path: Path, record: _Record, known: Sequence[str]) -> None:
    """Refuse a line of column names that another delimiter than the comma separates.

    Raises: NasError naming the delimiter.
    """
    text = ",".join(record.cells)
    for delimiter, name in _DELIMITERS.items():
        if delimiter in text and any(part.strip(" \"'") in known for part in text.split(delimiter)):
            raise NasError(f"{path}, line {record.line}: the columns are separated by {name}; {_expected()}")


def _expected() -> str:
    return f"save the table as CSV with commas as delimiters; {_NO_COMMAS}."


def _device(path: Path, records: Sequence[_Record]) -> Device:
    """Device of the header lines, those before the column names.

    Raises: NasError naming file, line and mistake.
    """
    known = (*_REQUIRED, *_DEFAULTS)
    header = dict(_DEFAULTS)
    lines = dict.fromkeys(known, 1)
    for record in records:
        name, colon, value = record.cells[0].lstrip("# \t").partition(":")
        name, value = name.strip(), value.strip(", \t")  # commas: the value in a cell of its own
        if not colon or " " in name:
            continue  # a comment
        if name not in known:
            raise NasError(f"{path}, line {record.line}: {_unknown('header', name, known)}")
        if name == "unit" and value != "ms":
            raise NasError(
                f"{path}, line {record.line}: unit {_shortened(value)!r}: latencies must be in ms; convert them."
            )
        header[name], lines[name] = value, record.line
    for name in _REQUIRED:
        if not header.get(name):
            raise NasError(f"{path}: the line '# {name}: ...' is missing; add it before the line of column names.")

    def count(name: str, default: int | None = None) -> int:
        cells = {name: header[name]} if header[name] else {}
        return CsvRow(path=str(path), line=lines[name], cells=cells).positive_int(name, default)

    threads = count("threads")
    backend, _, version = header["backend"].partition(" ")
    return Device(
        processor=header["device"],
        cores=count("cores", threads),
        backend=backend,
        backend_version=version.strip(),
        threads=threads,
        batch=count("batch"),
        precision=header["precision"],
        os=header["os"],
    )


def _check_columns(path: Path, line: int, columns: list[str], required: Sequence[str], optional: Sequence[str]) -> None:
    known = (*required, *optional)
    for position, name in enumerate(columns, start=1):
        if not name:
            raise NasError(f"{path}, line {line}: column {position} has no name; name it or remove it.")
        if name not in known:
            raise NasError(f"{path}, line {line}: {_unknown('column', name, known)}")
        if columns.count(name) > 1:
            raise NasError(f"{path}, line {line}: column {name!r} is given twice; remove one.")
    for name in required:
        if name not in columns:
            raise NasError(f"{path}, line {line}: column {name!r} is missing; the columns are {', '.join(known)}.")


def _row(path: Path, names: _Record, record: _Record) -> CsvRow:
    """Row of a record. Raises: CsvError if its cells do not fit the column ``names``."""
    columns = names.cells
    row = CsvRow(
        path=str(path),
        line=record.line,
        cells={name: cell for name, cell in zip(columns, record.cells, strict=False) if cell},
    )
    count = len(record.cells)
    for delimiter, name in _DELIMITERS.items():
        if count == 1 < len(columns) and delimiter in record.cells[0]:
            raise row.error(f"the cells are separated by {name}; {_expected()}")
    if record.width > names.width and "latency_ms" in columns:
        index = columns.index("latency_ms")
        parts = record.cells[index : index + 2]
        if len(parts) == 2 and all(part.isdigit() for part in parts):
            text = f"{record.width} cells for {len(columns)} columns: if latency_ms is {','.join(parts)}, {_NO_COMMAS}."
            raise row.error(text)
    if count > len(columns):
        raise row.error(f"{count} cells for {len(columns)} columns; quote cells that contain commas.")
    return row


def _comma_hint(text: str) -> str:
    return f"; {_NO_COMMAS}" if _COMMA_NUMBER.fullmatch(text) else ""


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}..."


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    return f"unknown {what} {_shortened(name)!r}; allowed are {', '.join(known)}.{suggestion(name, known)}"
