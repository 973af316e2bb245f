"""The race: hand out a training from the queue, tell what it gave, and plan the next round when the queue is empty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from nas.arch.scaling.rules import DIRECTIONS
from nas.estimators.base import Evaluation
from nas.methods.scaling.design.entries import BASELINE, Design
from nas.methods.scaling.design.networks import DesignAt
from nas.methods.scaling.ranking.rounds import Rounds, SeededTraining, best_key, most_trainings, next_round
from nas.methods.scaling.settings import RaceSettings
from nas.methods.scaling.trial_attributes import (
    accuracies_of,
    plan_round,
    planned_rounds,
    queue_missing,
    ranges,
    record_growth,
    start_next_queued,
    take_axes,
    taken_axes,
    training_of,
)
from nas.study import trial_loop
from nas.study.storage.optuna_private import storage_of, trial_id
from nas.study.trial_attributes import WORKER, record_candidate
from nas.study.trial_loop import Idle, TrialTask
from nas.study.trial_record import Outcome, TrialRecord
from nas.training.results import EpochResult

_LEAST_OTHERS: Final = 4


class HalfwayPruner(optuna.pruners.BasePruner):  # type: ignore[misc]  # Optuna is not typed here
    """Stops a training of the first round, at ``half`` of its epochs, that is among the last ``share`` there.

    It is held against all others that came as far, stopped ones too, four of them at least. Later rounds are never
    stopped: means over the seeds that went well would flatter. The baseline is neither stopped nor counted.
    """

    def __init__(self, *, half: int, share: float) -> None:
        self._half = half
        self._share = share

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether to stop ``trial`` after the epoch that it reported last."""
        label, seed = training_of(trial)
        if trial.last_step != self._half or seed > 0 or label == BASELINE:
            return False
        others = [
            other.intermediate_values[self._half]
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and self._half in other.intermediate_values and _runs_first(other)
        ]
        better = sum(value > trial.intermediate_values[self._half] for value in others)
        return len(others) >= _LEAST_OTHERS and better >= (1 - self._share) * len(others)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingAskTell:
    """One worker's view of a grid's study. Several workers may run it on the same storage at the same time.

    ``entries_at``: the networks by the axes that stepwise expansion took. ``epochs``: of a training, at whose half one
    may be stopped. ``everybody``: all networks get all seeds, and none is stopped. ``worker`` is written into the
    trials that it takes.
    """

    study: optuna.Study
    entries_at: DesignAt
    settings: RaceSettings
    epochs: int
    has_interval: bool
    everybody: bool = False
    worker: str = ""

    def ask(self) -> TrialTask | TrialRecord | Idle:
        """The next training of the round; when the queue is empty and nobody is at work, of the next round."""
        while not self.is_over:
            trial = start_next_queued(self.study, ranges(self.entries_at(())))
            if trial is not None:
                try:
                    return self._begun(trial)
                except KeyboardInterrupt:
                    trial_loop.release_trial(self.study, trial_id(trial))
                    raise
            if self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                return Idle.WAIT  # whom the next round trains depends on what other workers are at
            self.prepare_round()
        return Idle.OVER

    def report_epoch(self, task: TrialTask, result: EpochResult) -> str | None:
        """Write the epoch into the trial; why to stop there, None to go on."""
        storage, half = storage_of(self.study), self.epochs // 2
        storage.set_trial_intermediate_value(task.trial_id, result.epoch, result.accuracy)
        if self.everybody or not self.settings.stop_share or result.epoch >= self.epochs:
            return None
        stops = HalfwayPruner(half=half, share=self.settings.stop_share)
        if stops.prune(self.study, storage.get_trial(task.trial_id)):
            return f"{100 * result.accuracy:.1f}% after epoch {result.epoch}, among the last there"
        return None

    def tell(self, task: TrialTask, evaluation: Evaluation) -> TrialRecord:
        """Tell the accuracy."""
        trial, accuracy = self._frozen(task.trial_id), evaluation.accuracy
        return trial_loop.finish_trial(
            self.study, trial, Outcome.TRAINED, values=(accuracy,), accuracy=accuracy, cpu_s=evaluation.cpu_s
        )

    def release(self) -> None:
        """A race holds nothing between its questions."""

    def prepare_round(self) -> None:
        """Queue what is missing of the rounds so far or, when they are complete, the next one.

        Two workers may do so at the same time and plan the same; a training that is queued twice runs once.
        """
        if queue_missing(self.study, self.entries):
            return
        rounds = planned_rounds(self.study)
        trainings = self._next_round(rounds)
        if not trainings and (axis := self._next_axis()):
            take_axes(self.study, (*self.entries.taken, axis))
            trainings = self._next_round(rounds)
        if trainings:
            plan_round(self.study, rounds, trainings)
            queue_missing(self.study, self.entries)

    @property
    def entries(self) -> Design:
        """The networks as far as they are known."""
        return self.entries_at(taken_axes(self.study))

    @property
    def is_over(self) -> bool:
        """Whether all rounds are trained and no further one is wanted."""
        if self._has_open_trials():
            return False
        held = {training_of(trial) for trial in self.study.get_trials(deepcopy=False)}
        rounds = planned_rounds(self.study)
        wanted = {training for trainings in rounds for training in trainings}
        if not wanted <= held or self._next_round(rounds) or self._next_axis():
            return False
        return not self._has_open_trials()  # another worker may have queued the next round meanwhile

    @property
    def most_trainings(self) -> int:
        """Trainings that the race takes at most."""
        entries = self.entries
        racing = entries.racing
        left_behind = [label for one in planned_rounds(self.study) for label, _ in one if label not in racing]
        to_come = entries.further * len(DIRECTIONS) * self.settings.seeds
        return most_trainings(racing, self.settings, everybody=self.everybody) + len(left_behind) + to_come

    def _has_open_trials(self) -> bool:
        return bool(self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)))

    def _next_round(self, rounds: Rounds) -> tuple[SeededTraining, ...]:
        accuracies = accuracies_of(self.study)
        return next_round(self.entries.racing, accuracies, rounds, self.settings, everybody=self.everybody)

    def _next_axis(self) -> str | None:
        """What the undecided step takes, once all its networks are trained; None if no step waits."""
        step = self.entries.undecided
        labels = {axis: entry.label for axis, entry in step.candidates.items()} if step else {}
        return best_key(labels, accuracies_of(self.study))

    def _begun(self, trial: Trial) -> TrialTask | TrialRecord:
        """The training that ``trial`` stands for, unless an earlier trial has it."""
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
        """Whether an earlier trial has this training; the race of two workers to plan a round."""
        return any(
            other.number < trial.number and training_of(other) == training_of(trial)
            for other in self.study.get_trials(deepcopy=False)
        )

    def _frozen(self, trial_id: int) -> FrozenTrial:
        return storage_of(self.study).get_trial(trial_id)


def _runs_first(trial: FrozenTrial) -> bool:
    label, seed = training_of(trial)
    return seed == 0 and label != BASELINE
