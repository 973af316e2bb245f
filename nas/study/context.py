"""What a study's report has to know besides its trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nas.arch.spec import ArchSpec
from nas.data.summary import ImageSummary
from nas.estimators.proxy.reduce import Proxy
from nas.latency.predictors.base import LatencyPredictor
from nas.study.config import StudyPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyContext:
    """A study as its report has to know it, besides the trials.

    Made with the images in memory, or from the study's folder alone.

    ``versions``: of the libraries that the study ran with, by name. ``proxy_of``: the network that is trained in the
    place of another.
    """

    plan: StudyPlan
    images: ImageSummary
    versions: Mapping[str, str]
    predictor: LatencyPredictor
    proxy_of: Callable[[ArchSpec], Proxy]
