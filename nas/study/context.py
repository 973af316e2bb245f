"""What a study's report has to know besides its trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from nas.arch.spec import ArchSpec
from nas.data.summary import ImageSummary
from nas.estimators.proxy.reduce import Proxy, proxy_factory
from nas.latency.predictors.base import LatencyPredictor
from nas.latency.store import read_predictor
from nas.study.config import StudyPlan
from nas.study.manifest import PREDICTOR_FILE, StudyManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyContext:
    """A study as its report has to know it, with its images in memory or from its folder alone.

    ``versions``: of the libraries that the study ran with, by name. ``proxy_of``: the network that is trained in the
    place of another.
    """

    plan: StudyPlan
    images: ImageSummary
    versions: Mapping[str, str]
    predictor: LatencyPredictor
    proxy_of: Callable[[ArchSpec], Proxy]

    def provenance(self, study_name: str) -> dict[str, Any]:
        """Where a file of results comes from, as plain data: what studies of all methods say."""
        plan = self.plan
        return {
            "study": study_name,
            "data": plan.data.name,
            "command": plan.command,
            "versions": dict(self.versions),
        }


class ContextParts(NamedTuple):
    """What every context has besides its plan."""

    images: ImageSummary
    versions: Mapping[str, str]
    predictor: LatencyPredictor
    proxy_of: Callable[[ArchSpec], Proxy]


def load_context_parts(plan: StudyPlan, manifest: StudyManifest) -> ContextParts:
    """The parts of the context of a study that was started, from its folder and ``manifest``. Raises: NasError."""
    return ContextParts(
        images=manifest.images,
        versions=manifest.versions,
        predictor=read_predictor(plan.folder / PREDICTOR_FILE),
        proxy_of=proxy_factory(manifest.images, plan.proxy, plan.largest_kernel, plan.base_resolution_px),
    )
