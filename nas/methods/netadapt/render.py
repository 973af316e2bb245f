"""Render an adaptation's tables, plots and report from its folder and trials.

Works for running and finished studies; loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna

from nas.methods.netadapt.config import NetAdaptPlan
from nas.methods.netadapt.context import netadapt_context
from nas.methods.netadapt.dashboard import write_netadapt_notes
from nas.methods.netadapt.report_data import netadapt_report, write_netadapt_report
from nas.study.manifest import StudyManifest


def render_netadapt(plan: NetAdaptPlan, manifest: StudyManifest, study: optuna.Study) -> Path:
    """Write tables, plots and report of ``study`` as of now; the report's path.

    Nothing is trained, measured or written into the study, no images are loaded, and the adapted network is written
    only when the study is concluded. Raises: NasError.
    """
    return write_netadapt_report(netadapt_report(netadapt_context(plan, manifest), study), plan.folder)


def refresh_netadapt_notes(
    plan: NetAdaptPlan, manifest: StudyManifest, study: optuna.Study, on_note: Callable[[], object]
) -> None:
    """Render the study, and update what the dashboard shows of ``study``.

    ``on_note``: see ``StudyKind.refresh_notes``. Raises: NasError.
    """
    context = netadapt_context(plan, manifest)
    report = netadapt_report(context, study)
    write_netadapt_report(report, plan.folder)
    write_netadapt_notes(context, study, report, on_note)
