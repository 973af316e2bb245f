"""Context of a scaling study: what its report needs besides the trials.

It is made with the images in memory, or from the study's folder alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import optuna

from nas.methods.scaling.config import ScalingPlan
from nas.methods.scaling.design.entries import Design
from nas.methods.scaling.design.networks import make_design
from nas.methods.scaling.trial_attributes import chosen_axes
from nas.study.context import StudyContext, load_context_parts
from nas.study.manifest import StudyManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingContext(StudyContext):
    """Context of a scaling study's report; ``entries``: its networks."""

    plan: ScalingPlan
    entries: Design


def scaling_context(plan: ScalingPlan, manifest: StudyManifest, study: optuna.Study) -> ScalingContext:
    """Context of a started ``study``, from the files in its folder.

    The baseline of ``plan`` is the one stored there, with the classes and channels of the images. Raises: NasError.
    """
    parts = load_context_parts(plan, manifest)
    design_at = make_design(plan, plan.baseline, parts.predictor.predict, parts.proxy_of)
    return ScalingContext(plan=plan, entries=design_at(chosen_axes(study)), **parts._asdict())
