"""Estimated accuracy of a search's candidates, as its trained ones calibrate it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from optuna.trial import FrozenTrial

from nas.analysis.accuracy_estimate import AccuracyEstimator, TrainedNetwork, leave_one_out
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.estimators.base import Estimate, Evaluation
from nas.study.candidates import Pricer
from nas.study.trial_attributes import ROLE, trial_record
from nas.study.trial_record import Outcome, Role, TrialRecord

_LEAST_TRAINED: Final = 3  # networks, for a leave-one-out estimate


@dataclass(slots=True)
class Calibration:
    """The estimate of one worker: learned from the anchors once all are trained."""

    pricer: Pricer
    _estimator: AccuracyEstimator | None = None

    def estimate(self, anchors: Sequence[FrozenTrial], arch: ArchSpec, evaluation: Evaluation) -> Estimate:
        """Estimated accuracy of ``arch`` by the scores of its ``evaluation``.

        The first call learns from the ``anchors``. It stays the same from then on, so that candidates compare.

        Raises: NasError with fewer than two anchors.
        """
        if self._estimator is None:
            rows = [trial_record(trial, 1.0) for trial in sorted(anchors, key=lambda trial: trial.number)]
            if len(rows) < 2:
                raise NasError(
                    f"estimator.anchors: {len(rows)} of the candidates were trained to the end, which is too few to "
                    "estimate the others. See why the others failed, or raise study.n_trials."
                )
            self._estimator = AccuracyEstimator.fit(_networks(rows, self.pricer), tuple(evaluation.scores))
        return self._estimator.estimate(arch, evaluation.scores)


def is_trained_anchor(trial: FrozenTrial) -> bool:
    """Whether ``trial`` is an anchor that was trained to the end."""
    return (trial.user_attrs.get(ROLE), trial.user_attrs.get("outcome")) == (Role.ANCHOR, Outcome.TRAINED)


def with_anchor_estimates(rows: Sequence[TrialRecord], pricer: Pricer) -> list[TrialRecord]:
    """``rows`` with the leave-one-out estimates of the anchors among them.

    Raises: NasError if a row no longer decodes.
    """
    anchors = [row for row in rows if row.role is Role.ANCHOR and row.outcome is Outcome.TRAINED and row.scores]
    if len(anchors) < _LEAST_TRAINED:
        return list(rows)
    estimates = leave_one_out(_networks(anchors, pricer), tuple(anchors[0].scores))
    by_number = {
        row.number: replace(row, estimated_accuracy=round(one.accuracy, 6), estimate_error=round(one.error, 6))
        for row, one in zip(anchors, estimates, strict=True)
    }
    return [by_number.get(row.number, row) for row in rows]


def _networks(rows: Sequence[TrialRecord], pricer: Pricer) -> list[TrainedNetwork]:
    return [
        TrainedNetwork(
            arch=pricer.decode(row.genotype),
            scores=row.scores,
            accuracy=row.accuracy or 0.0,
            images=sum(row.class_images) or None,
        )
        for row in rows
    ]
