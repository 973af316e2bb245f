"""Measurements that workers request from their parent process.

One network at a time, and nothing is trained beside it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from typing import Any, Final

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas.core.credentials import mask_credentials
from nas.core.errors import NasError
from nas.study.candidates import Pricer
from nas.study.measurement import Measurer
from nas.study.storage.optuna_private import storage_of, trial_id
from nas.study.trial_attributes import MeasuredLatency

_KEY: Final = "nas:measure"  # system attribute of a trial: the question, then the answer in its place
_ASKED: Final = {"state": "asked"}
_POLL_S: Final = 0.2


def request_measurement(study: optuna.Study, trial: FrozenTrial) -> MeasuredLatency:
    """The parent's measurement of the network of ``trial``, waited for.

    Raises: NasError with its reason if it cannot measure.

    The request is an attribute of the trial in the study's storage, so that a killed worker leaves nothing behind.
    """
    storage = storage_of(study)
    storage.set_trial_system_attr(trial_id(trial), _KEY, _ASKED)
    while (reply := storage.get_trial(trial_id(trial)).system_attrs[_KEY]) == _ASKED:
        time.sleep(_POLL_S)
    if reply["state"] == "failed":
        raise NasError(reply["reason"])
    return MeasuredLatency(**{name: reply.get(name) for name in MeasuredLatency._fields})


def serve_requests(study: optuna.Study, pricer: Pricer, measure: Measurer, workers: Sequence[BaseProcess] = ()) -> None:
    """Measure the networks that ``workers`` wait for, each once, one by one."""
    trials = study.get_trials(deepcopy=False)
    known = {trial.user_attrs.get("arch_id"): reply for trial in trials if (reply := _reply_in(trial.system_attrs))}
    for trial in trials:
        if trial.state is TrialState.RUNNING and trial.system_attrs.get(_KEY) == _ASKED:
            arch = pricer.decode(trial.params)
            if arch.arch_id not in known:
                try:
                    with pause_training(workers):
                        measured = measure([arch])[0]
                    known[arch.arch_id] = {"state": "measured", **measured._asdict()}
                except Exception as error:  # the candidate's trouble, as it is in a search without workers
                    reason = mask_credentials(str(error)) or type(error).__name__
                    _write_reply(study, trial, {"state": "failed", "reason": reason})
                    continue
            _write_reply(study, trial, known[arch.arch_id])


@contextmanager
def pause_training(workers: Sequence[BaseProcess]) -> Iterator[None]:
    """Stop the living ``workers`` within the context.

    Beside a training the same network took half as long again.
    """
    pids = [worker.pid for worker in workers if worker.pid is not None and worker.is_alive()]
    try:
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it was killed in the meantime
        os.kill(pid, number)


def _reply_in(attributes: dict[str, Any]) -> dict[str, Any] | None:
    reply = attributes.get(_KEY)
    return reply if reply and reply["state"] == "measured" else None


def _write_reply(study: optuna.Study, trial: FrozenTrial, reply: dict[str, Any]) -> None:
    storage_of(study).set_trial_system_attr(trial_id(trial), _KEY, reply)
