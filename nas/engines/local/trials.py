"""Trials on this machine: in this process, or in supervised workers."""

from __future__ import annotations

import os

import optuna

from nas.engines.local.supervisor import Supervisor
from nas.study.kind import StudyKind
from nas.study.progress import TrialProgress
from nas.study.session import StudySession
from nas.study.trial_attributes import count_finished
from nas.study.trial_loop import run_trial_loop as run_tasks
from nas.study.trial_record import TrialRecord


def run_local_trials(session: StudySession, kind: StudyKind, study: optuna.Study, progress: TrialProgress) -> None:
    """Run the remaining trials of ``study``.

    Raises: KeyboardInterrupt when the user stops them; NasError.
    """
    settings, threads = session.plan.engine, session.plan.proxy.threads

    def on_trial(row: TrialRecord) -> None:
        progress.on_trial(row)
        session.check_latencies(study, progress.say)

    workers = min(settings.processes, session.total(study) - count_finished(study))
    if workers <= 1 and not settings.limits_trials:
        run_tasks(session.ask_tell(study), session.evaluator, on_trial)
        return
    cores = len(os.sched_getaffinity(0))
    if workers * threads > max(cores, threads):
        progress.say(f"note: {workers} workers of {threads} threads (proxy.threads) share {cores} cores.")
    Supervisor(session, kind, study, progress).run()
