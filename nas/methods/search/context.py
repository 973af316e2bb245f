"""What is known of a search besides its trials, with its images in memory or from its folder alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nas.arch.spec import ArchSpec
from nas.data.summary import ImageSummary
from nas.estimators.proxy.reduce import Proxy
from nas.estimators.proxy.reduce import proxy_factory as proxies
from nas.latency.predictors.base import LatencyPredictor
from nas.latency.store import read_predictor
from nas.methods.search.config import SearchPlan
from nas.study.candidates import Pricer
from nas.study.manifest import PREDICTOR_FILE, StudyManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchContext:
    """A search as its report has to know it. ``proxy_of``: the network that is trained in the place of another.

    ``versions``: by name, of what the search ran with.
    """

    plan: SearchPlan
    images: ImageSummary
    versions: Mapping[str, str]
    pricer: Pricer
    proxy_of: Callable[[ArchSpec], Proxy]

    @property
    def predictor(self) -> LatencyPredictor:
        """What prices its networks."""
        return self.pricer.predictor


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
    """The background of a search that was begun, from what stands in its folder. Raises: NasError."""
    images = manifest.images
    pricer = search_pricer(plan, read_predictor(plan.folder / PREDICTOR_FILE), images)
    proxy_of = proxies(images, plan.proxy, plan.space.largest_kernel, plan.base_resolution_px)
    return SearchContext(plan=plan, images=images, versions=manifest.versions, pricer=pricer, proxy_of=proxy_of)
