"""What is known of a search besides its trials, with its images in memory or from its folder alone."""

from __future__ import annotations

from dataclasses import dataclass

from nas.data.summary import ImageSummary
from nas.latency.predictors.base import LatencyPredictor
from nas.methods.search.config import SearchPlan
from nas.study.candidates import Pricer
from nas.study.context import StudyContext, load_context_parts
from nas.study.manifest import StudyManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchContext(StudyContext):
    """A search as its report has to know it; ``pricer`` decodes and prices its candidates."""

    plan: SearchPlan
    pricer: Pricer


def search_pricer(plan: SearchPlan, predictor: LatencyPredictor, images: ImageSummary) -> Pricer:
    """What prices the candidates of ``plan``, as networks for ``images``, by ``predictor``."""
    return Pricer(
        space=plan.space,
        predictor=predictor,
        constraints=plan.constraints,
        classes=images.classes,
        in_channels=images.channels,
    )


def search_context(plan: SearchPlan, manifest: StudyManifest) -> SearchContext:
    """The context of a search that was begun, from what stands in its folder. Raises: NasError."""
    parts = load_context_parts(plan, manifest)
    return SearchContext(plan=plan, pricer=search_pricer(plan, parts.predictor, parts.images), **parts._asdict())
