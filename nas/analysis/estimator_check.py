"""Check of an estimator: rank correlation of estimates with trainings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from nas.analysis.rank_comparison import RankComparison
from nas.arch.heads.task_scores import TASK_SCORES, TaskScore
from nas.core.formatting import plural
from nas.study.trial_record import Role, TrialRecord, score_of, trained_networks

MIN_NETWORKS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatorCheck:
    """How well an estimate ordered the networks that were trained.

    Each estimate was made without the training that it is compared with. ``networks``: their number by role, which are
    the anchors, the finalists and those drawn at random. ``comparison``: rank correlations of estimated accuracy and of
    MACs with the validation loss of the training, its sign reversed; with its accuracy, the noisier signal, where
    losses are not known, and with the score of detectors and segmenters, which their losses need not order alike
    (``uses_loss``). ``score``: what accuracies are. None with fewer than ``MIN_NETWORKS`` networks, or where all are
    equal in one of them.
    """

    networks: dict[Role, int]
    uses_loss: bool = False
    score: TaskScore = TASK_SCORES["classification"]
    comparison: RankComparison | None = None

    @classmethod
    def of(cls, rows: Iterable[TrialRecord]) -> EstimatorCheck | None:
        """The check by all trained ``rows`` that have an estimate; None without any."""
        known = {row.arch_id: row for row in trained_networks(rows) if row.estimated_accuracy is not None}
        if not known:
            return None
        pairs = list(known.values())
        counts = {role: sum(row.role is role for row in pairs) for role in Role}
        losses = [-row.val_loss for row in pairs if row.val_loss is not None and row.task == "classification"]
        uses_loss = len(losses) == len(pairs)
        qualities = losses if uses_loss else [row.accuracy or 0.0 for row in pairs]
        estimates = [row.estimated_accuracy or 0.0 for row in pairs]
        counted = [row.macs_m or 0.0 for row in pairs]
        comparison = RankComparison.of(estimates, counted, qualities) if len(pairs) >= MIN_NETWORKS else None
        return cls(
            networks=counts,
            uses_loss=uses_loss and comparison is not None,
            score=score_of(pairs),
            comparison=comparison,
        )

    @property
    def is_ordered(self) -> bool:
        """Whether the estimate is shown to order networks as their trainings do."""
        return self.comparison is not None and self.comparison.estimate.is_positive

    def __str__(self) -> str:
        total = plural(sum(self.networks.values()), "trained network")
        if self.comparison is None:
            return (
                f"Whether the estimator orders networks is not known: of {total} with an estimate, at least "
                f"{MIN_NETWORKS} that differ are needed."
            )
        estimate, macs = self.comparison.estimate, self.comparison.macs
        names = {Role.ANCHOR: "anchor", Role.FINALIST: "finalist"}
        parts = [plural(self.networks[role], name) for role, name in names.items() if self.networks[role]]
        parts += [f"{self.networks[Role.CHECK]} drawn at random"] if self.networks[Role.CHECK] else []
        trained = "minus the validation loss after training" if self.uses_loss else "as trained"
        figures = (
            f"Kendall's tau {estimate} between the {self.score.name} as estimated before and {trained}, of {total} "
            f"({', '.join(parts)})"
        )
        if not self.is_ordered:
            is_reversed = estimate.high < 0
            verb = "orders networks the wrong way round" if is_reversed else "is not shown to order networks"
            return (
                f"The estimator {verb}: {figures}. Take the choice among networks that were only scored as no better "
                f"than by cost (MACs alone: {macs.tau:.2f}), or train every candidate (estimator=proxy)."
            )
        return f"The estimator ordered the networks: {figures}. {self.comparison.against_macs}"
