"""Which latency is meant and how it is estimated, checked in milliseconds and without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from nas.arch.errors import NasError, unknown

MEASURED_BACKENDS: Final = ("onnxruntime", "torch")
BACKENDS: Final = (*MEASURED_BACKENDS, "macs")


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySettings:
    """The latency that a search optimises.

    ``backend``: what runs the network; ``macs`` runs nothing and prices ``ms_per_gmac`` ms per 10^9 multiply-adds.
    ``threads`` and ``batch``: one of each is the protocol of the MobileNetV3 paper. ``budget_s``: CPU seconds that a
    first calibration may take; ``seed`` draws its networks. ``recalibrate``: measure anew even if a calibration is
    kept. ``calibration``: file to take instead. ``allow_other_device``: take it though it names another device.

    Raises: NasError for values out of range.
    """

    backend: str = "onnxruntime"
    threads: int = 1
    batch: int = 1
    budget_s: float = 60.0
    seed: int = 0
    recalibrate: bool = False
    calibration: str | None = None
    allow_other_device: bool = False
    ms_per_gmac: float = 30.0

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise unknown("latency.backend", self.backend, BACKENDS)
        for name in ("threads", "batch"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise NasError(f"latency.{name}: {value!r} must be a whole number of at least 1.")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise NasError(f"latency.seed: {self.seed!r} must be a whole number of at least 0.")
        for name in ("budget_s", "ms_per_gmac"):
            value = getattr(self, name)
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not (math.isfinite(value) and value > 0)
            ):
                raise NasError(f"latency.{name}: {value!r} must be a positive number.")
