"""Held-out error of a predictor, and the prediction interval derived from it.

Held-out networks are those that its fit did not see.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from nas.core.dataclass_io import from_mapping
from nas.core.errors import NasError, quoted
from nas.core.statistics import kendall_tau
from nas.core.validation import check_number
from nas.latency.arrays import FloatArray
from nas.latency.device import MAX_MS, MIN_MS

_OUTLIER_DEVIATIONS: Final = 3.0
_TAIL: Final = 0.05  # share of networks beyond each end of an interval
_ENOUGH_FOR_QUANTILES: Final = 40
MAX_NOISE: Final = 100.0  # relative error of a measurement
_MAX_MEASUREMENTS: Final = 1000
_NORMAL: Final = 1.6449  # 95% quantile of the normal distribution
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

    ``measurements``: the number of measurements whose mean is ``measured_ms``.

    Raises: NasError for figures out of range.
    """

    name: str
    measured_ms: float
    predicted_ms: float
    measurements: int = 1

    def __post_init__(self) -> None:
        check_number("measurements", self.measurements, low=1, high=_MAX_MEASUREMENTS, whole=True)
        for field in ("measured_ms", "predicted_ms"):
            check_number(field, getattr(self, field), low=MIN_MS, high=MAX_MS)

    @classmethod
    def of(cls, name: str, measured_ms: Sequence[float], predicted_ms: float) -> HeldOutCheck:
        """Check of the mean of measurements in ms."""
        return cls(
            name=name,
            measured_ms=statistics.fmean(measured_ms),
            predicted_ms=predicted_ms,
            measurements=len(measured_ms),
        )


def checks_of(data: object) -> list[HeldOutCheck]:
    """Checks from the plain data of a calibration file.

    Raises: NasError naming the check and its field.
    """
    if not isinstance(data, list):
        raise NasError(f"checks: must be a list of networks with their latencies, not {quoted(data)}.")
    return [from_mapping(HeldOutCheck, check, f"checks[{index}]") for index, check in enumerate(data)]


def outliers_of(
    checks: Sequence[HeldOutCheck], *, deviations: float = _OUTLIER_DEVIATIONS, least: float = 0.0
) -> tuple[HeldOutCheck, ...]:
    """Checks that are far off, relative to the bulk of all.

    By more than ``deviations`` standard deviations of the bulk, and by more than ``least`` (relative).
    """
    errors = np.log([check.measured_ms / check.predicted_ms for check in checks])
    distances = np.abs(errors - np.median(errors))
    bulk = 1.4826 * np.median(distances)  # the standard deviation, if the bulk is normal
    limit = max(deviations * bulk, math.log1p(least))
    return tuple(check for check, distance in zip(checks, distances, strict=True) if distance > limit)


