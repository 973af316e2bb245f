"""Render a scaling study's tables, plots and report from its folder and trials.

Works for running and finished studies; loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna

from nas.methods.scaling.config import ScalingPlan
from nas.methods.scaling.context import scaling_context
from nas.methods.scaling.dashboard import write_scaling_notes
from nas.methods.scaling.report_data import scaling_report, write_scaling_report
from nas.study.manifest import StudyManifest


def render_scaling(plan: ScalingPlan, manifest: StudyManifest, study: optuna.Study) -> Path:
    """Write tables, plots and report of ``study`` as of now; the report's path.

    Nothing is trained or written into the study, no images are loaded, and the family's specs are written only when the
    study is concluded. Raises: NasError.
    """
    return write_scaling_report(scaling_report(scaling_context(plan, manifest, study), study), plan.folder)


def refresh_scaling_notes(
    plan: ScalingPlan, manifest: StudyManifest, study: optuna.Study, on_note: Callable[[], object]
) -> None:
    """Render the study, and update what the dashboard shows of ``study``.

    ``on_note``: see ``StudyKind.refresh_notes``. Raises: NasError.
    """
    context = scaling_context(plan, manifest, study)
    report = scaling_report(context, study)
    write_scaling_report(report, plan.folder)
    write_scaling_notes(context, study, report, on_note)
