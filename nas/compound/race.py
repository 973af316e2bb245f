"""The race: take a training from the queue, train, tell, and plan the next round when the queue is empty."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from nas.arch.spec import ArchSpec
from nas.compound.entries import BASELINE, Entries
from nas.compound.plan import RaceSettings
from nas.compound.rounds import most_trainings, next_round
from nas.compound.trials import accuracies_of, plan_round, planned, queue_missing, record_growth, take, training_of
from nas.proxy.results import EpochResult
from nas.study.evaluate import Evaluation
from nas.study.rows import Outcome, TrialRow
from nas.study.search import OnTrial, reason_of
from nas.study.storage import requeue
from nas.study.trials import record, to_row

_WAIT_S: Final = 0.5
_LEAST_OTHERS: Final = 4


class Trainer(Protocol):
    """Anything that can train a network's proxy with several seeds and tell its accuracy epoch by epoch."""

    def evaluate(
        self, arch: ArchSpec, *, repeat: int, on_epoch: Callable[[EpochResult], None] | None
    ) -> Evaluation: ...


class StopBehind(optuna.pruners.BasePruner):  # type: ignore[misc]  # Optuna is not typed here
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
class Race:
    """One worker's view of a grid's study. Several workers may run it on the same storage at the same time.

    ``epochs``: of a training, at whose half one may be stopped. ``everybody``: all networks get all seeds, and none is
    stopped.
    """

    study: optuna.Study
    entries: Entries
    trainer: Trainer
    settings: RaceSettings
    epochs: int
    has_interval: bool
    everybody: bool = False

    def run(self, on_trial: OnTrial | None = None) -> None:
        """Train until no round is left. An exception in a training fails that one; an interrupt queues it again."""
        half = self.epochs // 2
        if half and self.settings.stop_share and not self.everybody:
            self.study.pruner = StopBehind(half=half, share=self.settings.stop_share)
        else:
            self.study.pruner = optuna.pruners.NopPruner()
        while not self.is_over:
            trial = take(self.study, self.entries)
            if trial is not None:
                row = self._train(trial)
                if on_trial:
                    on_trial(row)
            elif self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                time.sleep(_WAIT_S)  # whom the next round trains depends on what other workers are at
            else:
                self.prepare_round()

    def prepare_round(self) -> None:
        """Queue what is missing of the rounds so far or, when they are complete, the next one.

        Two workers may do so at the same time and plan the same; a training that is queued twice runs once.
        """
        if not queue_missing(self.study, self.entries):
            plan_round(self.study, self._next_round())
            queue_missing(self.study, self.entries)

    @property
    def is_over(self) -> bool:
        """Whether all rounds are trained and no further one is wanted."""
        open_states = (TrialState.RUNNING, TrialState.WAITING)
        if self.study.get_trials(deepcopy=False, states=open_states):
            return False
        held = {training_of(trial) for trial in self.study.get_trials(deepcopy=False)}
        wanted = {(label, seed) for seed, labels in enumerate(planned(self.study)) for label in labels}
        return wanted <= held and not self._next_round()

    @property
    def most_trainings(self) -> int:
        """Trainings that the race takes at most."""
        return most_trainings(list(self.entries.by_label), self.settings, everybody=self.everybody)

    def _next_round(self) -> tuple[str, ...]:
        labels, done = list(self.entries.by_label), len(planned(self.study))
        return next_round(labels, accuracies_of(self.study), done, self.settings, everybody=self.everybody)

    def _train(self, trial: Trial) -> TrialRow:
        label, seed = training_of(trial)
        entry = self.entries.by_label[label]
        try:
            record(trial, entry.candidate, has_interval=self.has_interval)
            record_growth(trial, entry)
            if self._is_repeated(trial):
                return self._close(trial, Outcome.DUPLICATE, reason="two workers queued the same training")
            evaluation = self.trainer.evaluate(
                entry.arch, repeat=seed, on_epoch=lambda result: self._after_epoch(trial, result)
            )
            trial.set_user_attr("cpu_s", round(evaluation.cpu_s, 2))
            return self._close(trial, Outcome.TRAINED, accuracy=evaluation.accuracy)
        except optuna.TrialPruned as stopped:
            return self._close(trial, Outcome.STOPPED, reason=str(stopped))
        except KeyboardInterrupt:
            if not self._frozen(trial).state.is_finished():
                requeue(self.study, self._frozen(trial))
            raise
        except Exception as error:  # whatever a network does to its training, the others go on
            return self._close(trial, Outcome.FAILED, reason=reason_of(error))

    def _after_epoch(self, trial: Trial, result: EpochResult) -> None:
        if result.epoch not in self._frozen(trial).intermediate_values:  # of a training that was interrupted
            trial.report(result.accuracy, result.epoch)
        if result.epoch < self.epochs and trial.should_prune():
            raise optuna.TrialPruned(f"{100 * result.accuracy:.1f}% after epoch {result.epoch}, among the last there")

    def _is_repeated(self, trial: Trial) -> bool:
        """Whether an earlier trial has this training; the race of two workers to plan a round."""
        return any(
            other.number < trial.number and training_of(other) == training_of(trial)
            for other in self.study.get_trials(deepcopy=False)
        )

    def _close(self, trial: Trial, outcome: Outcome, *, accuracy: float | None = None, reason: str = "") -> TrialRow:
        if reason:
            trial.set_user_attr("reason", reason)
        if accuracy is not None:
            trial.set_user_attr("accuracy", accuracy)
        trial.set_user_attr("outcome", outcome.value)
        if accuracy is not None:
            self.study.tell(trial, accuracy)
        else:
            self.study.tell(trial, state=TrialState.FAIL if outcome is Outcome.FAILED else TrialState.PRUNED)
        return to_row(self._frozen(trial))

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return self.study._storage.get_trial(trial._trial_id)


def _runs_first(trial: FrozenTrial) -> bool:
    label, seed = training_of(trial)
    return seed == 0 and label != BASELINE
