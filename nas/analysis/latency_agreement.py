"""Agreement of predicted and measured latency; coverage of prediction intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from nas.analysis.significance import SIGNIFICANCE_LEVEL
from nas.core.errors import NasError
from nas.core.formatting import changed_command, plural
from nas.core.statistics import binomial_tail, kendall_tau
from nas.core.validation import check_number
from nas.study.trial_record import Outcome, TrialRecord

_UNDECIDED_SHARE: Final = 0.1
_RECALIBRATION: Final = "python -m nas.calibrate device=cpu"
OUTSIDE_SHARE: Final = 0.1  # expected share of measurements outside of a 90% interval


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyPair:
    """Predicted and measured latency of one network in ms.

    The prediction was made before the measurement. ``low_ms``, ``high_ms``: bounds of its 90% interval, both None for
    a predictor without intervals. ``spread_ms``, ``error_ms``: spread and standard error of the measurement.
    ``winner``: whether it is a winner.

    Raises: NasError for latencies that are not positive, or only one bound.
    """

    name: str
    predicted_ms: float
    measured_ms: float
    low_ms: float | None = None
    high_ms: float | None = None
    spread_ms: float | None = None
    error_ms: float | None = None
    winner: bool = False

    def __post_init__(self) -> None:
        for field in ("predicted_ms", "measured_ms"):
            check_number(field, getattr(self, field), low=0, open_low=True)
        if (self.low_ms is None) != (self.high_ms is None):
            raise NasError(
                f"{self.name}: low_ms {self.low_ms} and high_ms {self.high_ms} must both be set, or both be null."
            )

    @property
    def ratio(self) -> float:
        """Predicted / measured."""
        return self.predicted_ms / self.measured_ms

    @property
    def outside(self) -> bool:
        """Whether the measurement lies outside of the (closed) prediction interval."""
        return (
            self.low_ms is not None
            and self.high_ms is not None
            and not (self.low_ms <= self.measured_ms <= self.high_ms)
        )

    def remarks(self, limit_ms: float | None = None) -> list[str]:
        """List deviations from the interval and from ``limit_ms`` in words; empty if none."""
        remarks = []
        if self.outside:
            side = "below" if self.measured_ms < (self.low_ms or 0.0) else "above"
            remarks.append(
                f"measured {self.measured_ms:.2f} ms, {side} the 90% interval of the prediction "
                f"({self.low_ms:.2f} to {self.high_ms:.2f} ms)"
            )
        if limit_ms is not None and self.measured_ms > limit_ms:
            remarks.append(f"measured {self.measured_ms:.2f} ms, above the limit of {limit_ms:g} ms")
        return remarks


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyAgreement:
    """Predicted and measured latencies of all measured networks of a study.

    ``refined``: the predictor was refined with measurements of the study. ``scale``: factor by which the study corrects
    predictions; those of ``pairs`` are not corrected. ``recalibration``: command that calibrates the device again.
    """

    pairs: tuple[LatencyPair, ...]
    refined: bool = False
    scale: float = 1.0
    recalibration: str = _RECALIBRATION

    @property
    def kendall_tau(self) -> float | None:
        """Kendall's tau-b of predicted and measured latencies; 1 is equal order.

        None with fewer than two pairs, or if all values of one side are equal.
        """
        tau = kendall_tau([pair.predicted_ms for pair in self.pairs], [pair.measured_ms for pair in self.pairs])
        return None if math.isnan(tau) else tau

    @property
    def mean_ratio(self) -> float | None:
        """Mean of predicted / measured latency; None without pairs."""
        return sum(pair.ratio for pair in self.pairs) / len(self.pairs) if self.pairs else None

    @property
    def interval_count(self) -> int:
        """Number of pairs with a prediction interval."""
        return sum(pair.low_ms is not None for pair in self.pairs)

    @property
    def outside(self) -> int:
        """Number of measurements outside of their prediction interval."""
        return sum(pair.outside for pair in self.pairs)

    @property
    def coverage(self) -> float | None:
        """Share of measurements inside of their interval; None without intervals."""
        return 1 - self.outside / self.interval_count if self.interval_count else None

    @property
    def p_value(self) -> float:
        """One-sided p-value of the exact binomial test for too many measurements outside.

        Null hypothesis: each lies outside of its 90% interval with a probability of 0.1. 1 without intervals.
        """
        return binomial_tail(self.outside, self.interval_count, OUTSIDE_SHARE)

    @property
    def warning(self) -> str:
        """Warning about a miscalibrated predictor and its remedy; empty if p >= 0.05."""
        if self.p_value >= SIGNIFICANCE_LEVEL:
            return ""
        refine = "" if self.refined else ", or set latency.refine=true"
        return (
            f"The latency predictor's intervals are too narrow: {self.outside} of {self.interval_count} measurements "
            f"lie outside of their 90% interval (p = {self.p_value:.2g}, one-sided binomial test). "
            f"Calibrate again ({self.recalibration}){refine}, under another study.name."
        )

    def __str__(self) -> str:
        if not self.pairs:
            return "no network was measured"
        parts = [f"{plural(len(self.pairs), 'network')} measured"]
        if self.kendall_tau is not None:
            parts.append(f"Kendall tau {self.kendall_tau:.2f}")
        if self.coverage is not None:
            inside = self.interval_count - self.outside
            parts.append(f"{inside} of {self.interval_count} ({self.coverage:.0%}) inside their 90% interval")
        ratio = f"predicted / measured {self.mean_ratio:.3f} on average"
        if self.scale != 1:
            ratio += f" as calibrated; everywhere else predictions are multiplied by {self.scale:.2f}"
        return ", ".join([*parts, ratio])


def latency_pair(row: TrialRecord, label: str | None = None, *, scale: float = 1.0) -> LatencyPair | None:
    """Return predicted and measured latency of ``row``; None if one is missing.

    ``label``: the name of a winner, None for other rows. ``scale``: correction of the row's prediction that is undone.
    """
    if row.predicted_ms is None or row.measured_ms is None:
        return None
    has_interval = row.latency_low_ms is not None and row.latency_high_ms is not None
    return LatencyPair(
        name=label or f"trial {row.number}",
        predicted_ms=row.predicted_ms / scale,
        measured_ms=row.measured_ms,
        low_ms=row.latency_low_ms / scale if has_interval and row.latency_low_ms is not None else None,
        high_ms=row.latency_high_ms / scale if has_interval and row.latency_high_ms is not None else None,
        spread_ms=row.measured_spread_ms,
        error_ms=row.measured_error_ms,
        winner=label is not None,
    )


def limit_warning(
    rows: Iterable[TrialRecord],
    winners: Iterable[TrialRecord],
    limit_ms: float | None,
    command: str,
    recalibration: str = _RECALIBRATION,
) -> str:
    """Warning that a latency limit is within the predictor's error, or empty.

    It is if a winner that was not measured, or every tenth candidate, has a 90% interval that contains the limit.
    ``command``: of the search; ``recalibration``: command that calibrates the device again.
    """
    if limit_ms is None:
        return ""
    priced = [row for row in rows if row.latency_low_ms is not None and row.latency_high_ms is not None]
    undecided = [row for row in priced if _contains(row, limit_ms)]
    unmeasured = [row for row in winners if row.measured_ms is None and _contains(row, limit_ms)]
    if not unmeasured and len(undecided) < max(1, _UNDECIDED_SHARE * len(priced)):
        return ""
    rejected = sum(row.outcome is Outcome.INFEASIBLE for row in undecided)
    refined = changed_command(command, {"latency.refine": "true", "study.name": "ANOTHER"})
    return (
        f"The limit of {limit_ms:g} ms is within the calibration's error: it lies inside the 90% interval of "
        f"{len(undecided)} of {plural(len(priced), 'candidate')}, of which {rejected} were rejected"
        + (f", and of {plural(len(unmeasured), 'winner')} not measured" if unmeasured else "")
        + f". Calibrate again on an idle machine ({recalibration}) and search under another "
        f"study.name, or let the search measure each candidate before it is trained: {refined}"
    )


def _contains(row: TrialRecord, limit_ms: float) -> bool:
    ends = (row.latency_low_ms, row.latency_high_ms)
    return ends[0] is not None and ends[1] is not None and ends[0] <= limit_ms <= ends[1]


def latency_agreement(
    rows: Iterable[TrialRecord], labels: Mapping[int, str], *, scale: float = 1.0, **facts: Any
) -> LatencyAgreement:
    """Collect the measured networks of ``rows``, each once, winners first.

    ``labels`` maps trial numbers of winners to their names, in order of rank. A network of several trials is
    represented by the winner's row if there is one, otherwise by its first. ``scale`` and ``facts``: fields of the
    agreement; the rows' predictions are corrected by ``scale``, those of the pairs are not.
    """
    ranks = {number: rank for rank, number in enumerate(labels)}
    pairs: dict[str, LatencyPair] = {}
    for row in sorted(rows, key=lambda row: (ranks.get(row.number, len(ranks)), row.number)):
        pair = latency_pair(row, labels.get(row.number), scale=scale)
        if pair is not None:
            pairs.setdefault(row.arch_id or pair.name, pair)
    return LatencyAgreement(pairs=tuple(pairs.values()), scale=scale, **facts)
