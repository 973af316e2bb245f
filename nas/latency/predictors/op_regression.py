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
from nas.latency.kernels.xnnpack import Tile
from nas.latency.predictors.additive import SumPredictor
from nas.latency.predictors.base import rewrites_of
from nas.latency.predictors.held_out import (
    MAX_NOISE,
    HeldOutCheck,
    HeldOutError,
    checks_of,
    prediction_interval,
    scaled_checks,
)
from nas.latency.predictors.op_features import network_features, op_features
from nas.latency.predictors.op_fit import Prices, network_row
from nas.latency.speed import MachineSpeed, known_speed


class PricePredictor(SumPredictor):
    """Predictor that sums prices of operations, fitted to whole networks.

    An operation costs its work, the bytes that it moves and a constant, each at a price of its class. ``checks``:
    networks that the fit of ``prices`` did not see; they give error and interval. ``speed``, ``noise``, ``spent_s``,
    ``others``: as in ``KernelPredictor``; None in files of older versions. ``rewrites``: as there.
    """

    kind: ClassVar[str] = "prices"

    def __init__(
        self,
        *,
        device: Device,
        prices: Prices,
        checks: Sequence[HeldOutCheck],
        speed: MachineSpeed | None = None,
        noise: float | None = None,
        spent_s: float | None = None,
        others: float | None = None,
        rewrites: bool = False,
    ) -> None:
        self.device, self.prices, self.checks = device, prices, tuple(checks)
        self.speed, self.noise, self.spent_s, self.others = speed, noise, spent_s, others
        self.error = HeldOutError.of(self.checks, noise)
        low, high = prediction_interval([check.measured_ms / check.predicted_ms for check in self.checks])
        super().__init__(low=low, high=high, lane=prices.lane if rewrites else None)

    def with_rewrites(self, rewrites: bool) -> PricePredictor:
        """This predictor with every block in its fastest form, or in the plain one."""
        return self._copy(prices=self.prices, checks=self.checks, rewrites=rewrites)

    def op_ms(self, op: Op) -> float:
        """Latency of one operation in ms."""
        prices = self.prices
        return sum(value * prices.of(name) for name, value in op_features(op, prices.vectors))

    def unmeasured(self, spec: ArchSpec) -> dict[str, float]:
        """Shares of the latency of ``spec`` by kind of operation, of those never measured."""
        row = network_row(spec, self.prices.vectors, self.forms(spec))
        total_ms, shares = self.prices.total_ms(row), dict[str, float]()
        for name, value in row.items():
            if name not in self.prices.values:
                kind = name.rpartition(".")[0]
                shares[kind] = shares.get(kind, 0.0) + value * self.prices.of(name) / total_ms
        return shares

    def network_ms(self, spec: ArchSpec) -> float:
        """What the network as a whole costs beside its operations, in ms."""
        features = network_features(spec, self.prices.vectors)
        return sum(value * self.prices.of(name) for name, value in features)

    def refined(self, measured: Sequence[tuple[ArchSpec, float]]) -> PricePredictor:
        """This predictor scaled by the median of measured / predicted.

        Predictions of the checks are scaled with it, so that the interval stays as wide as it was.
        """
        if not measured:
            return self
        factor = float(np.median([ms / self.predict(spec).latency_ms for spec, ms in measured]))
        prices = self._scaled_prices(factor)
        checks = [replace(check, predicted_ms=check.predicted_ms * factor) for check in self.checks]
        return self._copy(prices=prices, checks=checks)

    def at_speed(self, typical_ms: float) -> PricePredictor:
        """This predictor for another speed of the machine; see ``KernelPredictor``."""
        speed = known_speed(self)
        factor = speed.slowdown(typical_ms)
        return self._copy(
            prices=self._scaled_prices(factor),
            checks=scaled_checks(self.checks, factor),
            speed=speed.around(typical_ms),
        )

    def _copy(self, **changes: Any) -> PricePredictor:
        return PricePredictor(
            **{
                "device": self.device,
                "speed": self.speed,
                "noise": self.noise,
                "spent_s": self.spent_s,
                "others": self.others,
                "rewrites": self.rewrites,
                **changes,
            }
        )

    def _scaled_prices(self, factor: float) -> Prices:
        values = {name: value * factor for name, value in self.prices.values.items()}
        return replace(self.prices, values=values, scale=self.prices.scale * factor)

    def to_dict(self) -> dict[str, Any]:
        """The predictor as plain data.

        The error is for human readers; ``from_dict`` recomputes it from the checks.
        """
        return {
            "kind": self.kind,
            "device": self.device.to_dict(),
            "error": asdict(self.error),
            "speed": self.speed and self.speed.to_dict(),
            "noise": self.noise,
            "spent_s": self.spent_s,
            "others": self.others,
            "rewrites": self.rewrites,
            "lane": self.prices.lane,
            "tile_rows": self.prices.vectors.rows if isinstance(self.prices.vectors, Tile) else None,
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
        check_number("spent_s", data.get("spent_s"), low=0, optional=True)
        check_number("noise", data.get("noise"), low=0, high=MAX_NOISE, optional=True)
        lane, rows = data["lane"], data.get("tile_rows")  # which older files do not have
        check_number("tile_rows", rows, low=1, high=MAX_LANE, whole=True, optional=True)
        vectors = lane if rows is None else Tile(rows, lane)
        values = check_figures("prices", data["prices"], low=0)
        prices = Prices(values=values, scale=data["scale"], vectors=vectors)
        checks = checks_of(data["checks"])
        return cls(
            device=Device.from_dict(data["device"]),
            prices=prices,
            checks=checks,
            speed=MachineSpeed.from_dict(data.get("speed")),
            noise=data.get("noise"),
            spent_s=data.get("spent_s"),
            others=others,
            rewrites=rewrites_of(data),
        )
