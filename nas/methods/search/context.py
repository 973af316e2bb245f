"""Context of a search: what its report needs besides the trials.

It is made with the images in memory, or from the study's folder alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import optuna

from nas.data.summary import ImageSummary
from nas.latency.predictors.base import LatencyPredictor
from nas.methods.search.config import SearchPlan
from nas.methods.search.trials.calibration import with_anchor_estimates
from nas.study.candidates import Pricer
from nas.study.context import StudyContext, load_context_parts
from nas.study.manifest import StudyManifest
from nas.study.trial_record import TrialRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchContext(StudyContext):
    """Context of a search's report; ``pricer`` decodes and prices its candidates."""

    plan: SearchPlan
    pricer: Pricer

    def records(self, study: optuna.Study) -> list[TrialRecord]:
        """All started trials, with the leave-one-out estimates of anchors."""
        return with_anchor_estimates(StudyContext.records(self, study), self.pricer)


def search_pricer(plan: SearchPlan, predictor: LatencyPredictor, images: ImageSummary) -> Pricer:
    """Pricer of the candidates of ``plan``, as networks for ``images``."""
    return Pricer(
        space=plan.space,
        predictor=predictor,
        constraints=plan.constraints,
        classes=images.classes,
        in_channels=images.channels,
        task=plan.task,
        head=plan.head,
    )


def search_context(plan: SearchPlan, manifest: StudyManifest) -> SearchContext:
    """Context of a started search, from the files in its folder. Raises: NasError."""
    parts = load_context_parts(plan, manifest)
    return SearchContext(plan=plan, pricer=search_pricer(plan, parts.predictor, parts.images), **parts._asdict())
