"""Common report data of all study kinds, and their output files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nas.core.files import write_text_atomically
from nas.core.formatting import shown_path
from nas.data.dense.description import DenseDescription
from nas.data.description import DatasetDescription
from nas.reporting.search_columns import records_to_csv
from nas.study.trial_record import TrialRecord, outcome_counts_text


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyReport(ABC):
    """Common report data of a study.

    ``command`` resumes the study. ``facts``: (name, value) pairs. ``progress_text``: how many trials of an unfinished
    study have ended, such as ``3 of 12 trials``; empty for a finished one. ``dataset``: its images; None if it was
    begun by a version that did not store what they are.
    """

    title: str
    command: str
    facts: tuple[tuple[str, str], ...]
    rows: tuple[TrialRecord, ...]
    progress_text: str = ""
    dataset: DatasetDescription | DenseDescription | None = None

    @property
    def summary(self) -> str:
        """The results in one paragraph, which begins with what an unfinished study lacks."""
        return " ".join(filter(None, (self.unfinished, self.result)))

    @property
    def unfinished(self) -> str:
        """That the study is unfinished, in a sentence; empty for a finished one."""
        return f"Unfinished: {self.progress_text}." if self.progress_text else ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the result as a whole."""
        return ()

    @property
    def other_rows(self) -> tuple[TrialRecord, ...]:
        """Rows of ``trials.csv`` after those of the trials."""
        return ()

    @property
    @abstractmethod
    def result(self) -> str:
        """The results in one paragraph."""


def write_report(report: StudyReport, html: str, path: Path) -> Path:
    """Write the page to ``path`` and ``trials.csv`` beside it; return ``path``."""
    write_text_atomically(path.with_name("trials.csv"), records_to_csv([*report.rows, *report.other_rows]))
    write_text_atomically(path, html)
    return path


def closing_lines(rows: Sequence[TrialRecord], path: Path) -> list[str]:
    """Last lines that a command prints: trial counts and the report's path."""
    results = f"{outcome_counts_text(rows) or 'no trials'}; results in {shown_path(path.parent)}"
    return [results, f"open {shown_path(path)}"]
