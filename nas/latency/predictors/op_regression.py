"""Operation-price predictor, for backends without per-kernel timing.

Prices of operations are fitted to latencies of whole networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar

import numpy as np

from nas.arch.ops.network import Op
from nas.arch.spec import ArchSpec
from nas.core.validation import check_figures, check_number
from nas.latency.device import MAX_LANE, Device
from nas.latency.predictors.additive import SumPredictor
from nas.latency.predictors.held_out import HeldOutCheck, HeldOutError, checks_of, prediction_interval
from nas.latency.predictors.op_features import op_features
from nas.latency.predictors.op_fit import Prices


class PricePredictor(SumPredictor):
    """Predictor that sums prices of operations, fitted to whole networks.

    An operation costs its work, the bytes that it moves and a constant, each at a price of its class. ``checks``:
    networks that the fit of ``prices`` did not see; they give error and interval. ``others``: mean number of cores that
    other programs used during the calibration, None if unknown.
    """

    kind: ClassVar[str] = "prices"

    def __init__(
        self, *, device: Device, prices: Prices, checks: Sequence[HeldOutCheck], others: float | None = None
    ) -> None:
        self.device, self.prices, self.checks, self.others = device, prices, tuple(checks), others
        self.error = HeldOutError.of(self.checks)
        low, high = prediction_interval([check.measured_ms / check.predicted_ms for check in self.checks])
        super().__init__(low=low, high=high)

    def op_ms(self, op: Op) -> float:
        """Latency of one operation in ms."""
        prices = self.prices
        return sum(value * prices.of(name) for name, value in op_features(op, prices.lane))

    def refined(self, measured: Sequence[tuple[ArchSpec, float]]) -> PricePredictor:
        """This predictor scaled by the median of measured / predicted.

        Predictions of the checks are scaled with it, so that the interval stays as wide as it was.
        """
        if not measured:
            return self
        factor = float(np.median([ms / self.predict(spec).latency_ms for spec, ms in measured]))
        values = {name: value * factor for name, value in self.prices.values.items()}
        prices = replace(self.prices, values=values, scale=self.prices.scale * factor)
        checks = [replace(check, predicted_ms=check.predicted_ms * factor) for check in self.checks]
        return PricePredictor(device=self.device, prices=prices, checks=checks, others=self.others)

    def to_dict(self) -> dict[str, Any]:
        """The predictor as plain data.

        The error is for human readers; ``from_dict`` recomputes it from the checks.
        """
        return {
            "kind": self.kind,
            "device": self.device.to_dict(),
            "error": asdict(self.error),
            "others": self.others,
            "lane": self.prices.lane,
            "scale": self.prices.scale,
            "prices": dict(self.prices.values),
            "checks": [asdict(check) for check in self.checks],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PricePredictor:
        """Predictor from the plain data of ``to_dict``.

        Raises: NasError, KeyError or TypeError for other data.
        """
        check_number("scale", data["scale"], low=0)
        check_number("lane", data["lane"], low=1, high=MAX_LANE, whole=True)
        others = data.get("others")  # not in older files
        check_number("others", others, low=0, optional=True)
        prices = Prices(values=check_figures("prices", data["prices"], low=0), scale=data["scale"], lane=data["lane"])
        checks = checks_of(data["checks"])
        return cls(device=Device.from_dict(data["device"]), prices=prices, checks=checks, others=others)
