"""Price a spec without building it: the interface of latency predictors, and the two that there are."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from scipy.stats import kendalltau

from nas.arch.blocks import BlockSpec
from nas.arch.checks import check_number
from nas.arch.errors import NasError
from nas.arch.files import write_text_atomically
from nas.arch.ops import Op, block_ops, head_ops, network_ops, stem_op
from nas.arch.parts import SqueezeExcite
from nas.arch.spec import ArchSpec
from nas.latency.device import Device
from nas.latency.features import op_features
from nas.latency.fit import Prices

FORMAT: Final = "nas.latency/1"  # raise it with every change of features: prices of old files would be misread
# Between published mobile networks the time per multiply-add differs by a factor of four on one core.
_MACS_FACTOR: Final = 3.0
_INTERVAL: Final = (0.05, 0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyEstimate:
    """Predicted latency; about nine networks in ten measure between ``low_ms`` and ``high_ms``.

    Of a predictor whose ``error`` is None, never held against measurements, the two are a guess.
    """

    latency_ms: float
    low_ms: float
    high_ms: float

    def __post_init__(self) -> None:
        if not 0 <= self.low_ms <= self.latency_ms <= self.high_ms:
            raise ValueError(f"{self}: must be ordered and not negative.")

    def __str__(self) -> str:
        return f"{self.latency_ms:.2f} ms ({self.low_ms:.2f} to {self.high_ms:.2f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One network that the predictor did not see: what was measured and what it says."""

    name: str
    measured_ms: float
    predicted_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutError:
    """How wrong a predictor is on networks that it did not see.

    ``median`` and ``p90``: of |predicted / measured - 1|; ``bias``: mean of predicted / measured - 1;
    ``kendall_tau``: agreement of the two orders, 1 is the same.
    """

    median: float
    p90: float
    bias: float
    kendall_tau: float
    networks: int

    @classmethod
    def of(cls, checks: Sequence[Check]) -> HeldOutError:
        """The error over ``checks``. Raises: NasError for fewer than two."""
        if len(checks) < 2:
            raise NasError(f"held-out error: {len(checks)} networks are too few; at least 2 are needed.")
        relative = np.array([check.predicted_ms / check.measured_ms - 1 for check in checks])
        order = kendalltau([check.predicted_ms for check in checks], [check.measured_ms for check in checks])
        return cls(
            median=float(np.median(np.abs(relative))),
            p90=float(np.quantile(np.abs(relative), 0.9)),
            bias=float(relative.mean()),
            kendall_tau=float(order.statistic),
            networks=len(checks),
        )

    def __str__(self) -> str:
        return (
            f"off by {self.median:.1%} (median), {self.p90:.1%} (90% of networks), bias {self.bias:+.1%}, "
            f"Kendall tau {self.kendall_tau:.2f}, on {self.networks} networks it had not seen"
        )


class LatencyPredictor(Protocol):
    """What a search needs to know of latency. Nothing here builds a module or imports torch.

    ``device``: what the figures hold for. ``error``: None if the predictor was never compared with measurements; the
    intervals of its estimates are then a guess, not what nine networks in ten were seen to do: do not show them.
    """

    @property
    def device(self) -> Device: ...

    @property
    def error(self) -> HeldOutError | None: ...

    def predict(self, spec: ArchSpec, resolution_px: int | None = None) -> LatencyEstimate:
        """Latency of ``spec`` at ``resolution_px`` (default: its own)."""
        ...

    def predict_many(self, specs: Iterable[ArchSpec]) -> list[LatencyEstimate]:
        """Latencies at each spec's own resolution, in order."""
        ...

    def layer_ms(self, spec: ArchSpec) -> list[tuple[str, float]]:
        """(path, ms) of every operation in execution order; they sum to the predicted latency."""
        ...

    def save(self, path: Path) -> None:
        """Write the predictor as JSON, whole or not at all; ``nas.latency.calibrate.load`` reads it."""
        ...


def error_text(predictor: LatencyPredictor) -> str:
    """How far off the predictor was on networks that it did not see."""
    return str(predictor.error) if predictor.error else "never held against measurements"


