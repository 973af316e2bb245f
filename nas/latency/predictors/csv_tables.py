"""CSV files of latencies from elsewhere: device header, columns, rows.

Errors name file and line.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nas.arch.parts import MOBILENET_V3_SE, SqueezeExcite
from nas.core.errors import NasError, suggestion
from nas.latency.device import Device

SQUEEZE_EXCITES: Final = {"efficientnet": SqueezeExcite(), "mobilenet_v3": MOBILENET_V3_SE}
_REQUIRED: Final = ("device", "backend")
_DEFAULTS: Final = {"threads": "1", "batch": "1", "precision": "float32", "unit": "ms", "cores": "", "os": "elsewhere"}


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
        if not (text.isascii() and text.isdigit() and int(text) > 0):
            raise self.error(f"{column} {text!r}: must be a whole number of at least 1.")
        return int(text)

    def latency_ms(self) -> float:
        """Cell ``latency_ms``.

        Raises: CsvError if it is missing or not a positive number.
        """
        text = self.text("latency_ms")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value > 0):
            raise self.error(f"latency_ms {text!r}: must be a positive number of ms.")
        return value

    def squeeze_excite(self) -> SqueezeExcite:
        """Squeeze-excite convention of the row, EfficientNet's if the cell is empty.

        Raises: CsvError for an unknown convention.
        """
        name = self.text("squeeze_excite", "efficientnet")
        if name not in SQUEEZE_EXCITES:
            raise self.error(f"squeeze_excite {name!r}: must be {' or '.join(SQUEEZE_EXCITES)}.")
        return SQUEEZE_EXCITES[name]

    def error(self, text: str) -> CsvError:
        """Error that starts with file and line."""
        return CsvError(f"{self.path}, line {self.line}: {text}")


def read_csv(path: Path, *, required: Sequence[str], optional: Sequence[str]) -> tuple[Device, list[CsvRow]]:
    """Device and rows of a CSV file of latencies.

    The file starts with lines ``# name: value``: ``device`` and ``backend`` (``tflite 2.16``) are required; ``threads``
    and ``batch`` (1), ``precision`` (float32), ``unit`` (must be ms), ``cores`` and ``os`` have defaults. The line of
    column names follows, with all columns of ``required``, any of ``optional`` and no others, and then the rows. Empty
    lines and further lines that start with # are ignored.

    Raises: NasError naming file, line and mistake.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise NasError(f"cannot read {str(path)!r}: {reason}.") from None
    start = next((i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), len(lines))
    device = _device(path, lines[:start])
    if start == len(lines):
        raise NasError(f"{path}: contains no rows; add some with the columns {', '.join((*required, *optional))}.")
    columns = [name.strip() for name in next(csv.reader([lines[start]]))]
    _check_columns(path, start + 1, columns, required, optional)
    rows = [
        _row(path, number, columns, line)
        for number, line in enumerate(lines[start + 1 :], start=start + 2)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    return device, rows


def _device(path: Path, lines: Sequence[str]) -> Device:
    """Device of the header lines, those before the column names.

    Raises: NasError naming file, line and mistake.
    """
    known = (*_REQUIRED, *_DEFAULTS)
    header = dict(_DEFAULTS)
    for number, line in enumerate(lines, start=1):
        name, colon, value = line.lstrip("# \t").partition(":")
        name, value = name.strip(), value.strip()
        if not colon or " " in name:
            continue  # a comment
        if name not in known:
            raise NasError(f"{path}, line {number}: {_unknown('header', name, known)}")
        if name == "unit" and value != "ms":
            raise NasError(f"{path}, line {number}: unit {value!r}: latencies must be in ms; convert them.")
        header[name] = value
    for name in _REQUIRED:
        if not header.get(name):
            raise NasError(f"{path}: the line '# {name}: ...' is missing; add it before the line of column names.")
    counts = CsvRow(path=str(path), line=1, cells={name: value for name, value in header.items() if value})
    threads = counts.positive_int("threads")
    backend, _, version = header["backend"].partition(" ")
    return Device(
        processor=header["device"],
        cores=counts.positive_int("cores", threads),
        backend=backend,
        backend_version=version.strip(),
        threads=threads,
        batch=counts.positive_int("batch"),
        precision=header["precision"],
        os=header["os"],
    )


def _check_columns(path: Path, line: int, columns: list[str], required: Sequence[str], optional: Sequence[str]) -> None:
    known = (*required, *optional)
    for name in columns:
        if name not in known:
            raise NasError(f"{path}, line {line}: {_unknown('column', name, known)}")
        if columns.count(name) > 1:
            raise NasError(f"{path}, line {line}: column {name!r} is given twice; remove one.")
    for name in required:
        if name not in columns:
            raise NasError(f"{path}, line {line}: column {name!r} is missing; the columns are {', '.join(known)}.")


def _row(path: Path, line: int, columns: list[str], text: str) -> CsvRow:
    cells = [cell.strip() for cell in next(csv.reader([text]))]
    if len(cells) > len(columns):
        raise NasError(
            f"{path}, line {line}: {len(cells)} cells for {len(columns)} columns; quote cells that contain commas."
        )
    filled = {name: cell for name, cell in zip(columns, cells, strict=False) if cell}
    return CsvRow(path=str(path), line=line, cells=filled)


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    return f"unknown {what} {name!r}; allowed are {', '.join(known)}.{suggestion(name, known)}"
