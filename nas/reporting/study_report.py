"""What the reports of studies of all methods have: facts, files, and where the results are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna

from nas.core.files import write_text_atomically
from nas.core.formatting import shown_path
from nas.latency.predictors.base import error_text
from nas.reporting.search_columns import records_to_csv
from nas.study.catalog import trial_times
from nas.study.context import StudyContext
from nas.study.manifest import REPORT_FILE
from nas.study.storage.urls import mask_credentials
from nas.study.trial_record import TrialRecord, outcome_counts_text

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyReport(ABC):
    """What the report of every study says. ``command`` resumes it. ``facts``: pairs of name and value."""

    title: str
    command: str
    facts: Facts
    rows: tuple[TrialRecord, ...]

    @property
    @abstractmethod
    def summary(self) -> str:
        """The results in one paragraph."""


def write_report(report: StudyReport, page: str, folder: Path) -> Path:
    """Write ``trials.csv`` and the ``page`` of ``report`` into ``folder``; the path of the page."""
    write_text_atomically(folder / "trials.csv", records_to_csv(report.rows))
    write_text_atomically(folder / REPORT_FILE, page)
    return folder / REPORT_FILE


def closing_lines(rows: Sequence[TrialRecord], folder: Path) -> list[str]:
    """What a command says last: what became of the trials, and where the results and their page are."""
    return [
        f"{outcome_counts_text(rows) or 'no trials'}; results in {shown_path(folder)}",
        f"open {shown_path(folder / REPORT_FILE)}",
    ]


def data_fact(context: StudyContext) -> tuple[str, str]:
    """The images of a study."""
    return "data", f"{context.plan.data.name}: {context.images}"


def training_fact(context: StudyContext) -> tuple[str, str]:
    """How its proxies are trained."""
    proxy = context.plan.proxy
    return "training", f"epochs {proxy.epochs}, {proxy.optimizer}, batch {proxy.batch_size}"


def run_facts(context: StudyContext, study: optuna.Study) -> Facts:
    """What every report says last: how ``study`` was run, on what, and where it is stored."""
    plan, predictor = context.plan, context.predictor
    return (
        ("engine", str(plan.engine)),
        ("seeds", f"study {plan.study.seed}, data {plan.data.seed}, latency {plan.latency.seed}"),
        ("device", str(predictor.device)),
        ("latency predictor", error_text(predictor)),
        ("last change", _last_change(study)),
        ("storage", mask_credentials(plan.storage_url)),
        ("versions", ", ".join(f"{name} {number}" for name, number in context.versions.items())),
    )


def _last_change(study: optuna.Study) -> str:
    """When the newest trial of ``study`` began or ended, to the minute, by the clock of the machine that ran it."""
    found = trial_times(study.get_trials(deepcopy=False))
    return f"{max(found):%Y-%m-%d %H:%M}" if found else ""
