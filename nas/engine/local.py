"""Trials on this machine: in this process, or in worker processes of one thread each on the same study."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from typing import Final

import optuna
import torch
from rich.console import Console

from nas.arch.errors import NasError
from nas.engine.timing import answer, ask
from nas.study.progress import TrialProgress
from nas.study.rows import Outcome
from nas.study.storage import recover
from nas.study.tasks import work as run_tasks
from nas.study.trials import finished, to_row
from nas.study.work import Plan, Prepared, Work

_POLL_S: Final = 1.0
_PR_SET_PDEATHSIG: Final = 1  # of Linux' prctl
_GRACE_S: Final = 60.0


def run_trials(session: Prepared, work: Work, study: optuna.Study, progress: TrialProgress) -> None:
    """Run the trials that are left of ``study``. Raises: KeyboardInterrupt when the user stops them; NasError."""
    if min(session.plan.engine.workers, session.total(study) - finished(study)) <= 1:
        run_tasks(session.tasks(study), session.evaluator, progress.on_trial)
        return
    while _run_workers(session, work, study, progress):
        progress.say("a worker was killed: its trial is queued again")


def _run_workers(session: Prepared, work: Work, study: optuna.Study, progress: TrialProgress) -> bool:
    """Spawn workers, follow the study and measure for them until they end; an interrupt is passed on to them.

    True if one was killed after it had begun or finished a trial: a new set of workers is to go on (``recover`` bounds
    that). Raises: NasError if they ended otherwise before the study had its trials, with the reason of the first.
    """
    plan, before = session.plan, finished(study)
    context = multiprocessing.get_context("spawn")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by the workers when they load torch
    reasons = context.SimpleQueue()
    names = [f"worker-{i}" for i in range(min(plan.engine.workers, session.total(study) - before))]
    arguments = (plan, work, reasons)
    workers: list[BaseProcess] = [context.Process(target=_work, args=arguments, name=name) for name in names]
    seen = {trial.number for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()}
    for worker in workers:
        worker.start()
    try:
        # The others would wait for the trials of a killed worker, so that its death ends them all.
        while any(worker.is_alive() for worker in workers) and not _killed(workers):
            _show_new(study, seen, progress)
            if plan.latency.refine and session.pricer and session.measure:
                answer(study, session.pricer, session.measure, workers)
            time.sleep(_POLL_S)
    finally:
        killed = _killed(workers)
        _stop(workers)
        recovered = recover(study)
        _show_new(study, seen, progress)
    done, complete = finished(study), session.is_complete(study)
    if not complete and not (killed and (recovered or done > before)):
        said = None if reasons.empty() else reasons.get()
        codes = ", ".join(str(worker.exitcode) for worker in workers)
        so_far = f"stopped after {done} of {session.total(study)} trials"
        raise NasError(said or f"{so_far}: worker processes ended with codes {codes}.")
    return not complete


def _killed(workers: list[BaseProcess]) -> bool:
    return any((worker.exitcode or 0) < 0 for worker in workers)


def _show_new(study: optuna.Study, seen: set[int], progress: TrialProgress) -> None:
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished() and trial.number not in seen:
            seen.add(trial.number)
            row = to_row(trial)
            if row.outcome is not Outcome.RUNNING:
                progress.on_trial(row)


def _stop(workers: list[BaseProcess]) -> None:
    """Ask the living workers to stop, and end those that do not."""
    for worker in workers:
        if worker.is_alive() and worker.pid is not None:
            os.kill(worker.pid, signal.SIGINT)
    deadline = time.monotonic() + _GRACE_S
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
        if worker.is_alive():
            worker.kill()
            worker.join()


def _work(plan: Plan, work: Work, reasons: SimpleQueue[str]) -> None:
    """A worker process: its own session on the shared study, silent, until the study has its trials.

    Says into ``reasons`` why it stopped before that.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # A worker that is held while its parent measures cannot end itself should the parent be killed; the kernel can.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    torch.set_num_threads(1)
    with open(os.devnull, "w", encoding="utf-8") as silence, contextlib.suppress(KeyboardInterrupt):
        try:
            session = work.prepare(plan, Console(file=silence))
            study = session.open()
            name = multiprocessing.current_process().name
            tasks = session.tasks(study, timed=lambda trial, _: ask(study, trial), worker=name)
            run_tasks(tasks, session.evaluator)
        except NasError as error:
            reasons.put(str(error))


def _end_with_parent() -> None:
    """End this worker as soon as its parent is gone: a new run must find nobody at work on the study."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
