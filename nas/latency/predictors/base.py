"""Price a spec without building it: what every latency predictor answers, and how far off it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from nas.arch.spec import ArchSpec
from nas.latency.device import Device

if TYPE_CHECKING:
    from nas.latency.predictors.held_out import HeldOutError


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


class LatencyPredictor(Protocol):
    """What a search needs to know of latency. Nothing here builds a module or imports torch.

    ``kind``: its name in files. ``device``: what the figures hold for. ``error``: None if the predictor was never
    compared with measurements; the intervals of its estimates are then a guess, not what nine networks in ten were
    seen to do: do not show them.
    """

    kind: ClassVar[str]

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

    def refined(self, measured: Sequence[tuple[ArchSpec, float]]) -> LatencyPredictor:
        """A predictor that has learned from networks and their measured ms; this one stays as it is.

        Raises: NasError if it cannot learn.
        """
        ...

    def to_dict(self) -> dict[str, Any]:
        """The predictor as plain data, which ``from_dict`` of its class reads."""
        ...


def error_text(predictor: LatencyPredictor) -> str:
    """How far off the predictor was on networks that it did not see."""
    return str(predictor.error) if predictor.error else "never held against measurements"
