"""Queue-law predictor of a device of which only whole-network latencies are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar, Final

import numpy as np

from nas.arch.ops.network import PartSegments, Segment, network_segments
from nas.arch.spec import ArchSpec
from nas.core.bounded_cache import BoundedCache
from nas.core.errors import NasError
from nas.core.progress import ProgressCallback
from nas.core.validation import check_figures
from nas.latency.device import Device
from nas.latency.predictors.base import LatencyEstimate, LatencyPredictor, with_plain_blocks
from nas.latency.predictors.held_out import HeldOutCheck, HeldOutError, checks_of, outliers_of, prediction_interval
from nas.latency.predictors.queue_fit import (
    DEFAULT_PRIOR,
    QueuePrices,
    fit_and_cross_validate,
    fit_queue_prices,
)
from nas.latency.predictors.queue_law import NAMES, ONCE, Span, design_matrix, shares_ms, span, stack_designs
from nas.latency.random_networks import random_specs

MIN_NETWORKS: Final = 10  # see tests/benchmarks/measurements.py for the accuracy with so few
_CACHED: Final = 65536  # parts of networks
_DISTILLED_NETWORKS: Final = 150  # random networks by which another kind of predictor is approximated


class QueuePredictor:
    """Predictor by the queue law, with prices fitted to measured networks.

    See ``nas.latency.predictors.queue_law``. ``checks``: the measured networks, each predicted by a fit that did not
    see it; they give error and interval.
    """

    kind: ClassVar[str] = "whole"

    def __init__(self, *, device: Device, prices: QueuePrices, checks: Sequence[HeldOutCheck]) -> None:
        self.device, self.prices, self.checks = device, prices, tuple(checks)
        self.error = HeldOutError.of(self.checks)
        self._low, self._high = prediction_interval([check.measured_ms / check.predicted_ms for check in self.checks])
        self._ms: list[float] = prices.ms.tolist()
        self._segments: BoundedCache[Segment, Span] = BoundedCache(_CACHED)
        self._parts: BoundedCache[PartSegments, Span] = BoundedCache(_CACHED)

    @property
    def outliers(self) -> tuple[HeldOutCheck, ...]:
        """Measured networks far off the law, to be measured again or distrusted."""
        return outliers_of(self.checks)

    def predict(self, spec: ArchSpec, resolution_px: int | None = None) -> LatencyEstimate:
        """Latency of ``spec`` at ``resolution_px`` (default: its own)."""
        total = Span()
        for part in network_segments(spec, resolution_px):
            total = total.then(self._parts.get(part) or self._part_span(part))
        latency_ms = self._ms[ONCE] + total.total_ms
        return LatencyEstimate(latency_ms=latency_ms, low_ms=latency_ms * self._low, high_ms=latency_ms * self._high)

    def predict_many(self, specs: Iterable[ArchSpec]) -> list[LatencyEstimate]:
        """Latencies at each spec's own resolution, in order."""
        return [self.predict(spec) for spec in specs]

    def layer_ms(self, spec: ArchSpec) -> list[tuple[str, float]]:
        """(path, ms) per operation in execution order; they sum to the prediction."""
        return shares_ms(spec, self._ms)

    def refined(self, measured: Sequence[tuple[ArchSpec, float]]) -> QueuePredictor:
        """This predictor scaled by the median of measured / predicted.

        Predictions of the checks are scaled with it, so that the interval stays as wide as it was.
        """
        if not measured:
            return self
        factor = float(np.median([ms / self.predict(spec).latency_ms for spec, ms in measured]))
        prices = replace(self.prices, log_ms=self.prices.log_ms + np.log(factor))
        checks = [replace(check, predicted_ms=check.predicted_ms * factor) for check in self.checks]
        return QueuePredictor(device=self.device, prices=prices, checks=checks)

    def to_dict(self) -> dict[str, Any]:
        """The predictor as plain data.

        The error is for human readers; ``from_dict`` recomputes it from the checks.
        """
        return {
            "kind": self.kind,
            "device": self.device.to_dict(),
            "error": asdict(self.error),
            "prices": dict(zip(NAMES, self._ms, strict=True)),
            "spread": dict(zip(NAMES, self.prices.spread.tolist(), strict=True)),
            "checks": [asdict(check) for check in self.checks],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> QueuePredictor:
        """Predictor from the plain data of ``to_dict``.

        Raises: NasError, KeyError, TypeError or ValueError for other data.
        """
        prices_ms = check_figures("prices", data["prices"], low=0)
        spread = check_figures("spread", data["spread"], low=0)
        with np.errstate(divide="ignore"):  # the fit takes the price of what costs nothing to 0
            log_ms = np.log([prices_ms[name] for name in NAMES])
        prices = QueuePrices(log_ms=log_ms, spread=np.array([spread[name] for name in NAMES]))
        return cls(device=Device.from_dict(data["device"]), prices=prices, checks=checks_of(data["checks"]))

    def _part_span(self, part: PartSegments) -> Span:
        """Span of a part of a network, which is cached."""
        total = Span()
        for segment in part.segments:
            total = total.then(self._segments.get(segment) or self._segments.keep(segment, span(segment.ops, self._ms)))
        if part.addition:
            total = total.then(span((part.addition,), self._ms))
        return self._parts.keep(part, total)


def fit_queue_predictor(
    device: Device,
    measured: Sequence[tuple[ArchSpec, float]],
    *,
    bases: Sequence[LatencyPredictor] = (),
    progress: ProgressCallback | None = None,
) -> QueuePredictor:
    """Fit a predictor for ``device`` to networks and their latencies in ms.

    ``bases``: predictors of other devices, or of other batch sizes on this one. Each gives priors of the prices in
    addition to the default one; priors are weighted by how well their fits predict held-out networks. ``progress(done,
    total)``: called with counts of fits.

    Raises: NasError for fewer than ten networks.
    """
    if len(measured) < MIN_NETWORKS:
        raise NasError(
            f"{len(measured)} measured networks are too few for a predictor; measure at least {MIN_NETWORKS}."
        )
    tables = stack_designs([design_matrix(spec) for spec, _ in measured])
    latencies_ms = np.array([ms for _, ms in measured])
    priors = [DEFAULT_PRIOR, *(prior for base in bases for prior in _prices(base).priors())]
    prices, held_out_ms = fit_and_cross_validate(tables, latencies_ms, priors, progress)
    checks = [
        HeldOutCheck(name=spec.name, measured_ms=ms, predicted_ms=float(predicted_ms))
        for (spec, ms), predicted_ms in zip(measured, held_out_ms, strict=True)
    ]
    return QueuePredictor(device=device, prices=prices, checks=checks)


def _prices(base: LatencyPredictor) -> QueuePrices:
    """Queue-law prices of ``base``.

    A predictor of another kind is approximated: prices are fitted to its predictions for random networks, with plain
    blocks, as the law knows no others.
    """
    if isinstance(base, QueuePredictor):
        return base.prices
    specs = random_specs(_DISTILLED_NETWORKS, seed=0)
    latencies_ms = np.array([estimate.latency_ms for estimate in with_plain_blocks(base).predict_many(specs)])
    return fit_queue_prices(stack_designs([design_matrix(spec) for spec in specs]), latencies_ms, DEFAULT_PRIOR)
