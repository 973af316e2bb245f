"""Workers ask and their parent measures: one network at a time, and nothing is trained beside it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from typing import Any, Final

import optuna
from optuna.trial import Trial, TrialState

from nas.core.errors import NasError
from nas.study.candidates import Pricer
from nas.study.measurement import Measurer
from nas.study.storage.optuna_private import storage_of, trial_id
from nas.study.trial_attributes import MeasuredLatency

_KEY: Final = "nas:measure"  # system attribute of a trial: the question, then the answer in its place
_ASKED: Final = {"state": "asked"}
_POLL_S: Final = 0.2


def request_measurement(study: optuna.Study, trial: Trial) -> MeasuredLatency:
    """What the parent measures of the network of ``trial``, waited for. Raises: NasError with its reason if it cannot.

    The question stands in the study's storage, so that nothing is left over from a worker that is killed.
    """
    storage = storage_of(study)
    storage.set_trial_system_attr(trial_id(trial), _KEY, _ASKED)
    while (said := storage.get_trial(trial_id(trial)).system_attrs[_KEY]) == _ASKED:
        time.sleep(_POLL_S)
    if said["state"] == "failed":
        raise NasError(said["reason"])
    return MeasuredLatency(said["latency_ms"], said["spread_ms"], said["reference_ms"])


def serve_requests(study: optuna.Study, pricer: Pricer, measure: Measurer, workers: Sequence[BaseProcess] = ()) -> None:
    """Measure what the ``workers`` of ``study`` wait for, one after the other and each network once."""
    trials = study.get_trials(deepcopy=False)
    known = {trial.user_attrs.get("arch_id"): said for trial in trials if (said := _answer_in(trial.system_attrs))}
    for trial in trials:
        if trial.state is TrialState.RUNNING and trial.system_attrs.get(_KEY) == _ASKED:
            arch = pricer.decode(trial.params)
            if arch.arch_id not in known:
                try:
                    with pause_training(workers):
                        measured = measure([arch])[0]
                    known[arch.arch_id] = {"state": "measured", **measured._asdict()}
                except Exception as error:  # the candidate's trouble, as it is in a search without workers
                    _tell(study, trial, {"state": "failed", "reason": str(error) or type(error).__name__})
                    continue
            _tell(study, trial, known[arch.arch_id])


@contextmanager
def pause_training(workers: Sequence[BaseProcess]) -> Iterator[None]:
    """Stop the living ``workers`` meanwhile: beside a training the same network took half as long again."""
    pids = [worker.pid for worker in workers if worker.pid is not None and worker.is_alive()]
    try:
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it was killed meanwhile
        os.kill(pid, number)


def _answer_in(attributes: dict[str, Any]) -> dict[str, Any] | None:
    said = attributes.get(_KEY)
    return said if said and said["state"] == "measured" else None


def _tell(study: optuna.Study, trial: optuna.trial.FrozenTrial, said: dict[str, Any]) -> None:
    storage_of(study).set_trial_system_attr(trial_id(trial), _KEY, said)
