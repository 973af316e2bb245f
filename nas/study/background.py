"""What is known of a search besides its trials, with its images in memory or from its folder alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from nas.arch.spec import ArchSpec
from nas.latency.predictor import LatencyPredictor
from nas.latency.store import read as read_predictor
from nas.proxy.reduce import Proxy, reduce_arch
from nas.proxy.settings import ProxySettings
from nas.study.begun import PREDICTOR_FILE, Begun, Images
from nas.study.candidates import Pricer
from nas.study.search_plan import SearchPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """A search as its report has to know it. ``proxy_of``: the network that is trained in the place of another.

    ``versions``: by name, of what the search ran with.
    """

    plan: SearchPlan
    images: Images
    versions: Mapping[str, str]
    pricer: Pricer
    proxy_of: Callable[[ArchSpec], Proxy]

    @property
    def predictor(self) -> LatencyPredictor:
        """What prices its networks."""
        return self.pricer.predictor


def proxies(
    images: Images, settings: ProxySettings, largest_kernel: int, base_resolution_px: int | None
) -> Callable[[ArchSpec], Proxy]:
    """What makes networks smaller for ``images``, as ``reduce_arch`` does."""
    return partial(
        reduce_arch,
        settings=settings,
        classes=images.classes,
        in_channels=images.channels,
        largest_kernel=largest_kernel,
        base_resolution_px=base_resolution_px,
    )


def pricer_of(plan: SearchPlan, predictor: LatencyPredictor, images: Images) -> Pricer:
    """What prices the candidates of ``plan``, as networks for ``images``, by ``predictor``."""
    return Pricer(
        space=plan.space,
        predictor=predictor,
        constraints=plan.constraints,
        classes=images.classes,
        in_channels=images.channels,
    )


def background_of(plan: SearchPlan, begun: Begun) -> Background:
    """The background of a search that was begun, from what stands in its folder. Raises: NasError."""
    images = begun.images
    pricer = pricer_of(plan, read_predictor(plan.folder / PREDICTOR_FILE), images)
    proxy_of = proxies(images, plan.proxy, plan.space.largest_kernel, plan.base_resolution_px)
    return Background(plan=plan, images=images, versions=begun.versions, pricer=pricer, proxy_of=proxy_of)
