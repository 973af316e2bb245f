"""Supervised worker processes: one that dies is replaced.

Its trials are recovered, and the others go on.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterable
from multiprocessing.connection import wait
from typing import Final

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from nas.core.errors import NasError
from nas.engines.local.limits import exceeded_limit, memory_warning, resident_mb
from nas.engines.local.measure_requests import pause_training, serve_requests
from nas.engines.local.worker import Worker, start_server
from nas.study.kind import StudyKind
from nas.study.progress import TrialProgress
from nas.study.recovery import OUT_OF_MEMORY, fail_trial, recover_killed_trial, requeue_trial
from nas.study.session import StudySession
from nas.study.trial_attributes import WORKER, count_finished, is_abandoned, latency_scale, trial_record

_POLL_S: Final = 1.0
_LIMITED_POLL_S: Final = 0.2  # a training takes memory faster than a person reads progress
_GRACE_S: Final = 60.0  # for workers that were asked to stop, to give their trials back
_CLAIM_S: Final = 30.0  # between taking a trial and writing one's name into it a sampler may draw for seconds


class Supervisor:
    """The workers of one study, from the first to the last. ``run`` it once.

    Its clock is stopped while workers are held for a measurement, and while the storage lets the parent wait.
    """

    def __init__(self, session: StudySession, kind: StudyKind, study: optuna.Study, progress: TrialProgress) -> None:
        self._session, self._kind, self._study, self._progress = session, kind, study, progress
        self._settings = session.plan.engine
        self._workers: list[Worker] = []
        self._places = list(range(self._settings.processes))
        self._in_vain = 0  # workers in a row that were killed before they took a trial
        self._reasons: list[str] = []
        self._clock_s = 0.0
        self._unclaimed: dict[int, float] = {}  # RUNNING trials that no worker signed, since when
        self._has_warned = False
        self._shown = {trial.number for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()}

    def run(self) -> None:
        """Until the study has its trials; an interrupt is passed on to the workers.

        Raises: NasError if no worker can go on before that, with the reason of the first that could not.
        """
        try:
            start_server(self._kind)
            self._fill()
            while self._workers:
                self._watch()
        finally:
            try:
                self._stop()
            finally:
                for trial in self._running():  # of workers that were ended here, which is no fault of their trials
                    requeue_trial(self._study, trial)
                self._show_new()
        if not self._session.is_complete(self._study):
            so_far = f"stopped after {count_finished(self._study)} of {self._session.total(self._study)} trials"
            raise NasError(self._reasons[0] if self._reasons else f"{so_far}: no worker is left.")

    def _fill(self) -> None:
        """Start workers for empty places, as far as there are trials for them."""
        left = self._session.total(self._study) - count_finished(self._study)
        taken = {worker.place for worker in self._workers}
        for place in [place for place in self._places if place not in taken]:
            if len(self._workers) < left:
                self._workers.append(Worker(self._session.plan, self._kind, place))

    def _watch(self) -> None:
        """Wait until a worker ends or the poll is due, then handle what happened.

        Recover, replace, show, measure and check limits.
        """
        before = time.monotonic()
        limited = self._settings.trial_memory_mb is not None
        wait([worker.process.sentinel for worker in self._workers], _LIMITED_POLL_S if limited else _POLL_S)
        self._clock_s += time.monotonic() - before
        dead = [worker for worker in self._workers if not worker.process.is_alive()]
        has_ended = [worker.hear(self._clock_s) for worker in self._workers]
        for worker in dead:
            self._remove(worker)
        self._recover_unclaimed()
        if dead or any(has_ended):
            self._show_new()
            self._check_latencies()
        if dead:
            self._fill()
        self._answer()
        self._enforce()

    def _remove(self, worker: Worker) -> None:
        """Recover the trials of a worker that has ended.

        Notes RUNNING trials that belong to no living worker.
        """
        self._workers.remove(worker)
        trials = [trial for trial in self._running() if trial.user_attrs.get(WORKER) == worker.name]
        for trial in trials:
            self._recover_from(worker, trial)
        self._report_end(worker, ", ".join(str(trial.number) for trial in trials))
        living = {other.name for other in self._workers}
        nobodys = [trial.number for trial in self._running() if trial.user_attrs.get(WORKER) not in living]
        self._unclaimed = {number: self._unclaimed.get(number, self._clock_s) for number in nobodys}

    def _report_end(self, worker: Worker, numbers: str) -> None:
        """Print how a worker ended.

        Its place stays empty if another worker would end in the same way.
        """
        code = worker.exit_code
        killed = f"killed by {signal.Signals(-code).name}" if code < 0 else ""
        how = f"was {killed}" if killed else f"ended with exit code {code}"
        if worker.began:
            self._in_vain = 0
        elif killed:
            self._in_vain += 1
        reason = worker.reason
        if code > 0:
            reason = reason or f"a worker process {how}; what it wrote above says why."
        elif killed and self._in_vain > self._settings.max_retries:
            row = f"{self._in_vain} worker processes in a row were {killed} before their first trial"
            reason = reason or f"{row}; {OUT_OF_MEMORY}."
        if reason:
            self._places.remove(worker.place)
            self._reasons.append(reason)
        if code and not worker.ended_for:
            self._progress.say(f"{worker.name} {how}" + (f"; taken back: trial {numbers}" if numbers else ""))

    def _recover_from(self, worker: Worker, trial: FrozenTrial) -> None:
        """Queue a dead worker's trial again, or fail one beyond a limit.

        A trial that may have caused the death is marked.
        """
        with contextlib.suppress(UpdateFinishedTrialError):  # its last word reached the storage only now
            if worker.ended_for:
                number, reason = worker.ended_for
                fail_trial(self._study, trial, reason) if trial.number == number else requeue_trial(self._study, trial)
            elif worker.exit_code and worker.number in (None, trial.number):
                recover_killed_trial(self._study, trial, max_retries=self._settings.max_retries)
            else:
                requeue_trial(self._study, trial)

    def _recover_unclaimed(self) -> None:
        """Queue trials again whose worker was killed between taking them and signing them."""
        due = {number for number, since_s in self._unclaimed.items() if self._clock_s - since_s > _CLAIM_S}
        if not due:
            return
        living = {worker.name for worker in self._workers}
        for trial in self._running():
            if trial.number in due and trial.user_attrs.get(WORKER) not in living:
                recover_killed_trial(self._study, trial, max_retries=self._settings.max_retries)
        self._unclaimed = {number: since for number, since in self._unclaimed.items() if number not in due}

    def _enforce(self) -> None:
        """Kill the workers whose trial is beyond a limit.

        The next round recovers their trials.
        """
        for worker in self._workers:
            if worker.number is None:
                continue
            held_mb = resident_mb(worker.process.pid or 0)
            warning = memory_warning(self._settings, held_mb=held_mb)
            if warning and not self._has_warned:
                self._has_warned = True
                self._progress.say(f"{worker.name} at trial {worker.number} holds {warning}")
            reason = exceeded_limit(self._settings, trained_s=self._clock_s - worker.since_s, held_mb=held_mb)
            if reason:
                worker.ended_for = (worker.number, reason)
                worker.kill()

    def _answer(self) -> None:
        """Serve the latency measurement requests of workers.

        All workers are paused while one measures.
        """
        session = self._session
        if session.plan.latency.refine and session.pricer and session.measure:
            serve_requests(self._study, session.pricer, session.measure, [worker.process for worker in self._workers])

    def _check_latencies(self) -> None:
        """Check predicted latencies when due, with all workers paused meanwhile."""
        processes = [worker.process for worker in self._workers]
        self._session.check_latencies(self._study, self._progress.say, lambda: pause_training(processes))

    def _stop(self) -> None:
        """Let the workers release their trials.

        Those that do not, or all on a second interrupt, are killed at once.
        """
        try:
            for worker in self._workers:
                worker.hear(self._clock_s)
                worker.interrupt()
            deadline = time.monotonic() + _GRACE_S
            for worker in self._workers:
                worker.process.join(max(0.0, deadline - time.monotonic()))
        finally:
            for worker in self._workers:
                worker.kill()

    def _running(self) -> Iterable[FrozenTrial]:
        return list(self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))

    def _show_new(self) -> None:
        """Show the trials that have ended since."""
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state.is_finished() and trial.number not in self._shown:
                self._shown.add(trial.number)
                if "outcome" in trial.user_attrs and not is_abandoned(trial):
                    self._progress.on_trial(trial_record(trial, latency_scale(self._study)))
