"""What is known of a grid besides its trials, with its images in memory or from its folder alone."""

from __future__ import annotations

from dataclasses import dataclass

import optuna

from nas.estimators.proxy.reduce import proxy_factory
from nas.latency.store import read_predictor
from nas.methods.scaling.config import ScalingPlan
from nas.methods.scaling.design.entries import Design
from nas.methods.scaling.design.networks import make_design
from nas.methods.scaling.trial_attributes import taken_axes
from nas.study.context import StudyContext
from nas.study.manifest import PREDICTOR_FILE, StudyManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingContext(StudyContext):
    """A scaling study as its report has to know it; ``entries``: its networks."""

    plan: ScalingPlan
    entries: Design


def scaling_context(plan: ScalingPlan, manifest: StudyManifest, study: optuna.Study) -> ScalingContext:
    """The context of ``study``, from what stands in its folder. Raises: NasError.

    The baseline of ``plan`` is the one that stands there: for the images' classes and channels.
    """
    predictor = read_predictor(plan.folder / PREDICTOR_FILE)
    proxy_of = proxy_factory(manifest.images, plan.proxy, plan.largest_kernel, plan.baseline.resolution_px)
    return ScalingContext(
        plan=plan,
        images=manifest.images,
        versions=manifest.versions,
        predictor=predictor,
        entries=make_design(plan, plan.baseline, predictor.predict, proxy_of)(taken_axes(study)),
        proxy_of=proxy_of,
    )
