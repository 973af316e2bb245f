"""The driver's side of a cluster: hands out trainings, records their reports."""

from __future__ import annotations

from collections.abc import Callable

from nas.core.errors import NasError
from nas.core.files import write_bytes_atomically
from nas.engines.ray.training import Report, TrainingDone, TrainingFailed
from nas.estimators.base import Evaluator
from nas.study.recovery import recover_killed_trial
from nas.study.storage.optuna_private import storage_of
from nas.study.trial_attributes import latency_scale, trial_record
from nas.study.trial_loop import AskTell, Idle, OnTrial, TrialTask, finish_without_result, release_trial
from nas.study.trial_record import Outcome, TrialRecord
from nas.training.results import EpochResult


class Dispatcher:
    """The driver's side, the only one that touches the study.

    Keys are the cluster's names for trainings under way.

    ``most``: trainings at a time, as things are now. ``max_retries``: how often a trial is tried again whose worker was
    lost. The study is given up when as many more workers than were ever at work are lost without an epoch in between.
    Errors are stored in ``error`` for the caller to raise: an exception would be lost in Ray.
    """

    def __init__(
        self,
        tasks: AskTell,
        evaluator: Evaluator,
        *,
        max_retries: int,
        most: Callable[[], int],
        on_trial: OnTrial,
        say: Callable[[str], None],
    ) -> None:
        self._tasks = tasks
        self._evaluator = evaluator
        self._max_retries = max_retries
        self._most = most
        self._on_trial = on_trial
        self._say = say
        self._under_way: dict[str, TrialTask] = {}
        self._widest = 0  # so many were under way at most
        self._lost_in_a_row = 0
        self._is_broken = False
        self.error: Exception | None = None

    def ask(self, key: str) -> TrialTask | Idle:
        """A training, which is then under way as ``key``, or none now or for good."""
        if self.error is not None:
            return Idle.OVER
        if len(self._under_way) >= self._most():
            return Idle.WAIT
        try:
            while isinstance(found := self._tasks.ask(), TrialRecord):
                self._on_trial(found)
        except Exception as error:  # trainings under way go on: their results are worth having
            self.error = error
            return Idle.OVER
        if isinstance(found, TrialTask):
            self._under_way[key] = found
            self._widest = max(self._widest, len(self._under_way))
        return found

    def report(self, key: str, report: Report) -> bool:
        """Take in what a training reports; whether it has ended, or is to end here."""
        self._lost_in_a_row = 0
        if self._is_broken:
            return True
        try:
            row = self._told(self._under_way[key], report)
        except Exception as error:
            self.error, self._is_broken = error, True
            return True
        if row is None:
            return False
        del self._under_way[key]
        self._on_trial(row)
        return True

    def lost(self, key: str, reason: str) -> None:
        """Queue a training again whose worker is gone, for ``reason``.

        It fails if that happens too often.
        """
        task, study = self._under_way.pop(key), self._tasks.study
        self._lost_in_a_row += 1
        try:
            recover_killed_trial(study, storage_of(study).get_trial(task.trial_id), max_retries=self._max_retries)
            trial = storage_of(study).get_trial(task.trial_id)
        except Exception as error:
            self.error, self._is_broken = error, True
            return
        self._say(f"trial {task.number} lost its worker: {reason}")
        if trial.state.is_finished():
            self._on_trial(trial_record(trial, latency_scale(study)))
        if self._lost_in_a_row > self._widest + self._max_retries:
            self.error = NasError(f"{self._lost_in_a_row} workers in a row were lost without an epoch: {reason}")

    def unfit(self, reason: str) -> None:
        """Stop, because a worker could not start, nor would the next one there.

        ``release`` queues its trial again.
        """
        self.error, self._is_broken = NasError(f"a machine of the cluster cannot train: {reason}"), True

    def release(self) -> None:
        """Queue again whatever is under way."""
        while self._under_way:
            release_trial(self._tasks.study, self._under_way.popitem()[1].trial_id)
        self._tasks.release()

    def _told(self, task: TrialTask, report: Report) -> TrialRecord | None:
        """The row of a trial that ``report`` ended; None if it goes on."""
        row: TrialRecord | None = None
        match report:
            case EpochResult():
                reason = self._tasks.report_epoch(task, report)
                row = finish_without_result(self._tasks.study, task, Outcome.STOPPED, reason) if reason else None
            case TrainingFailed(reason=reason):
                row = finish_without_result(self._tasks.study, task, Outcome.FAILED, reason)
            case TrainingDone(evaluation=evaluation, files=files):
                if self._evaluator.weights_dir is not None:
                    for name, content in files.items():
                        write_bytes_atomically(self._evaluator.weights_dir / name, content)
                row = self._tasks.tell(task, evaluation)
        if row is not None:
            self._evaluator.discard_checkpoint(task.arch, repeat=task.repeat)
        return row
