"""Multiply-adds times a constant: a proxy for latency without a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from nas.arch.ops.network import Op
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.core.validation import check_number
from nas.latency.device import Device
from nas.latency.predictors.additive import SumPredictor

if TYPE_CHECKING:
    from nas.latency.predictors.held_out import HeldOutError

# Between published mobile networks the time per multiply-add differs by a factor of four on one core.
_MACS_FACTOR: Final = 3.0


class MacsPredictor(SumPredictor):
    """Predictor of ``ms_per_gmac`` ms per 10^9 multiply-adds, without calibration.

    It ranks networks by multiply-adds, which is not their ranking on real devices: use it for quick trials and tests.
    Its interval is the factor by which published mobile networks differ around their median.
    """

    kind: ClassVar[str] = "macs"

    def __init__(self, ms_per_gmac: float) -> None:
        check_number("latency.ms_per_gmac", ms_per_gmac, low=0, high=1e9, open_low=True)
        self.ms_per_gmac = ms_per_gmac
        version = f"{ms_per_gmac:g} ms per GMAC"
        self.device = Device(processor="no device", cores=1, backend="macs", backend_version=version, os="a formula")
        self.error: HeldOutError | None = None
        super().__init__(low=1 / _MACS_FACTOR, high=_MACS_FACTOR)

    def op_ms(self, op: Op) -> float:
        """Latency of one operation in ms."""
        return op.macs * 1e-9 * self.ms_per_gmac

    def to_dict(self) -> dict[str, Any]:
        """The predictor as plain data."""
        return {"kind": self.kind, "device": self.device.to_dict(), "ms_per_gmac": self.ms_per_gmac}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MacsPredictor:
        """Predictor from the plain data of ``to_dict``.

        Raises: KeyError or TypeError for other data.
        """
        return cls(data["ms_per_gmac"])

    def refined(self, measured: Sequence[tuple[ArchSpec, float]]) -> MacsPredictor:
        """Unsupported: a formula has nothing to learn.

        Raises: NasError, always.
        """
        raise NasError("latency=macs: a formula cannot learn from measurements; set latency.refine=false.")
