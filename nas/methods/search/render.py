"""Render a search's table, plot and report from its folder and trials.

Works for running and finished studies; loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna

from nas.methods.search.config import SearchPlan
from nas.methods.search.context import SearchContext, search_context
from nas.methods.search.dashboard import write_search_notes
from nas.methods.search.report_data import existing_winners, search_report, write_search_report
from nas.reporting.dashboard.board import ARTIFACTS
from nas.reporting.search_report import SearchReport
from nas.study.manifest import StudyManifest
from nas.study.objective import choose_winners


def render_search(plan: SearchPlan, manifest: StudyManifest, study: optuna.Study) -> Path:
    """Write table, plot and report of ``study`` as of now; the report's path.

    Nothing is trained, measured or written into the study, and no images are loaded. Raises: NasError.
    """
    return write_search_report(_current_report(search_context(plan, manifest), study), plan.folder)


def refresh_search_notes(
    plan: SearchPlan, manifest: StudyManifest, study: optuna.Study, on_note: Callable[[], object]
) -> None:
    """Render the search, and update what the dashboard shows of ``study``.

    ``on_note``: see ``StudyKind.refresh_notes``. Raises: NasError.
    """
    context = search_context(plan, manifest)
    report = _current_report(context, study)
    write_search_report(report, plan.folder)
    facts, artifacts = context.images.input_facts, plan.runs_dir / ARTIFACTS
    write_search_notes(study, report, context.pricer, plan.folder, artifacts, facts, on_note=on_note)


def _current_report(context: SearchContext, study: optuna.Study) -> SearchReport:
    plan, rows = context.plan, context.records(study)
    winners = existing_winners(choose_winners(rows, plan.objective), plan.folder / "winners", context)
    return search_report(context, study, rows, winners)
