"""What the reports of studies of all methods have, and the files and lines that every study ends with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nas.core.files import write_text_atomically
from nas.core.formatting import shown_path
from nas.reporting.search_columns import records_to_csv
from nas.study.trial_record import TrialRecord, outcome_counts_text


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyReport(ABC):
    """What the report of every study says. ``command`` resumes it. ``facts``: pairs of name and value."""

    title: str
    command: str
    facts: tuple[tuple[str, str], ...]
    rows: tuple[TrialRecord, ...]

    @property
    @abstractmethod
    def summary(self) -> str:
        """The results in one paragraph."""


def write_report(report: StudyReport, html: str, path: Path) -> Path:
    """Write the page of ``report`` to ``path``, which is returned, and ``trials.csv`` beside it."""
    write_text_atomically(path.with_name("trials.csv"), records_to_csv(report.rows))
    write_text_atomically(path, html)
    return path


def closing_lines(rows: Sequence[TrialRecord], path: Path) -> list[str]:
    """What a command says last: what became of the trials, and where the results and their page ``path`` are."""
    results = f"{outcome_counts_text(rows) or 'no trials'}; results in {shown_path(path.parent)}"
    return [results, f"open {shown_path(path)}"]
