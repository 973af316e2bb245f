"""Output of ``nas.compare``: terminal table, JSON, CSV, HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.core.files import write_text_atomically
from nas.reporting.columns import csv_text

if TYPE_CHECKING:
    from jinja2 import Template


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A comparison of several ``kind`` (networks or studies).

    ``records``: plain data of each, by names with units. ``columns``, ``rows``: the displayed table, the first column a
    name; narrow terminals omit ``dispensable`` columns, empty ones are omitted everywhere. ``remarks``: caveats of
    the comparison. ``shared``: plain data common to all. ``facts``: (name, value) pairs for the page.
    """

    kind: str
    records: Sequence[Mapping[str, Any]]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    dispensable: Sequence[str] = ()
    remarks: Sequence[str] = ()
    shared: Mapping[str, Any]
    facts: Sequence[tuple[str, str]] = ()

    def __post_init__(self) -> None:
        filled = [index for index, cells in enumerate(zip(*self.rows, strict=True)) if any(cells)]
        object.__setattr__(self, "columns", [self.columns[index] for index in filled])
        object.__setattr__(self, "rows", [[row[index] for index in filled] for row in self.rows])

    @property
    def title(self) -> str:
        """The title of the page."""
        return f"{len(self.records)} {self.kind} compared"

    @property
    def command(self) -> str:
        """Empty: a comparison has nothing to resume."""
        return ""

    def print(self) -> None:
        """Print the table and the remarks in the terminal."""
        from nas.core.tables import print_table

        print_table(self.columns, self.rows, self.remarks, dispensable=self.dispensable)

    def json(self) -> str:
        """All figures as JSON in one line."""
        return json.dumps({self.kind: list(self.records), **self.shared, "remarks": list(self.remarks)})

    def write_csv(self, path: Path) -> None:
        """Write all figures as CSV, one row per record. Raises: NasError.

        Lists become JSON in one cell.
        """
        cells = ({name: _cell(value) for name, value in record.items()} for record in self.records)
        write_text_atomically(path, csv_text(list(self.records[0]), cells))

    def write_html(self, path: Path) -> None:
        """Write a self-contained HTML page. Raises: NasError."""
        write_text_atomically(path, _template().render(data=self, summary=", ".join(row[0] for row in self.rows)))


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value


@cache
def _template() -> Template:
    from nas.reporting.html_page import template

    return template("nas.reporting", "compare.html", {})