def scaled_checks(checks: Sequence[HeldOutCheck], factor: float) -> list[HeldOutCheck]:
    """Checks on a machine where all latencies are ``factor`` times as long."""
    return [
        replace(check, measured_ms=check.measured_ms * factor, predicted_ms=check.predicted_ms * factor)
        for check in checks
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorSources:
    """Shares of measuring and of the model in a held-out error.

    All are root mean squares, relative to the latency.
    ``total``: of predicted / measured - 1. ``measuring``: error of the measured latencies, and ``measuring_error`` its
    standard error, from ``repeated`` networks that were measured again, ``repetitions`` times in all. ``model``: the
    rest, sqrt(total^2 - measuring^2); None where that is not significantly above 0. ``model_limit``: its upper 95%
    confidence limit.
    """

    total: float
    measuring: float
    measuring_error: float
    repeated: int
    repetitions: int
    model: float | None
    model_limit: float

    @classmethod
    def of(cls, checks: Sequence[HeldOutCheck], noise: float | None) -> ErrorSources | None:
        """Sources of the error over ``checks``.

        ``noise``: relative error of one measurement, root mean square. None if that is, or if no check was measured
        repeatedly.
        """
        repetitions = sum(check.measurements - 1 for check in checks)
        if noise is None or not repetitions:
            return None
        total = float(np.sqrt(np.mean(np.square(_relative_errors(checks)))))
        measuring = noise * math.sqrt(statistics.fmean(1 / check.measurements for check in checks))
        rest = total**2 - measuring**2
        lower, upper = _margins(rest, measuring, repetitions, len(checks))
        is_separable, limit = rest > lower, math.sqrt(max(0.0, rest) + upper)
        return cls(
            total=total,
            measuring=measuring,
            measuring_error=measuring / math.sqrt(2 * repetitions),
            repeated=sum(check.measurements > 1 for check in checks),
            repetitions=repetitions,
            model=math.sqrt(rest) if is_separable else None,
            # Measuring adds to the error of the model; that they cancel out in the total is rare where it dominates.
            model_limit=limit if is_separable else min(limit, total),
        )

    @property
    def is_mostly_measuring(self) -> bool:
        """Whether measuring causes at least half of the squared error."""
        return 2 * self.measuring**2 >= self.total**2

    @property
    def repeated_text(self) -> str:
        """What tells the error of measuring."""
        times = 1 + self.repetitions / self.repeated
        return f"{self.repeated} networks measured {'twice' if times == 2 else f'{times:.3g} times'}"

    def __str__(self) -> str:
        measuring = f"{self.measuring:.1%} ± {self.measuring_error:.1%} by measuring ({self.repeated_text})"
        if self.model is None:
            return (
                f"RMS error {self.total:.1%}, not separable from {measuring}: at most {self.model_limit:.1%} by the "
                "model (95% confidence)"
            )
        return f"RMS error {self.total:.1%}: {measuring} and {self.model:.1%} by the model, added as squares"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutError:
    """Error of a predictor on networks that its fit did not see.

    ``median`` and ``p90``: quantiles of |predicted / measured - 1|; ``within_5`` and ``within_10``: share of networks
    where that is at most 5 and 10%; ``bias``: mean of predicted / measured - 1; ``kendall_tau``: rank correlation of
    predicted and measured latencies, 1 for the same order; ``networks``: their number; ``sources``: what measuring has
    to do with it, None if unknown.
    """

    median: float
    p90: float
    within_5: float
    within_10: float
    bias: float
    kendall_tau: float
    networks: int
    sources: ErrorSources | None = None

    @classmethod
    def of(cls, checks: Sequence[HeldOutCheck], noise: float | None = None) -> HeldOutError:
        """Error over ``checks``.

        ``noise``: relative error of one measurement, root mean square; None if unknown.

        Raises: NasError for fewer than two.
        """
        if len(checks) < 2:
            raise NasError(f"held-out error: {len(checks)} networks are too few; at least 2 are needed.")
        relative = _relative_errors(checks)
        order = kendall_tau([check.predicted_ms for check in checks], [check.measured_ms for check in checks])
        return cls(
            median=float(np.median(np.abs(relative))),
            p90=float(np.quantile(np.abs(relative), 0.9)),
            within_5=float(np.mean(np.abs(relative) <= 0.05)),
            within_10=float(np.mean(np.abs(relative) <= 0.1)),
            bias=float(relative.mean()),
            kendall_tau=order,
            networks=len(checks),
            sources=ErrorSources.of(checks, noise),
        )

    def __str__(self) -> str:
        return (
            f"median error {self.median:.1%}, 90th percentile {self.p90:.1%}, bias {self.bias:+z.1%}, "
            f"{self.within_10:.0%} within 10%, Kendall tau {self.kendall_tau:.2f}, on {self.networks} held-out networks"
        )


def _relative_errors(checks: Sequence[HeldOutCheck]) -> FloatArray:
    """predicted / measured - 1, shape (checks,)."""
    return np.array([check.predicted_ms / check.measured_ms - 1 for check in checks])


def _margins(rest: float, measuring: float, repetitions: int, networks: int) -> tuple[float, float]:
    """Distances of ``rest`` from its lower and its upper 95% confidence limit.

    ``rest``: total^2 - measuring^2. So few repetitions tell the noise inexactly; and over so few networks neither is
    its sample as large as on average, nor does its product with the errors of the model vanish. Both are combined as by
    Zou and Donner, "Construction of confidence limits about effect measures", Statistics in Medicine 27, 2008.
    """
    squared = measuring**2
    sample = _NORMAL * math.sqrt((2 * squared**2 + 4 * squared * max(0.0, rest)) / networks)
    low, high = (repetitions / _chi_square(repetitions, sign * _NORMAL) for sign in (1, -1))
    return math.hypot(sample, squared * (high - 1)), math.hypot(sample, squared * (1 - low))


def _chi_square(freedom: int, normal: float) -> float:
    """Quantile of the chi-square distribution where that of the normal is ``normal``.

    By Wilson and Hilferty's approximation.
    """
    return freedom * max(0.1, 1 - 2 / (9 * freedom) + normal * math.sqrt(2 / (9 * freedom))) ** 3


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
