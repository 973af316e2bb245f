"""Whether the grid of a plan is finished, as its storage and its folder tell without loading images."""

from __future__ import annotations

from dataclasses import replace

import optuna

from nas.arch.files import load_spec
from nas.core.errors import NasError
from nas.methods.scaling.ask_tell import ScalingAskTell
from nas.methods.scaling.config import BASELINE_FILE, ScalingPlan
from nas.methods.scaling.context import scaling_context
from nas.study import manifest
from nas.study.session_base import is_study_finished


def is_scaling_finished(plan: ScalingPlan) -> bool:
    """Whether the grid of ``plan`` has all its rounds and its report; not so of another plan's."""
    return is_study_finished(plan, lambda study: _is_over(plan, study))


def _is_over(plan: ScalingPlan, study: optuna.Study) -> bool:
    try:
        as_begun = replace(plan, baseline=load_spec(plan.folder / BASELINE_FILE))
        background = scaling_context(as_begun, manifest.read_manifest(plan.folder), study)
    except NasError:  # what is missing is made by running it
        return False
    return ScalingAskTell(
        study=study,
        entries_at=lambda _: background.entries,
        settings=plan.race,
        epochs=plan.proxy.epochs,
        has_interval=background.predictor.error is not None,
        everybody=bool(plan.compare),
    ).is_over
