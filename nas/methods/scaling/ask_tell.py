"""Ask-and-tell loop of a scaling study: trainings in rounds over seeds.

A worker takes a training from the queue, tells its result, and plans the next round when the queue is empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from nas.arch.scaling.rules import DIRECTIONS
from nas.estimators.base import Evaluation
from nas.methods.scaling.context import ScalingContext
from nas.methods.scaling.design.entries import BASELINE, Design
from nas.methods.scaling.design.networks import DesignAt
from nas.methods.scaling.ranking.race_rule import RaceRule
from nas.methods.scaling.ranking.rounds import Rounds, SeededTraining, best_key, most_trainings, next_round
from nas.methods.scaling.settings import RaceSettings
from nas.methods.scaling.trial_attributes import (
    chosen_axes,
    mean_accuracy,
    plan_round,
    planned_rounds,
    queue_missing,
    race_rule,
    ranges,
    record_chosen_axes,
    record_growth,
    record_race_rule,
    record_val_loss,
    scores_of,
    start_next_queued,
    training_of,
)
from nas.study import trial_loop
from nas.study.storage.optuna_private import storage_of, trial_id
from nas.study.trial_attributes import WORKER, record_candidate
from nas.study.trial_loop import Idle, TrialTask
from nas.study.trial_record import Outcome, TrialRecord
from nas.training.results import EpochResult

_MIN_OTHERS: Final = 4


class HalfwayPruner(optuna.pruners.BasePruner):  # type: ignore[misc]  # Optuna is not typed here
    """Stops first-round trainings in the last ``share`` at ``half`` of their epochs.

    A training is compared with all others that reached that epoch, stopped ones too, if there are at least four of
    them. Later rounds are never stopped: means over the seeds that went well would be biased upwards. The baseline is
    neither stopped nor counted.
    """

    def __init__(self, *, half: int, share: float) -> None:
        self._half = half
        self._share = share

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether to stop ``trial`` after its last reported epoch."""
        label, seed = training_of(trial)
        if trial.last_step != self._half or seed > 0 or label == BASELINE:
            return False
        others = [
            other.intermediate_values[self._half]
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and self._half in other.intermediate_values and _is_first_seed(other)
        ]
        better = sum(value > trial.intermediate_values[self._half] for value in others)
        return len(others) >= _MIN_OTHERS and better >= (1 - self._share) * len(others)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingAskTell:
    """One worker's ask-and-tell interface to a scaling study.

    Several workers may run it on the same storage at the same time.

    ``design_at``: the networks, given the axes that stepwise expansion has chosen. ``epochs``: of one training, which
    may be stopped halfway. ``all_seeds``: every network gets all seeds, and none is stopped. ``worker`` is written into
    the trials that it takes.
    """

    study: optuna.Study
    design_at: DesignAt
    settings: RaceSettings
    epochs: int
    has_interval: bool
    all_seeds: bool = False
    worker: str = ""

    def ask(self) -> TrialTask | TrialRecord | Idle:
        """Next training of the round, or ``Idle`` if there is none for this worker.

        When the queue is empty and no trial is running, the next round is planned.
        """
        while not self.is_over:
            trial = start_next_queued(self.study, ranges(self.design_at(())))
            if trial is not None:
                try:
                    return self._start_training(trial)
                except KeyboardInterrupt:
                    trial_loop.release_trial(self.study, trial_id(trial))
                    raise
            if self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                return Idle.WAIT  # the next round depends on the trainings that are still running
            self.prepare_round()
        return Idle.OVER

    def report_epoch(self, task: TrialTask, result: EpochResult) -> str | None:
        """Report the epoch's accuracy; the reason to stop there, or None to continue.

        The value is stored as an intermediate value of the trial, by epoch, and of the last epochs the validation loss.
        """
        storage, half = storage_of(self.study), self.epochs // 2
        if result.epoch > self.epochs - race_rule(self.study).last_epochs:
            record_val_loss(self.study, task.trial_id, result)
        storage.set_trial_intermediate_value(task.trial_id, result.epoch, result.accuracy)
        if self.all_seeds or not self.settings.stop_share or result.epoch >= self.epochs:
            return None
        pruner = HalfwayPruner(half=half, share=self.settings.stop_share)
        if pruner.prune(self.study, storage.get_trial(task.trial_id)):
            return f"{100 * result.accuracy:.1f}% after epoch {result.epoch}, among the lowest there"
        return None

    def tell(self, task: TrialTask, evaluation: Evaluation) -> TrialRecord:
        """Finish the trial with its accuracy after the last epoch.

        Its value in Optuna is the mean accuracy over the last epochs.
        """
        trial = self._frozen(task.trial_id)
        value = mean_accuracy(trial, race_rule(self.study).last_epochs, evaluation.accuracy or 0.0)
        return trial_loop.finish_trained(self.study, trial, evaluation, (value,))

    def release(self) -> None:
        """Do nothing: no trials are reserved between calls of ``ask``."""

    def prepare_round(self) -> None:
        """Queue missing trainings of the planned rounds, or else plan the next round.

        Two workers may do so at the same time and plan the same round; a training that is queued twice runs once.
        """
        if queue_missing(self.study, self.entries):
            return
        rounds = planned_rounds(self.study)
        if not rounds:  # before the first: a study that has one without a rule is of version 0.1
            record_race_rule(self.study, self._new_rule)
        trainings = self._next_round(rounds)
        if not trainings and (axis := self._next_axis()):
            record_chosen_axes(self.study, (*self.entries.chosen_axes, axis))
            trainings = self._next_round(rounds)
        if trainings:
            plan_round(self.study, rounds, trainings)
            queue_missing(self.study, self.entries)

    @property
    def entries(self) -> Design:
        """Networks known so far."""
        return self.design_at(chosen_axes(self.study))

    @property
    def is_over(self) -> bool:
        """Whether all rounds are trained and no further one is needed."""
        if self._has_open_trials():
            return False
        existing = {training_of(trial) for trial in self.study.get_trials(deepcopy=False)}
        rounds = planned_rounds(self.study)
        planned = {training for trainings in rounds for training in trainings}
        if not planned <= existing or self._next_round(rounds) or self._next_axis():
            return False
        return not self._has_open_trials()  # another worker may have queued the next round in the meantime

    @property
    def most_trainings(self) -> int:
        """Upper bound on the number of trainings."""
        entries = self.entries
        racing = entries.racing
        dropped = [label for trainings in planned_rounds(self.study) for label, _ in trainings if label not in racing]
        to_come = entries.further * len(DIRECTIONS) * self.settings.seeds
        return most_trainings(racing, self.settings, all_seeds=self.all_seeds) + len(dropped) + to_come

    def _has_open_trials(self) -> bool:
        return bool(self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)))

    def _next_round(self, rounds: Rounds) -> tuple[SeededTraining, ...]:
        scores = scores_of(self.study)
        rule = race_rule(self.study)
        return next_round(self.entries.racing, scores, rounds, self.settings, all_seeds=self.all_seeds, rule=rule)

    @property
    def _new_rule(self) -> RaceRule:
        last_epochs = self.settings.averaged_epochs(self.epochs)
        planned = None if self.all_seeds else self.settings.seeds
        return RaceRule(last_epochs=last_epochs, planned_seeds=planned, criterion=self.settings.criterion)

    def _next_axis(self) -> str | None:
        """Best axis of the undecided step once its networks are trained, else None."""
        step = self.entries.undecided
        labels = {axis: entry.label for axis, entry in step.candidates.items()} if step else {}
        return best_key(labels, scores_of(self.study))

    def _start_training(self, trial: Trial) -> TrialTask | TrialRecord:
        """Training of ``trial``, or its record if an earlier trial has this training."""
        if self.worker:
            trial.set_user_attr(WORKER, self.worker)
        label, seed = training_of(trial)
        entry = self.entries.by_label[label]
        record_candidate(trial, entry.candidate, has_interval=self.has_interval)
        record_growth(trial, entry)
        if self._is_repeated(trial):
            reason = "two workers queued the same training"
            return trial_loop.finish_trial(self.study, self._frozen(trial_id(trial)), Outcome.DUPLICATE, reason=reason)
        return TrialTask(number=trial.number, trial_id=trial_id(trial), arch=entry.arch, repeat=seed)

    def _is_repeated(self, trial: Trial) -> bool:
        """Whether an earlier trial has the same training.

        This happens if two workers planned a round at the same time.
        """
        return any(
            other.number < trial.number and training_of(other) == training_of(trial)
            for other in self.study.get_trials(deepcopy=False)
        )

    def _frozen(self, trial_id: int) -> FrozenTrial:
        return storage_of(self.study).get_trial(trial_id)


def reopened_race(context: ScalingContext, study: optuna.Study) -> ScalingAskTell:
    """Ask-and-tell interface to a ``study`` that is only read, without images."""
    plan = context.plan
    return ScalingAskTell(
        study=study,
        design_at=lambda _: context.entries,
        settings=plan.race,
        epochs=plan.proxy.epochs,
        has_interval=context.predictor.error is not None,
        all_seeds=bool(plan.compare),
    )


def _is_first_seed(trial: FrozenTrial) -> bool:
    label, seed = training_of(trial)
    return seed == 0 and label != BASELINE
