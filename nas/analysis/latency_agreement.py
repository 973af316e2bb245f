"""Predicted beside measured latency: which predictions were off, and whether by more than their intervals allow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from nas.core.errors import NasError
from nas.core.formatting import plural
from nas.core.rank_correlation import kendall_tau
from nas.core.validation import check_number
from nas.study.trial_record import TrialRecord

OUTSIDE_SHARE: Final = 0.1  # of the measurements, by the meaning of a 90% interval
_SIGNIFICANCE: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyPair:
    """One network's predicted and measured latency in ms; the prediction was made before the measurement.

    ``low_ms``, ``high_ms``: ends of the prediction's 90% interval, None for a predictor without one.
    """

    name: str
    predicted_ms: float
    measured_ms: float
    low_ms: float | None = None
    high_ms: float | None = None
    spread_ms: float | None = None
    winner: bool = False

    def __post_init__(self) -> None:
        for field in ("predicted_ms", "measured_ms"):
            check_number(field, getattr(self, field), low=0, open_low=True)
        if (self.low_ms is None) != (self.high_ms is None):
            raise NasError(f"{self.name}: low_ms {self.low_ms} and high_ms {self.high_ms} must be given both.")

    @property
    def ratio(self) -> float:
        """Predicted / measured."""
        return self.predicted_ms / self.measured_ms

    @property
    def outside(self) -> bool:
        """Whether the measurement lies outside of the prediction's interval."""
        return (
            self.low_ms is not None
            and self.high_ms is not None
            and not (self.low_ms <= self.measured_ms <= self.high_ms)
        )

    def remarks(self, limit_ms: float | None = None) -> list[str]:
        """What a user of the network should know, in words; empty where all is as it should be."""
        said = []
        if self.outside:
            side = "below" if self.measured_ms < (self.low_ms or 0.0) else "above"
            said.append(
                f"measured {self.measured_ms:.2f} ms, {side} the 90% interval of the prediction "
                f"({self.low_ms:.2f} to {self.high_ms:.2f} ms)"
            )
        if limit_ms is not None and self.measured_ms > limit_ms:
            said.append(f"measured {self.measured_ms:.2f} ms, above the limit of {limit_ms:g} ms")
        return said


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyAgreement:
    """All networks of a study that were measured. ``refined``: predictions learned from earlier measurements."""

    pairs: tuple[LatencyPair, ...]
    refined: bool = False

    @property
    def kendall_tau(self) -> float | None:
        """Agreement of the two orders, 1 is the same; None where there is no order (fewer than two, or all equal)."""
        tau = kendall_tau([pair.predicted_ms for pair in self.pairs], [pair.measured_ms for pair in self.pairs])
        return None if math.isnan(tau) else tau

    @property
    def mean_ratio(self) -> float | None:
        """Mean of predicted / measured; None without pairs."""
        return sum(pair.ratio for pair in self.pairs) / len(self.pairs) if self.pairs else None

    @property
    def judged(self) -> int:
        """Pairs whose prediction has an interval."""
        return sum(pair.low_ms is not None for pair in self.pairs)

    @property
    def outside(self) -> int:
        """Measurements outside of their interval."""
        return sum(pair.outside for pair in self.pairs)

    @property
    def share_inside(self) -> float | None:
        """Share of the measurements inside of their interval; None without intervals."""
        return 1 - self.outside / self.judged if self.judged else None

    @property
    def chance(self) -> float:
        """Probability that 90% intervals leave so many or more outside (exact binomial test, one-sided)."""
        return _at_least(self.outside, self.judged, OUTSIDE_SHARE)

    @property
    def warning(self) -> str:
        """What is wrong with the predictor and what to do about it; empty where its intervals hold."""
        if self.chance >= _SIGNIFICANCE:
            return ""
        refine = "" if self.refined else ", or set latency.refine=true"
        return (
            f"The latency predictor is off by more than it says: {self.outside} of {self.judged} measurements lie "
            f"outside of their 90% interval, which happens by chance with a probability of {self.chance:.2g}. "
            f"Calibrate again (python -m nas.calibrate device=cpu){refine}, under another study.name."
        )

    def __str__(self) -> str:
        if not self.pairs:
            return "no network was measured"
        said = [f"{plural(len(self.pairs), 'network')} measured"]
        if self.kendall_tau is not None:
            said.append(f"Kendall tau of the two orders {self.kendall_tau:.2f}")
        if self.share_inside is not None:
            said.append(
                f"{self.judged - self.outside} of {self.judged} ({self.share_inside:.0%}) inside their 90% interval"
            )
        return ", ".join([*said, f"predicted / measured {self.mean_ratio:.3f} on average"])


def _at_least(successes: int, trials: int, share: float) -> float:
    """Probability of so many ``successes`` or more among ``trials`` with a chance of ``share`` each."""
    if successes <= 0:
        return 1.0
    log_all = math.lgamma(trials + 1)
    return math.fsum(
        math.exp(
            log_all
            - math.lgamma(count + 1)
            - math.lgamma(trials - count + 1)
            + count * math.log(share)
            + (trials - count) * math.log1p(-share)
        )
        for count in range(successes, trials + 1)
    )


def pair_of(row: TrialRecord, label: str | None = None) -> LatencyPair | None:
    """The two latencies of ``row``, a winner's by its ``label``; None where one of them is missing."""
    if row.predicted_ms is None or row.measured_ms is None:
        return None
    known = row.latency_low_ms is not None and row.latency_high_ms is not None
    return LatencyPair(
        name=label or f"trial {row.number}",
        predicted_ms=row.predicted_ms,
        measured_ms=row.measured_ms,
        low_ms=row.latency_low_ms if known else None,
        high_ms=row.latency_high_ms if known else None,
        spread_ms=row.measured_spread_ms,
        winner=label is not None,
    )


def latency_agreement(
    rows: Iterable[TrialRecord], labels: Mapping[int, str], *, refined: bool = False
) -> LatencyAgreement:
    """The measured networks among ``rows``, each once and winners first; ``labels``: trial number to winner's name.

    A network of several trials is told as its winner's row tells it, otherwise as the first.
    """
    ranks = {number: rank for rank, number in enumerate(labels)}
    pairs: dict[str, LatencyPair] = {}
    for row in sorted(rows, key=lambda row: (ranks.get(row.number, len(ranks)), row.number)):
        pair = pair_of(row, labels.get(row.number))
        if pair is not None:
            pairs.setdefault(row.arch_id or pair.name, pair)
    return LatencyAgreement(pairs=tuple(pairs.values()), refined=refined)
