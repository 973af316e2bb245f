"""Interface of latency predictors, their estimates and held-out errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, runtime_checkable

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, quoted
from nas.exporters.rewriting.forms import Forms
from nas.latency.device import Device

if TYPE_CHECKING:
    from nas.latency.predictors.held_out import HeldOutError

_LEAST_GUESS: Final = 0.0005  # share of the latency that is worth a remark


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyEstimate:
    """Predicted latency with its 90% prediction interval, in ms.

    ``low_ms``, ``high_ms``: about nine networks in ten are measured between them. If the ``error`` of the predictor is
    None (it was never compared with measurements), they are a guess.
    """

    latency_ms: float
    low_ms: float
    high_ms: float

    def __post_init__(self) -> None:
        if not 0 <= self.low_ms <= self.latency_ms <= self.high_ms:
            raise ValueError(f"{self}: must be ordered and non-negative.")

    def __str__(self) -> str:
        return f"{self.latency_ms:.2f} ms ({self.low_ms:.2f} to {self.high_ms:.2f})"


class LatencyPredictor(Protocol):
    """Interface of latency predictors; none of it builds a module or imports torch.

    ``kind``: its name in files. ``device``: what its latencies are valid for. ``error``: None if the predictor was
    never compared with measurements; the intervals of its estimates are then a guess without measured coverage: do not
    show them.
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
        """(path, ms) per operation in execution order; they sum to the prediction."""
        ...

    def refined(self, measured: Sequence[tuple[ArchSpec, float]]) -> LatencyPredictor:
        """New predictor that has learned from networks and their measured ms.

        This one is unchanged.

        Raises: NasError if this kind of predictor cannot learn.
        """
        ...

    def to_dict(self) -> dict[str, Any]:
        """The predictor as plain data, which ``from_dict`` of its class reads."""
        ...


@runtime_checkable
class PricesForms(Protocol):
    """A predictor that can price every block in the form that is exported.

    ``rewrites``: whether it does, instead of pricing plain blocks.
    """

    rewrites: bool

    def forms(self, spec: ArchSpec, resolution_px: int | None = None) -> Forms | None:
        """Forms of the blocks of ``spec`` that are priced; None for plain ones."""
        ...

    def with_rewrites(self, rewrites: bool) -> LatencyPredictor:
        """This predictor with every block in its fastest form, or in the plain one."""
        ...


@runtime_checkable
class KnowsMeasured(Protocol):
    """A predictor that knows which kinds of kernels or operations were measured."""

    def unmeasured(self, spec: ArchSpec) -> dict[str, float]:
        """Shares of the latency of ``spec``, by kind that was not measured."""
        ...


def unmeasured_remark(predictor: LatencyPredictor, spec: ArchSpec) -> str:
    """Say what of the latency of ``spec`` is a guess.

    It is what the calibration did not measure: those of older versions had no detectors and segmenters. Empty if there
    is nothing.
    """
    shares = predictor.unmeasured(spec) if isinstance(predictor, KnowsMeasured) else {}
    if sum(shares.values()) < _LEAST_GUESS:
        return ""
    kinds = ", ".join(sorted(shares, key=lambda kind: -shares[kind]))
    return (
        f"{sum(shares.values()):.1%} of the latency is a guess: the calibration measured no {kinds}; a new one "
        "(python -m nas.calibrate) may have them"
    )


def forms_of(predictor: LatencyPredictor, spec: ArchSpec, resolution_px: int | None = None) -> Forms | None:
    """Forms of the blocks of ``spec`` that ``predictor`` prices; None for plain ones."""
    return predictor.forms(spec, resolution_px) if isinstance(predictor, PricesForms) else None


def with_plain_blocks(predictor: LatencyPredictor) -> LatencyPredictor:
    """``predictor`` with every block in the plain form; itself if it prices no other."""
    if isinstance(predictor, PricesForms) and predictor.rewrites:
        return predictor.with_rewrites(False)
    return predictor


def rewrites_of(data: Mapping[str, Any]) -> bool:
    """Whether the predictor in a file prices rewritten blocks.

    Older files do not say so, and do not. Raises: NasError for another value.
    """
    value = data.get("rewrites", False)
    if not isinstance(value, bool):
        raise NasError(f"rewrites {quoted(value)}: must be true or false.")
    return value


def forms_remark(predictor: LatencyPredictor) -> str:
    """Forms in which a predictor prices blocks, as text; empty for plain ones.

    It follows the device.
    """
    return ", every block in its fastest form" if isinstance(predictor, PricesForms) and predictor.rewrites else ""


def error_text(predictor: LatencyPredictor) -> str:
    """Held-out error of the predictor as text, also where there is none."""
    return str(predictor.error) if predictor.error else "never compared with measurements"
