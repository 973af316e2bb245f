"""Check of an estimator: rank correlation of estimates with trainings."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from nas.core.formatting import plural
from nas.core.rank_correlation import kendall_tau
from nas.study.trial_record import Role, TrialRecord, trained_networks

MIN_NETWORKS: Final = 6
_RESAMPLES: Final = 1000
_TAIL: Final = 0.025  # on each side of a 95% interval


class RankCorrelation(NamedTuple):
    """Kendall's tau-b with its 95% bootstrap interval; or a difference of two."""

    tau: float
    low: float
    high: float

    @property
    def is_positive(self) -> bool:
        """Whether it is significantly above 0."""
        return self.low > 0

    def __str__(self) -> str:
        return f"{self.tau:.2f} (95% bootstrap interval {self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatorCheck:
    """How well an estimate ordered the networks that were trained.

    Each estimate was made without the training that it is compared with. ``networks``: their number by role, which are
    the anchors, the finalists and those drawn at random. ``estimate`` and ``macs``: rank correlations of estimated
    accuracy and of MACs with the validation loss of the training, its sign reversed; with its accuracy, the noisier
    signal, where losses are not known (``uses_loss``). ``advantage``: their difference. All three are None with fewer
    than ``MIN_NETWORKS`` networks, or where all are equal in one of them.
    """

    networks: dict[Role, int]
    uses_loss: bool = False
    estimate: RankCorrelation | None = None
    macs: RankCorrelation | None = None
    advantage: RankCorrelation | None = None

    @classmethod
    def of(cls, rows: Iterable[TrialRecord]) -> EstimatorCheck | None:
        """The check by all trained ``rows`` that have an estimate; None without any."""
        known = {row.arch_id: row for row in trained_networks(rows) if row.estimated_accuracy is not None}
        if not known:
            return None
        pairs = list(known.values())
        counts = {role: sum(row.role is role for row in pairs) for role in Role}
        losses = [-row.val_loss for row in pairs if row.val_loss is not None]
        uses_loss = len(losses) == len(pairs)
        qualities = losses if uses_loss else [row.accuracy or 0.0 for row in pairs]
        estimates = [row.estimated_accuracy or 0.0 for row in pairs]
        counted = [row.macs_m or 0.0 for row in pairs]
        is_defined = not any(math.isnan(kendall_tau(one, qualities)) for one in (estimates, counted))
        if len(pairs) < MIN_NETWORKS or not is_defined:
            return cls(networks=counts)
        estimate, macs, advantage = _bootstrapped(estimates, counted, qualities)
        return cls(networks=counts, uses_loss=uses_loss, estimate=estimate, macs=macs, advantage=advantage)

    @property
    def is_ordered(self) -> bool:
        """Whether the estimate is shown to order networks as their trainings do."""
        return self.estimate is not None and self.estimate.is_positive

    def __str__(self) -> str:
        total = plural(sum(self.networks.values()), "trained network")
        if self.estimate is None or self.macs is None or self.advantage is None:
            return (
                f"Whether the estimator orders networks is not known: of {total} with an estimate, at least "
                f"{MIN_NETWORKS} that differ are needed."
            )
        names = {Role.ANCHOR: "anchor", Role.FINALIST: "finalist"}
        parts = [plural(self.networks[role], name) for role, name in names.items() if self.networks[role]]
        parts += [f"{self.networks[Role.CHECK]} drawn at random"] if self.networks[Role.CHECK] else []
        trained = "minus the validation loss after training" if self.uses_loss else "as trained"
        figures = (
            f"Kendall's tau {self.estimate} between the accuracy as estimated before and {trained}, of {total} "
            f"({', '.join(parts)})"
        )
        if not self.is_ordered:
            is_reversed = self.estimate.high < 0
            verb = "orders networks the wrong way round" if is_reversed else "is not shown to order networks"
            return (
                f"The estimator {verb}: {figures}. Take the choice among networks that were only scored as no better "
                f"than by cost (MACs alone: {self.macs.tau:.2f}), or train every candidate (estimator=proxy)."
            )
        return f"The estimator ordered the networks: {figures}. {self._against_macs(self.macs, self.advantage)}"

    def _against_macs(self, macs: RankCorrelation, advantage: RankCorrelation) -> str:
        if advantage.is_positive:
            return f"It did better than MACs alone ({macs.tau:.2f}; difference {advantage})."
        return f"It is not shown to be better than counting: MACs alone have {macs}, the difference is {advantage}."


def _bootstrapped(
    estimates: Sequence[float], macs: Sequence[float], qualities: Sequence[float]
) -> tuple[RankCorrelation, RankCorrelation, RankCorrelation]:
    """Tau of estimates, of MACs, and their difference, with intervals over networks.

    Resamples in which all networks are equal have no tau and are left out.
    """
    count, rng = len(qualities), random.Random(0)

    def taus(places: Sequence[int]) -> tuple[float, float, float]:
        trained = [qualities[place] for place in places]
        first, second = (kendall_tau([values[place] for place in places], trained) for values in (estimates, macs))
        return first, second, first - second

    drawn = [taus(rng.choices(range(count), k=count)) for _ in range(_RESAMPLES)]
    kept = [sorted(values) for values in zip(*(one for one in drawn if not math.isnan(one[2])), strict=True)]
    ends = [(values[int(_TAIL * len(values))], values[int((1 - _TAIL) * len(values)) - 1]) for values in kept]
    whole = zip(taus(range(count)), ends, strict=True)
    estimate, counted, difference = (RankCorrelation(tau, low, high) for tau, (low, high) in whole)
    return estimate, counted, difference
