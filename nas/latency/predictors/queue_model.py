"""A predictor for a device known only from whole networks: prices of the queue law, and how far they hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any, ClassVar, Final

import numpy as np

from nas.arch.blocks import BlockSpec
from nas.arch.ops.network import block_ops, head_ops, stem_op
from nas.arch.parts import SqueezeExcite
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.core.progress import ProgressCallback
from nas.latency.device import Device
from nas.latency.predictors.base import (
    HeldOutCheck,
    HeldOutError,
    LatencyEstimate,
    LatencyPredictor,
    prediction_interval,
)
from nas.latency.predictors.queue_fit import ROUGH_BELIEF, QueuePrices, fit_queue_prices, update_belief
from nas.latency.predictors.queue_law import NAMES, ONCE, Span, cuts, shares_ms, span, stacked
from nas.latency.random_networks import random_specs

MIN_NETWORKS: Final = 10  # networks; see tests/benchmarks/measurements.py for what so few can tell
_OUTLYING: Final = 3.0  # standard deviations of the bulk
_STUDIED: Final = 150  # random networks that another kind of predictor is asked about


class QueuePredictor:
    """Latency by the queue law (``nas.latency.predictors.queue_law``) at prices fitted to measured networks.

    ``checks``: the measured networks, each predicted by a fit that did not see it; they give error and interval.
    """

    kind: ClassVar[str] = "whole"

    def __init__(self, *, device: Device, prices: QueuePrices, checks: Sequence[HeldOutCheck]) -> None:
        self.device, self.prices, self.checks = device, prices, tuple(checks)
        self.error = HeldOutError.of(self.checks)
        self._low, self._high = prediction_interval([check.measured_ms / check.predicted_ms for check in self.checks])
        self._ms: list[float] = prices.ms.tolist()
        self._block = lru_cache(maxsize=65536)(self._block_span)

    @property
    def outliers(self) -> tuple[HeldOutCheck, ...]:
        """Measured networks that lie far outside of what the others do: to be measured again, or not believed."""
        errors = np.log([check.measured_ms / check.predicted_ms for check in self.checks])
        middle = np.median(errors)
        bulk = 1.4826 * np.median(np.abs(errors - middle))  # the standard deviation, if the bulk is normal
        far = np.abs(errors - middle) > _OUTLYING * bulk
        return tuple(check for check, outlying in zip(self.checks, far, strict=True) if outlying)

    def predict(self, spec: ArchSpec, resolution_px: int | None = None) -> LatencyEstimate:
        """Latency of ``spec`` at ``resolution_px`` (default: its own)."""
        stem = stem_op(spec, resolution_px or spec.resolution_px)
        whole, px = span((stem,), self._ms), stem.out_px
        for _, block, stride, channels in spec.placed_blocks():
            part, px = self._block(block, stride, channels, px, spec.activation, spec.squeeze_excite)
            whole = whole.then(part)
        latency_ms = self._ms[ONCE] + whole.then(span(head_ops(spec, px), self._ms)).total_ms
        return LatencyEstimate(latency_ms=latency_ms, low_ms=latency_ms * self._low, high_ms=latency_ms * self._high)

    def predict_many(self, specs: Iterable[ArchSpec]) -> list[LatencyEstimate]:
        """Latencies at each spec's own resolution, in order."""
        return [self.predict(spec) for spec in specs]

    def layer_ms(self, spec: ArchSpec) -> list[tuple[str, float]]:
        """(path, ms) of every operation in execution order; they sum to the predicted latency."""
        return shares_ms(spec, self._ms)

    def refined(self, measured: Sequence[tuple[ArchSpec, float]]) -> QueuePredictor:
        """This predictor times the median of measured / predicted; its interval stays as wide as it is."""
        if not measured:
            return self
        factor = float(np.median([ms / self.predict(spec).latency_ms for spec, ms in measured]))
        prices = replace(self.prices, log_ms=self.prices.log_ms + np.log(factor))
        checks = [replace(check, predicted_ms=check.predicted_ms * factor) for check in self.checks]
        return QueuePredictor(device=self.device, prices=prices, checks=checks)

    def to_dict(self) -> dict[str, Any]:
        """The predictor as plain data; the error is for people, a reader works it out from the checks."""
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
        """The predictor that ``to_dict`` wrote. Raises: KeyError, TypeError or ValueError for other data."""
        prices = QueuePrices(
            log_ms=np.log([data["prices"][name] for name in NAMES]),
            spread=np.array([data["spread"][name] for name in NAMES]),
        )
        checks = [HeldOutCheck(**check) for check in data["checks"]]
        return cls(device=Device.from_dict(data["device"]), prices=prices, checks=checks)

    def _block_span(
        self, block: BlockSpec, stride: int, in_channels: int, px: int, activation: str, se: SqueezeExcite
    ) -> tuple[Span, int]:
        ops = block_ops(block, stride, in_channels, px, activation, se)
        return span(ops, self._ms), ops[-1].out_px


def fit_queue_predictor(
    device: Device,
    measured: Sequence[tuple[ArchSpec, float]],
    *,
    bases: Sequence[LatencyPredictor] = (),
    progress: ProgressCallback | None = None,
) -> QueuePredictor:
    """A predictor for ``device`` from networks and their latencies in ms.

    ``bases``: predictors of other devices, or of other batches on this one. Each is a guess at the prices beside the
    rough one; the guesses are weighted by how well fits that begin with them foresee networks left out.

    Raises: NasError for fewer than ten networks.
    """
    if len(measured) < MIN_NETWORKS:
        raise NasError(
            f"{len(measured)} measured networks are too few for a predictor: measure at least {MIN_NETWORKS}."
        )
    tables = stacked([cuts(spec) for spec, _ in measured])
    latencies_ms = np.array([ms for _, ms in measured])
    beliefs = [ROUGH_BELIEF, *(belief for base in bases for belief in _prices(base).beliefs())]
    prices, held_out_ms = update_belief(tables, latencies_ms, beliefs, progress)
    checks = [
        HeldOutCheck(name=spec.name, measured_ms=ms, predicted_ms=float(predicted_ms))
        for (spec, ms), predicted_ms in zip(measured, held_out_ms, strict=True)
    ]
    return QueuePredictor(device=device, prices=prices, checks=checks)


def _prices(base: LatencyPredictor) -> QueuePrices:
    """Prices of the queue law that stand for ``base``; a predictor of another kind is asked about random networks."""
    if isinstance(base, QueuePredictor):
        return base.prices
    specs = random_specs(_STUDIED, seed=0)
    latencies_ms = np.array([estimate.latency_ms for estimate in base.predict_many(specs)])
    return fit_queue_prices(stacked([cuts(spec) for spec in specs]), latencies_ms, ROUGH_BELIEF)
