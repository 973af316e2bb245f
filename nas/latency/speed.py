"""Speed of a machine, as the duration of a small network that stays the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, runtime_checkable

from nas.core.dataclass_io import from_mapping
from nas.core.errors import NasError
from nas.core.validation import check_number
from nas.latency.device import MAX_MS, MIN_MS, Device

if TYPE_CHECKING:
    from nas.latency.predictors.base import LatencyPredictor

_TAIL: Final = 0.05  # share of the time that a machine was faster, or slower, than its range
# Beyond it a machine runs at another speed than the calibration's; the speed probe itself repeats within 1 or 2%.
_NOTABLE_CHANGE: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpeed:
    """Typical speed of a machine during a calibration, and its range.

    ``typical_ms``: median duration of the speed probe (``nas.latency.measure.timer``). ``fast_ms``, ``slow_ms``: 5% and
    95% quantiles: nine tenths of the time, the machine was between them. ``calibrated_ms``: where predictions were
    moved to another speed (``latency.speed=now``), the typical duration during the calibration; the others are then
    relative to the present one.

    Raises: NasError for durations out of range or out of order.
    """

    typical_ms: float
    fast_ms: float
    slow_ms: float
    calibrated_ms: float | None = None

    def __post_init__(self) -> None:
        for field in ("typical_ms", "fast_ms", "slow_ms"):
            check_number(f"speed.{field}", getattr(self, field), low=MIN_MS, high=MAX_MS)
        check_number("speed.calibrated_ms", self.calibrated_ms, low=MIN_MS, high=MAX_MS, optional=True)
        if not self.fast_ms <= self.typical_ms <= self.slow_ms:
            raise NasError(f"speed: fast_ms {self.fast_ms}, typical_ms, slow_ms {self.slow_ms} must be in this order.")

    @classmethod
    def of(cls, probes_ms: Sequence[float], all_ms: Sequence[float] | None = None) -> Self:
        """Speed from durations of the speed probe in ms.

        ``probes_ms``: beside the measurements that count; ``all_ms``: beside all of them (default: the same), for the
        range.
        """
        import numpy as np  # not above: predictors by formula load this module, and no NumPy

        typical_ms = float(np.median(probes_ms))
        fast_ms, slow_ms = np.quantile(probes_ms if all_ms is None else all_ms, [_TAIL, 1 - _TAIL]).tolist()
        return cls(typical_ms=typical_ms, fast_ms=min(fast_ms, typical_ms), slow_ms=max(slow_ms, typical_ms))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> MachineSpeed | None:
        """Speed from the plain data of a calibration file; None for None.

        Raises: NasError for other data.
        """
        return None if data is None else from_mapping(cls, data, "speed")

    def to_dict(self) -> dict[str, float]:
        """The speed as plain data."""
        return asdict(self)

    def around(self, typical_ms: float) -> MachineSpeed:
        """The same relative range around another typical duration of the probe."""
        low, high = self.range
        return MachineSpeed(
            typical_ms=typical_ms,
            fast_ms=typical_ms * low,
            slow_ms=typical_ms * high,
            calibrated_ms=self.calibrated_ms or self.typical_ms,
        )

    @property
    def moved(self) -> float | None:
        """How many times longer networks take than at the calibration's typical speed.

        None where predictions hold for that.
        """
        return None if self.calibrated_ms is None else self.typical_ms / self.calibrated_ms

    def slowdown(self, probe_ms: float) -> float:
        """How many times longer networks take where the probe takes ``probe_ms``."""
        return probe_ms / self.typical_ms

    def is_left(self, probe_ms: float) -> bool:
        """Whether ``probe_ms`` is out of the range, and more than 5% off the typical."""
        low, high = self.range
        factor = self.slowdown(probe_ms)
        return max(factor, 1 / factor) > 1 + _NOTABLE_CHANGE and not low <= factor <= high

    @property
    def range(self) -> tuple[float, float]:
        """Factors of a latency at the fast and at the slow end of the range."""
        return self.fast_ms / self.typical_ms, self.slow_ms / self.typical_ms

    @property
    def range_text(self) -> str:
        """The range as factors of a latency: ``0.98 to 1.07``."""
        low, high = self.range
        return f"{low:.2f} to {high:.2f}"

    def __str__(self) -> str:
        held = f"; here they are stated as {self.moved:.2f} times that (latency.speed=now)" if self.moved else ""
        return (
            f"during the calibration the machine's speed moved so that networks took {self.range_text} times their "
            f"typical latency{held}"
        )


@runtime_checkable
class HasSpeed(Protocol):
    """Predictor calibrated on this machine, which is moved to another speed of it."""

    @property
    def device(self) -> Device: ...
    @property
    def speed(self) -> MachineSpeed | None: ...
    def at_speed(self, typical_ms: float) -> LatencyPredictor: ...


def speed_of(predictor: object) -> MachineSpeed | None:
    """Speed of the machine at which latencies of ``predictor`` hold.

    None where it is not known: only calibrations of this machine have it, those of older versions do not.
    """
    speed: MachineSpeed | None = getattr(predictor, "speed", None)
    return speed


def known_speed(predictor: object) -> MachineSpeed:
    """``speed_of``, where it is needed.

    Raises: NasError if it is not known.
    """
    speed = speed_of(predictor)
    if speed is None:
        raise NasError(
            "latency.speed now: the calibration does not say at which speed of the machine its latencies hold; "
            "calibrate again, or leave latency.speed out."
        )
    return speed