class _SumPredictor(ABC):
    """A predictor whose latency is a sum over operations; what a block costs is kept."""

    def __init__(self, *, low: float, high: float) -> None:
        self._low, self._high = low, high
        self._block = lru_cache(maxsize=65536)(self._price_block)

    @abstractmethod
    def op_ms(self, op: Op) -> float:
        """Share of one operation, in ms."""

    def predict(self, spec: ArchSpec, resolution_px: int | None = None) -> LatencyEstimate:
        """Latency of ``spec`` at ``resolution_px`` (default: its own)."""
        stem = stem_op(spec, resolution_px or spec.resolution_px)
        latency_ms, px, channels = self.op_ms(stem), stem.out_px, spec.stem.channels
        for stage in spec.stages:
            for block in stage.blocks:
                for repeat in range(block.repeats):
                    stride = block.stride if repeat == 0 else 1
                    cost_ms, px = self._block(block, stride, channels, px, spec.activation, spec.squeeze_excite)
                    latency_ms, channels = latency_ms + cost_ms, block.channels
        latency_ms += sum(self.op_ms(op) for op in head_ops(spec, px))
        return LatencyEstimate(latency_ms=latency_ms, low_ms=latency_ms * self._low, high_ms=latency_ms * self._high)

    def predict_many(self, specs: Iterable[ArchSpec]) -> list[LatencyEstimate]:
        """Latencies at each spec's own resolution, in order."""
        return [self.predict(spec) for spec in specs]

    def layer_ms(self, spec: ArchSpec) -> list[tuple[str, float]]:
        """(path, ms) of every operation in execution order; they sum to the predicted latency."""
        return [(op.path, self.op_ms(op)) for op in network_ops(spec)]

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The predictor as plain data."""

    def save(self, path: Path) -> None:
        """Write the predictor as JSON, whole or not at all; ``nas.latency.calibrate.load`` reads it."""
        write_text_atomically(path, json.dumps({"format": FORMAT, **self.to_dict()}, indent=1) + "\n")

    def _price_block(
        self, block: BlockSpec, stride: int, in_channels: int, px: int, activation: str, se: SqueezeExcite
    ) -> tuple[float, int]:
        ops = block_ops(block, stride, in_channels, px, activation, se)
        return sum(self.op_ms(op) for op in ops), ops[-1].out_px


class KernelSumPredictor(_SumPredictor):
    """Every operation is priced by its work, the bytes it moves and a constant, per class; a network is their sum.

    ``checks`` are networks that the fit of ``prices`` did not see: they give the error and the interval.
    """

    def __init__(self, *, device: Device, prices: Prices, checks: Sequence[Check]) -> None:
        self.device, self.prices, self.checks = device, prices, tuple(checks)
        self.error = HeldOutError.of(self.checks)
        ratios = [check.measured_ms / check.predicted_ms for check in self.checks]
        low, high = np.quantile(ratios, _INTERVAL).tolist()
        super().__init__(low=min(low, 1.0), high=max(high, 1.0))

    def op_ms(self, op: Op) -> float:
        """Share of one operation, in ms."""
        prices = self.prices
        return sum(value * prices.of(name) for name, value in op_features(op, prices.lane))

    def to_dict(self) -> dict[str, Any]:
        """The predictor as plain data; the error is for people, a reader works it out from the checks."""
        return {
            "device": self.device.to_dict(),
            "error": asdict(self.error),
            "lane": self.prices.lane,
            "scale": self.prices.scale,
            "prices": dict(self.prices.values),
            "checks": [asdict(check) for check in self.checks],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> KernelSumPredictor:
        """The predictor that ``to_dict`` wrote. Raises: KeyError or TypeError for other data."""
        prices = Prices(values=data["prices"], scale=data["scale"], lane=data["lane"])
        checks = [Check(**check) for check in data["checks"]]
        return cls(device=Device.from_dict(data["device"]), prices=prices, checks=checks)


class MacsPredictor(_SumPredictor):
    """``ms_per_gmac`` ms per 10^9 multiply-adds: a crude stand-in that needs no calibration and no device.

    It ranks networks by multiply-adds, which on real devices they are not ranked by; for quick tries and tests. Its
    interval is the factor by which published mobile networks differ around their middle.
    """

    def __init__(self, ms_per_gmac: float) -> None:
        check_number("latency.ms_per_gmac", ms_per_gmac, low=0, open_low=True)
        self.ms_per_gmac = ms_per_gmac
        version = f"{ms_per_gmac:g} ms per GMAC"
        self.device = Device(processor="no device", cores=1, backend="macs", backend_version=version, os="a formula")
        self.error: HeldOutError | None = None
        super().__init__(low=1 / _MACS_FACTOR, high=_MACS_FACTOR)

    def op_ms(self, op: Op) -> float:
        """Share of one operation, in ms."""
        return op.macs * 1e-9 * self.ms_per_gmac

    def to_dict(self) -> dict[str, Any]:
        """The predictor as plain data."""
        return {"device": self.device.to_dict(), "ms_per_gmac": self.ms_per_gmac}
