"""Conclusion of a scaling study: family, tables, plots, report, terminal summary."""

from __future__ import annotations

import optuna
from rich.console import Console

from nas.core.console import print_lines
from nas.methods.scaling.config import ScalingPlan
from nas.methods.scaling.dashboard import write_scaling_notes
from nas.methods.scaling.family_files import write_members
from nas.methods.scaling.ranking.ranking import Ranking
from nas.methods.scaling.report_data import scaling_report, write_scaling_report
from nas.methods.scaling.report_page import ScalingReport
from nas.methods.scaling.session import ScalingSession
from nas.methods.scaling.terminal import family_lines, print_cells, print_ranks
from nas.reporting.study_report import closing_lines
from nas.study.manifest import REPORT_FILE


def conclude_scaling(session: ScalingSession, study: optuna.Study, console: Console) -> Ranking:
    """Write ranking, family, tables, plots and report of ``study``; print the result."""
    plan, context = session.plan, session.context(study)
    report = scaling_report(context, study)
    write_members(report.members, plan.folder, context.provenance(study.study_name))
    write_scaling_report(report, plan.folder)
    write_scaling_notes(context, study, report)
    if session.is_complete(study):
        session.evaluator.discard_checkpoints()
    _print_results(plan, report, console)
    return report.ranking


def _print_results(plan: ScalingPlan, report: ScalingReport, console: Console) -> None:
    if report.layout:
        print_cells(console, plan, report.layout)
    else:
        print_ranks(console, plan, report.ranking)
    closing = closing_lines(report.rows, plan.folder / REPORT_FILE)
    result = (*filter(None, (report.unfinished,)), *report.sentences, *report.ranking.step_sentences)
    print_lines(console, *result, *family_lines(plan, report.members), *closing)
