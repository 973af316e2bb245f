"""CSV files of latencies from elsewhere: device header, columns, rows.

Errors name file and line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nas.arch.parts import MOBILENET_V3_SE, SqueezeExcite
from nas.core.csv_rows import (
    CsvRecord,
    CsvRow,
    check_delimiter,
    parse_csv_rows,
    read_csv_records,
    shortened_cell,
    unknown_name,
)
from nas.core.errors import NasError
from nas.latency.device import MAX_MS, MIN_MS, Device

SQUEEZE_EXCITES: Final = {"efficientnet": SqueezeExcite(), "mobilenet_v3": MOBILENET_V3_SE}
_REQUIRED: Final = ("device", "backend")
_DEFAULTS: Final = {"threads": "1", "batch": "1", "precision": "float32", "unit": "ms", "cores": "", "os": "elsewhere"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyRow(CsvRow):
    """One row of a CSV file of latencies."""

    def latency_ms(self) -> float:
        """Cell ``latency_ms``.

        Raises: CsvError if it is missing or not a positive number.
        """
        value = self.number("latency_ms")
        if value > MAX_MS or 0 < value < MIN_MS:
            raise self.cell_error("latency_ms", f"must be at least {MIN_MS:g} and at most {MAX_MS:g} ms")
        if not value > 0:
            raise self.cell_error("latency_ms", "must be a positive number of ms")
        return value

    def squeeze_excite(self) -> SqueezeExcite:
        """Squeeze-excite convention of the row, EfficientNet's if the cell is empty.

        Raises: CsvError for an unknown convention.
        """
        name = self.text("squeeze_excite", "efficientnet")
        if name not in SQUEEZE_EXCITES:
            raise self.cell_error("squeeze_excite", f"must be {' or '.join(SQUEEZE_EXCITES)}")
        return SQUEEZE_EXCITES[name]


def read_csv(path: Path, *, required: Sequence[str], optional: Sequence[str]) -> tuple[Device, list[LatencyRow]]:
    """Device and rows of a CSV file of latencies.

    The file starts with lines ``# name: value``: ``device`` and ``backend`` (``tflite 2.16``) are required; ``threads``
    and ``batch`` (1), ``precision`` (float32), ``unit`` (must be ms), ``cores`` and ``os`` have defaults. The line of
    column names follows, with all columns of ``required``, any of ``optional`` and no others, and then the rows. Empty
    lines and further lines that start with # are ignored.

    All of it may come from a spreadsheet: header lines may be quoted, empty cells at the end of any line and lines of
    empty cells are ignored. The delimiter is a comma, decimals have a point.

    Raises: NasError naming file, line and mistake.
    """
    records = read_csv_records(path)
    start = next((i for i, record in enumerate(records) if not record.is_comment), len(records))
    if start < len(records):  # before the header, which a wrong delimiter spoils as well
        check_delimiter(path, records[start], (*required, *optional))
    device = _device(path, records[:start])
    rows = parse_csv_rows(path, records[start:], LatencyRow, required=required, optional=optional, number="latency_ms")
    return device, rows


def _device(path: Path, records: Sequence[CsvRecord]) -> Device:
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
            raise NasError(f"{path}, line {record.line}: {unknown_name('header', name, known)}")
        if name == "unit" and value != "ms":
            raise NasError(
                f"{path}, line {record.line}: unit {shortened_cell(value)!r}: latencies must be in ms; convert them."
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
