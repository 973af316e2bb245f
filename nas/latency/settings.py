"""Which latency is meant and how it is estimated, checked in milliseconds and without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nas.arch.checks import check_number
from nas.arch.errors import unknown

MEASURED_BACKENDS: Final = ("onnxruntime", "torch")
BACKENDS: Final = (*MEASURED_BACKENDS, "macs")
# On one server core, the fewest networks that a calibration can rest on, and those that check it, take 9 to 11 s.
LEAST_BUDGET_S: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySettings:
    """The latency that a search optimises.

    ``backend``: what runs the network; ``macs`` runs nothing and prices ``ms_per_gmac`` ms per 10^9 multiply-adds.
    ``threads`` and ``batch``: one of each is the protocol of the MobileNetV3 paper. ``budget_s``: CPU seconds that a
    first calibration may take, 15 or more (a slower machine needs more, and says so); ``seed`` draws its networks.
    ``recalibrate``: measure anew even if a calibration is kept. ``calibration``: file to take instead.
    ``allow_other_device``: take it though it names another device.

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
        check_number("latency.threads", self.threads, low=1, whole=True)
        check_number("latency.batch", self.batch, low=1, whole=True)
        check_number("latency.seed", self.seed, low=0, whole=True)
        check_number("latency.budget_s", self.budget_s, low=LEAST_BUDGET_S)
        check_number("latency.ms_per_gmac", self.ms_per_gmac, low=0, open_low=True)
