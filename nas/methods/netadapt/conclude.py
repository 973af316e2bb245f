"""Conclusion of an adaptation: measured latency, files, tables, report, terminal."""

from __future__ import annotations

from typing import Final

import optuna
from rich.console import Console

from nas.core.console import print_lines
from nas.core.formatting import shown_path
from nas.methods.netadapt.dashboard import write_netadapt_notes
from nas.methods.netadapt.report_data import ADAPTED_FILE, netadapt_report, write_netadapt_report
from nas.methods.netadapt.results.adapted_files import write_adapted
from nas.methods.netadapt.results.closing_checks import compare_ends, measure_ends
from nas.methods.netadapt.results.columns import step_columns
from nas.methods.netadapt.results.report_page import NetAdaptReport
from nas.methods.netadapt.results.steps import kept_rows
from nas.methods.netadapt.session import NetAdaptSession
from nas.reporting.columns import print_columns, select
from nas.reporting.study_report import closing_lines
from nas.study.manifest import REPORT_FILE

_SHOWN: Final = ("step", "short_change", "accuracy_with_error", "loss_after", "share", "latency_ms", "macs_m")
_DISPENSABLE: Final = ("loss_after", "macs_m")


def conclude_netadapt(session: NetAdaptSession, study: optuna.Study, console: Console) -> None:
    """Measure the result, write it with tables, plots and report, and print it.

    An adaptation that is not at its end is not measured yet.
    """
    context, is_complete = session.context, session.is_complete(study)
    kept = kept_rows(study, context.records(study))
    if is_complete:
        measure_ends(session, study, kept[0], kept[-1], console)
        compare_ends(session, study, kept[0], kept[-1], console)
        session.evaluator.discard_checkpoints()
    if len(kept) > 1:
        write_adapted(context, study, kept_rows(study, context.records(study)))  # with what was measured now
    report = netadapt_report(context, study)
    write_netadapt_report(report, session.plan.folder)
    write_netadapt_notes(context, study, report)
    _print_results(session, report, console)


def _print_results(session: NetAdaptSession, report: NetAdaptReport, console: Console) -> None:
    folder = session.plan.folder
    if report.steps:
        columns = select(step_columns(), *_SHOWN)
        print_columns(console, f"steps of {session.plan.name}", columns, report.steps, dispensable=_DISPENSABLE)
    print_lines(console, report.summary, *report.warnings)
    if report.files:
        adapted = shown_path(folder / ADAPTED_FILE)
        print_lines(console, f"network of the last step: {adapted}.yaml and its weights {ADAPTED_FILE}.safetensors")
    print_lines(console, *closing_lines(report.rows, folder / REPORT_FILE))
