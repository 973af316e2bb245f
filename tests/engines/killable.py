"""Workers that are killed at a chosen write to the storage, and a crew of puppets whose steps a test decides."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from nas.engines.local.worker import Worker
from nas.estimators.base import Evaluator
from nas.study.storage.retry_policy import RetryPolicy
from nas.study.storage.retrying_storage import RetryingStorage
from nas.study.trial_loop import AskTell, Idle, TrialTask, run_trial
from nas.study.trial_record import Outcome

WRITES = (
    "create_new_trial",
    "set_study_system_attr",
    "set_study_user_attr",
    "set_trial_intermediate_value",
    "set_trial_param",
    "set_trial_state_values",
    "set_trial_system_attr",
    "set_trial_user_attr",
)


class Mortal:
    """A storage as a process sees it that is killed before its write number ``life``, from 0; None: never.

    Whatever it tries afterwards is in vain too: nobody tidies up after SIGKILL.
    """

    def __init__(self, storage: Any, life: int | None) -> None:
        self.writes = 0
        self._storage, self._life = storage, life

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._storage, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            if self._life is not None and self.writes >= self._life and name in WRITES:
                self._life = -1
            if self._life == -1:
                raise SystemExit("killed")
            self.writes += name in WRITES
            return found(*arguments, **named)

        return call


def as_seen_by(study: optuna.Study, life: int | None) -> optuna.Study:
    """``study`` for a worker that is killed before its write number ``life``."""
    return seen_through(study, Mortal(study._storage, life))


def seen_through(study: optuna.Study, storage: Any) -> optuna.Study:
    """``study`` as a worker has it whose calls go through ``storage``, with the marks of our own storage."""
    return optuna.load_study(study_name=study.study_name, storage=RetryingStorage(storage, "memory", RetryPolicy()))


def trained_once(study: optuna.Study, what: Callable[[FrozenTrial], object]) -> set[object]:
    """``what`` was trained in ``study``, which was nothing twice."""
    trained = [what(trial) for trial in study.trials if trial.user_attrs.get("outcome") == Outcome.TRAINED]
    assert len(set(trained)) == len(trained)
    return set(trained)


Script = Iterator[None]


class Puppet(Worker):
    """A worker that is no process: ``script`` does one step of it whenever its parent listens. Is its own process."""

    _numbers = itertools.count()
    pid = 0
    sentinel = 0

    def __init__(self, place: int, script: Callable[[Puppet], Script]) -> None:
        self.name, self.place = f"puppet-{next(self._numbers)}", place
        self.number: int | None = None
        self.since_s, self.reason = 0.0, ""
        self.ready = self.began = False
        self.ended_for = None
        self.process: Any = self
        self.exitcode: int | None = None
        self._script = script(self)

    def hear(self, now_s: float) -> bool:
        if self.exitcode is None:
            at = self.number
            try:
                next(self._script)
            except StopIteration:
                self.exitcode = 0
            except SystemExit:
                self.exitcode = -9
            if self.number != at:
                self.since_s = now_s
        return True

    def is_alive(self) -> bool:
        return self.exitcode is None

    def join(self, timeout: float | None = None) -> None:
        pass

    def interrupt(self) -> None:
        self.exitcode = 0

    def kill(self) -> None:
        self.exitcode = -9 if self.exitcode is None else self.exitcode


def at_work(puppet: Puppet, tasks: AskTell, evaluator: Evaluator) -> Script:
    """The life of a worker, a pause between taking a training and doing it."""
    puppet.ready = True
    while (found := tasks.ask()) is not Idle.OVER:
        puppet.began |= not isinstance(found, Idle)
        if isinstance(found, TrialTask):
            puppet.number = found.number
            yield
            run_trial(tasks, found, evaluator)
            puppet.number = None
        yield
    tasks.release()
