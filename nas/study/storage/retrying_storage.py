"""Optuna's storage with retries: a call that failed is repeated, idempotently."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.core.errors import NasError
from nas.study.storage.backends import close_backend, write_to_backend
from nas.study.storage.optuna_private import trial_id
from nas.study.storage.retry_policy import LONGEST_PAUSE_S, Result, RetryPolicy, RetryWait, call_with_retries
from nas.study.storage.trial_writes import TrialWrites

_MADE_BY: Final = "nas:made_by"  # system attributes of a trial: the call that made it, and the call that took it
_TAKEN_BY: Final = "nas:taken_by"
_GRACE_S: Final = 3 * LONGEST_PAUSE_S
_SETTLE_S: Final = 1.0


def _forwarded(name: str) -> Callable[..., Any]:
    """A method that forwards an idempotent call: a read, or a repeatable write."""

    def method(self: RetryingStorage, *arguments: Any, **named: Any) -> Any:
        return self._through(lambda: getattr(self.backend, name)(*arguments, **named))

    method.__name__ = name
    return method


class RetryingStorage(BaseStorage):  # type: ignore[misc]
    """The storage ``backend``, found at ``url``, with ``retry``.

    A connection that breaks may take the answer with it: what was asked for is done or is not. A call that must not
    be done twice leaves a mark in what it does, by which the next attempt knows its work.

    ``guard`` is asked before a trial is made or changes its state; a text says why this process may not any more.
    Once it was waited in vain, or the guard refused, every further call is refused at once.
    """

    def __init__(self, backend: BaseStorage, url: str, retry: RetryPolicy) -> None:
        self.backend = backend
        self.guard: Callable[[], str] = str
        self.url = url
        self._retry = retry
        self._refusal = ""
        self._waits: set[RetryWait] = set()

    create_new_study = _forwarded("create_new_study")  # a study made unheard is a duplicate, which Optuna then loads
    delete_study = _forwarded("delete_study")
    set_study_user_attr = _forwarded("set_study_user_attr")
    set_study_system_attr = _forwarded("set_study_system_attr")
    get_study_id_from_name = _forwarded("get_study_id_from_name")
    get_study_name_from_id = _forwarded("get_study_name_from_id")
    get_study_directions = _forwarded("get_study_directions")
    get_study_user_attrs = _forwarded("get_study_user_attrs")
    get_study_system_attrs = _forwarded("get_study_system_attrs")
    get_all_studies = _forwarded("get_all_studies")
    set_trial_param = _forwarded("set_trial_param")
    get_trial_id_from_study_id_trial_number = _forwarded("get_trial_id_from_study_id_trial_number")
    set_trial_intermediate_value = _forwarded("set_trial_intermediate_value")
    set_trial_user_attr = _forwarded("set_trial_user_attr")
    set_trial_system_attr = _forwarded("set_trial_system_attr")
    get_trial = _forwarded("get_trial")
    get_all_trials = _forwarded("get_all_trials")
    get_best_trial = _forwarded("get_best_trial")
    remove_session = _forwarded("remove_session")

    @property
    def is_waiting(self) -> bool:
        """Whether some call is being made again and again at the moment."""
        return any(wait.reason for wait in tuple(self._waits))

    def close(self) -> None:
        """Give back the connections that this process holds."""
        close_backend(self.backend)

    def refuse(self, reason: str) -> None:
        """Let no call through any more; each raises NasError with ``reason``."""
        self._refusal = reason

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Make one trial, also where the answer to the first attempt was lost."""
        self._ask_guard()
        mark = secrets.token_hex(8)
        template = copy.copy(template_trial or create_trial(state=TrialState.RUNNING))
        template.system_attrs = {**template.system_attrs, _MADE_BY: mark}

        def make() -> int:
            return int(self.backend.create_new_trial(study_id, template))

        def find_or_make() -> int:
            trials = self.backend.get_all_trials(study_id, deepcopy=False)
            made = [trial_id(trial) for trial in trials if trial.system_attrs.get(_MADE_BY) == mark]
            return made[0] if made else make()

        return self._through(make, find_or_make)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Change the state of a trial.

        False if it was to go from WAITING to RUNNING and another worker was faster.
        """
        self._ask_guard()
        if state is TrialState.RUNNING:
            return self._take(trial_id)
        if state is TrialState.WAITING:
            self.set_trial_system_attr(trial_id, _TAKEN_BY, None)

        def tell() -> bool:
            return bool(self.backend.set_trial_state_values(trial_id, state, values))

        return self._through(tell, lambda: self._ended(tell, trial_id, state, values))

    def write_trial(self, trial_id: int, writes: TrialWrites) -> None:
        """Write into an unfinished trial, in one transaction where the backend can."""
        if writes.state is None:
            self._through(lambda: write_to_backend(self.backend, trial_id, writes))
            return
        self._ask_guard()
        state, values = writes.state, writes.values

        def write() -> bool:
            write_to_backend(self.backend, trial_id, writes)
            return True

        self._through(write, lambda: self._ended(write, trial_id, state, values))

    def _ended(
        self, again: Callable[[], bool], trial_id: int, state: TrialState, values: Sequence[float] | None
    ) -> bool:
        """Try ``again`` to end a trial; True if the attempt before it has done it."""
        try:
            return again()
        except UpdateFinishedTrialError:
            trial = self.backend.get_trial(trial_id)
            if trial.state is state and trial.values == (None if values is None else list(values)):
                return True
            raise

    def _take(self, trial_id: int) -> bool:
        """Take a queued trial, and sign it."""
        mark = secrets.token_hex(8)

        def take() -> bool:
            return bool(self.backend.set_trial_state_values(trial_id, TrialState.RUNNING))

        taken = self._through(take, lambda: take() or self._adopt(trial_id, mark))
        if taken:
            self.set_trial_system_attr(trial_id, _TAKEN_BY, mark)
        return taken

    def _adopt(self, trial_id: int, mark: str) -> bool:
        """Whether a RUNNING trial was taken by this worker's unanswered attempt.

        Otherwise another worker took it.

        Another signs it as soon as it reaches the storage. Two that both lost their answer sign one after the other,
        and the later signature is valid.
        """
        clock, sleep = self._retry.clock, self._retry.sleep
        until = clock() + _GRACE_S
        while clock() < until:
            trial = self.backend.get_trial(trial_id)
            if trial.state is not TrialState.RUNNING or trial.system_attrs.get(_TAKEN_BY):
                return False
            sleep(_SETTLE_S)
        self.backend.set_trial_system_attr(trial_id, _TAKEN_BY, mark)
        sleep(_SETTLE_S)
        return bool(self.backend.get_trial(trial_id).system_attrs.get(_TAKEN_BY) == mark)

    def _ask_guard(self) -> None:
        reason = self._through(self.guard)
        if reason:
            self.refuse(reason)
            raise NasError(reason)

    def _through(self, call: Callable[[], Result], again: Callable[[], Result] | None = None) -> Result:
        if self._refusal:
            raise NasError(self._refusal)
        wait = RetryWait(self._retry, self.url)
        self._waits.add(wait)
        try:
            return call_with_retries(call, wait, again)
        except NasError as error:
            self._refusal = str(error)  # what the user's code does to clean up is not to wait as long again
            raise
        except KeyboardInterrupt:
            if wait.reason:
                self._refusal = wait.stopped("interrupted")
            raise
        finally:
            self._waits.discard(wait)
