"""What is known of a grid besides its trials, with its images in memory or from its folder alone."""

from __future__ import annotations

from dataclasses import dataclass

import optuna

from nas.methods.scaling.config import ScalingPlan
from nas.methods.scaling.design.entries import Design
from nas.methods.scaling.design.networks import make_design
from nas.methods.scaling.trial_attributes import taken_axes
from nas.study.context import StudyContext, load_context_parts
from nas.study.manifest import StudyManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingContext(StudyContext):
    """A scaling study as its report has to know it; ``entries``: its networks."""

    plan: ScalingPlan
    entries: Design


def scaling_context(plan: ScalingPlan, manifest: StudyManifest, study: optuna.Study) -> ScalingContext:
    """The context of ``study``, from what stands in its folder. Raises: NasError.

    The baseline of ``plan`` is the one that stands there: for the images' classes and channels.
    """
    parts = load_context_parts(plan, manifest)
    design_at = make_design(plan, plan.baseline, parts.predictor.predict, parts.proxy_of)
    return ScalingContext(plan=plan, entries=design_at(taken_axes(study)), **parts._asdict())
