"""Held-out error of a predictor, and the prediction interval derived from it.

Held-out networks are those that its fit did not see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from nas.core.dataclass_io import from_mapping
from nas.core.errors import NasError, quoted
from nas.core.statistics import kendall_tau
from nas.core.validation import check_number
from nas.latency.device import MAX_MS, MIN_MS

_TAIL: Final = 0.05  # share of networks beyond each end of an interval
_ENOUGH_FOR_QUANTILES: Final = 40
# Quantiles 1 - _TAIL of Student's t distribution with 1, 2, ... degrees of freedom; SciPy takes long to load for them.
_STUDENT: Final = (
    6.313751514675037, 2.9199855803537242, 2.3533634348018233, 2.1318467863266495, 2.0150483733330233,
    1.9431802805153042, 1.8945786050900062, 1.8595480375308973, 1.833112932656237, 1.8124611228116756,
    1.7958848187040433, 1.782287555649319, 1.7709333959868725, 1.761310135774891, 1.753050355692572,
    1.7458836762762495, 1.7396067260750725, 1.7340636066175388, 1.7291328115213682,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutCheck:
    """Measured and predicted latency of one network that the fit did not see.

    Raises: NasError for latencies out of range.
    """

    name: str
    measured_ms: float
    predicted_ms: float

    def __post_init__(self) -> None:
        for field in ("measured_ms", "predicted_ms"):
            check_number(field, getattr(self, field), low=MIN_MS, high=MAX_MS)


def checks_of(data: object) -> list[HeldOutCheck]:
    """Checks from the plain data of a calibration file.

    Raises: NasError naming the check and its field.
    """
    if not isinstance(data, list):
        raise NasError(f"checks: must be a list of networks with their latencies, not {quoted(data)}.")
    return [from_mapping(HeldOutCheck, check, f"checks[{index}]") for index, check in enumerate(data)]


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
        order = kendall_tau([check.predicted_ms for check in checks], [check.measured_ms for check in checks])
        return cls(
            median=float(np.median(np.abs(relative))),
            p90=float(np.quantile(np.abs(relative), 0.9)),
            within_5=float(np.mean(np.abs(relative) <= 0.05)),
            within_10=float(np.mean(np.abs(relative) <= 0.1)),
            bias=float(relative.mean()),
            kendall_tau=order,
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
        margin = _STUDENT[len(logs) // 2 - 1] * logs.std(ddof=1) * np.sqrt(1 + 1 / len(logs))
        low, high = np.exp([logs.mean() - margin, logs.mean() + margin]).tolist()
    return min(low, 1.0), max(high, 1.0)
