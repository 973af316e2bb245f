"""Interface of latency predictors, their estimates and held-out errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol

import numpy as np
from scipy.stats import kendalltau
from scipy.stats import t as student

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.latency.device import Device

_TAIL: Final = 0.05  # share of networks beyond each end of an interval
_ENOUGH_FOR_QUANTILES: Final = 40


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


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutCheck:
    """Measured and predicted latency of one network that the fit did not see."""

    name: str
    measured_ms: float
    predicted_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutError:
    """Error of a predictor on networks that its fit did not see.

    ``median`` and ``p90``: quantiles of |predicted / measured - 1|; ``within_5`` and ``within_10``: share of networks
    where that is at most 5 and 10%; ``bias``: mean of predicted / measured - 1; ``kendall_tau``: rank correlation of
    predicted and measured latencies, 1 for the same order; ``networks``: their number.
    """

    median: float
    p90: float
    within_5: float
    within_10: float
    bias: float
    kendall_tau: float
    networks: int

    @classmethod
    def of(cls, checks: Sequence[HeldOutCheck]) -> HeldOutError:
        """Error over ``checks``.

        Raises: NasError for fewer than two.
        """
        if len(checks) < 2:
            raise NasError(f"held-out error: {len(checks)} networks are too few; at least 2 are needed.")
        relative = np.array([check.predicted_ms / check.measured_ms - 1 for check in checks])
        order = kendalltau([check.predicted_ms for check in checks], [check.measured_ms for check in checks])
        return cls(
            median=float(np.median(np.abs(relative))),
            p90=float(np.quantile(np.abs(relative), 0.9)),
            within_5=float(np.mean(np.abs(relative) <= 0.05)),
            within_10=float(np.mean(np.abs(relative) <= 0.1)),
            bias=float(relative.mean()),
            kendall_tau=float(order.statistic),
            networks=len(checks),
        )

    def __str__(self) -> str:
        return (
            f"median error {self.median:.1%}, 90th percentile {self.p90:.1%}, bias {self.bias:+z.1%}, "
            f"{self.within_10:.0%} within 10%, Kendall tau {self.kendall_tau:.2f}, on {self.networks} held-out networks"
        )


def prediction_interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Factors (low, high) of a prediction that bound its 90% prediction interval.

    Nine networks in ten are measured between them. ``ratios``: measured / predicted of held-out networks. From 40 on:
    order statistics, shifted outwards so that a new network is covered as often (conformal prediction). For fewer,
    whose order statistics do not reach far enough: Student's t interval for one more draw, of logarithms, with half the
    degrees of freedom, because so few networks also served to select the model. The interval always contains 1.
    """
    if len(ratios) >= _ENOUGH_FOR_QUANTILES:
        outer = (_TAIL * (len(ratios) + 1) - 1) / (len(ratios) - 1)
        low, high = np.quantile(ratios, [outer, 1 - outer]).tolist()
    else:
        logs = np.log(ratios)
        margin = student.ppf(1 - _TAIL, len(logs) // 2) * logs.std(ddof=1) * np.sqrt(1 + 1 / len(logs))
        low, high = np.exp([logs.mean() - margin, logs.mean() + margin]).tolist()
    return min(low, 1.0), max(high, 1.0)


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


def error_text(predictor: LatencyPredictor) -> str:
    """Held-out error of the predictor as text, also where there is none."""
    return str(predictor.error) if predictor.error else "never compared with measurements"
