"""Estimated accuracy of a search's candidates, as its trained ones calibrate it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import optuna

from nas.analysis.accuracy_estimate import AccuracyEstimator, TrainedNetwork, leave_one_out
from nas.arch.spec import ArchSpec
from nas.estimators.base import Estimate, Evaluation
from nas.estimators.settings import EstimatorSettings
from nas.methods.search.trials.trial_index import TrialIndex
from nas.study.candidates import Pricer
from nas.study.storage.optuna_private import storage_of
from nas.study.trial_attributes import ROLE, is_final, trial_record
from nas.study.trial_loop import TrialTask
from nas.study.trial_record import Outcome, Role, TrialRecord

_LEAST_TRAINED: Final = 3  # networks, for a leave-one-out estimate


@dataclass(slots=True)
class Calibration:
    """The estimate of one worker: which candidates calibrate it, and what it learned.

    ``pricer`` decodes networks.
    """

    settings: EstimatorSettings
    pricer: Pricer
    _estimator: AccuracyEstimator | None = None

    def is_awaited(self, index: TrialIndex) -> bool:
        """Whether other workers train the last anchors, without which none is estimated."""
        wanted, trained = self.settings.anchors, len(index.anchors)
        return self.settings.is_scoring and trained < wanted <= trained + len(index.running_anchors())

    def assigned(self, study: optuna.Study, index: TrialIndex, task: TrialTask) -> TrialTask:
        """``task`` with what is to be done: training, scoring, or both for an anchor.

        Anchors are marked in ``study``, so that they stay anchors when they are killed and run again.
        """
        trial = index.open[task.number]
        if not self.settings.is_scoring or is_final(trial):
            return task
        is_anchor = trial.user_attrs.get(ROLE) == Role.ANCHOR
        if not is_anchor and len(index.anchors) < self.settings.anchors:
            storage_of(study).set_trial_user_attr(task.trial_id, ROLE, str(Role.ANCHOR))
            is_anchor = True
        return replace(task, score=True, train=is_anchor)

    def estimate(self, index: TrialIndex, arch: ArchSpec, evaluation: Evaluation) -> Estimate:
        """Estimated accuracy of ``arch`` by the scores of its ``evaluation``.

        The first call learns from the anchors that were trained first, the same for all workers. It stays so from then
        on: candidates compare.
        """
        if self._estimator is None:
            anchors = sorted(index.anchors, key=lambda trial: (trial.datetime_complete, trial.number))
            rows = [trial_record(trial, 1.0) for trial in anchors[: self.settings.anchors]]
            self._estimator = AccuracyEstimator.fit(_networks(rows, self.pricer), tuple(evaluation.scores))
        return self._estimator.estimate(arch, evaluation.scores)


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
    """Networks of ``rows`` as the estimate learns from them.

    Losses only where they order networks as the score does, with less noise: the loss of segmenters is that of the
    frequent classes, while mIoU counts all alike (7 networks on street images: a rank correlation of about 0).
    """
    return [
        TrainedNetwork(
            arch=pricer.decode(row.genotype),
            scores=row.scores,
            accuracy=row.accuracy or 0.0,
            images=sum(row.class_images) or None,
            loss=row.val_loss if row.task == "classification" else None,
            error=None if row.task == "classification" else row.standard_error,
        )
        for row in rows
    ]
