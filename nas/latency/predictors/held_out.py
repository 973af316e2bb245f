"""How far off a predictor is, on networks that it did not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from nas.core.errors import NasError
from nas.core.rank_correlation import kendall_tau

_TAIL: Final = 0.05  # of networks on either side of an interval
_ENOUGH_FOR_QUANTILES: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutCheck:
    """One network that the predictor did not see: what was measured and what it says."""

    name: str
    measured_ms: float
    predicted_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutError:
    """How wrong a predictor is on networks that it did not see.

    ``median`` and ``p90``: of |predicted / measured - 1|; ``within_5`` and ``within_10``: share of networks where that
    is at most 5 and 10%; ``bias``: mean of predicted / measured - 1; ``kendall_tau``: agreement of the two orders, 1
    is the same.
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
        """The error over ``checks``. Raises: NasError for fewer than two."""
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
            f"off by {self.median:.1%} (median), {self.p90:.1%} (90% of networks), bias {self.bias:+z.1%}, "
            f"{self.within_10:.0%} within 10%, Kendall tau {self.kendall_tau:.2f}, on {self.networks} networks it had "
            "not seen"
        )


def prediction_interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Factors of a prediction between which nine networks in ten measure, from measured / predicted of others.

    Order statistics, shifted outwards so that a network not among them is covered as often (conformal prediction);
    for fewer than 40, where these do not reach far enough, Student's interval for one more draw, of logarithms, with
    half the degrees of freedom: so few were also used to choose what foresees them.
    """
    if len(ratios) >= _ENOUGH_FOR_QUANTILES:
        outer = (_TAIL * (len(ratios) + 1) - 1) / (len(ratios) - 1)
        low, high = np.quantile(ratios, [outer, 1 - outer]).tolist()
    else:
        from scipy.special import stdtrit  # few predictors need it, and it loads for a tenth of a second

        logs = np.log(ratios)
        reach = stdtrit(len(logs) // 2, 1 - _TAIL) * logs.std(ddof=1) * np.sqrt(1 + 1 / len(logs))
        low, high = np.exp([logs.mean() - reach, logs.mean() + reach]).tolist()
    return min(low, 1.0), max(high, 1.0)
