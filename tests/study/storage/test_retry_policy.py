"""Storages that are locked, full or gone: waited for with a message, given up cleanly, and nothing done twice."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from nas.core.errors import NasError
from nas.study.storage.opening import open_study
from nas.study.storage.retry_policy import RetryPolicy, RetryWait, call_with_retries, is_transient, storage_error_reason
from nas.study.storage.retrying_storage import RetryingStorage
from tests.study.fakes import PARETO

Opened = Callable[..., RetryingStorage]


class FakeTime:
    """A clock that only sleeping moves on, and what was said at which second."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.said: list[tuple[int, str]] = []

    def patience(self, limit_s: float = 600.0) -> RetryPolicy:
        return RetryPolicy(limit_s=limit_s, say=self._say, clock=lambda: self.now_s, sleep=self._sleep)

    def _say(self, text: str) -> None:
        self.said.append((int(self.now_s), text))

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds


class Flaky(InMemoryStorage):
    """A storage whose connection breaks: before (``lost``) or after (``unheard``) the next calls of a method."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: dict[str, int] = {}
        self.unheard: dict[str, int] = {}

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or name not in (
            "create_new_trial",
            "set_trial_state_values",
            "get_trial",
            "get_all_trials",
        ):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            if self.lost.get(name, 0) > 0:
                self.lost[name] -= 1
                raise locked()
            result = found(*arguments, **named)
            if self.unheard.get(name, 0) > 0:
                self.unheard[name] -= 1
                raise locked()
            return result

        return call


def locked() -> StorageInternalError:
    """The error that Optuna makes of a locked database."""
    original = sqlite3.OperationalError("database is locked")
    original.sqlite_errorcode = sqlite3.SQLITE_BUSY
    error = StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = sqlalchemy.exc.OperationalError("UPDATE", {}, original)
    return error


def flaky_study(time: FakeTime, limit_s: float = 600.0) -> tuple[Flaky, optuna.Study]:
    backend = Flaky()
    storage = RetryingStorage(backend, "sqlite:///x.db", time.patience(limit_s))
    return backend, open_study(storage, "s", PARETO, {})


def test_a_storage_that_is_away_is_asked_again_with_a_message_now_and_then() -> None:
    time = FakeTime()
    backend, study = flaky_study(time)
    backend.lost["get_all_trials"] = 20
    assert study.trials == []
    seconds = [second for second, _ in time.said]
    assert time.said[0][1] == "storage not reachable (database is locked): trying again, 0:01 of 10:00"
    assert all(later - earlier >= 29 for earlier, later in pairwise(seconds[:-1]))
    assert time.said[-1][1].startswith("storage reachable again after 1:")


def test_a_moment_is_not_worth_a_message() -> None:
    time = FakeTime()
    backend, study = flaky_study(time)
    backend.lost["get_all_trials"] = 3
    assert study.trials == [] and time.said == []


def test_retries_end_at_the_limit_and_do_not_start_again() -> None:
    time = FakeTime()
    backend, study = flaky_study(time, limit_s=60.0)
    backend.lost["get_all_trials"] = 10**6
    with pytest.raises(NasError) as caught:
        study.get_trials()
    text = str(caught.value)
    assert "study.storage 'sqlite:///x.db' was not reachable for 1:00 (database is locked): stopped." in text
    assert "kept" in text and "same command" in text and "study.patience_s" in text and "\n" not in text
    assert time.now_s == pytest.approx(60.0)
    with pytest.raises(NasError, match="was not reachable for 1:00"):
        study.ask()  # what cleans up does not wait as long again
    assert time.now_s == pytest.approx(60.0)


def test_an_interrupt_while_waiting_is_not_followed_by_more_waiting() -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    backend = Flaky()
    storage = RetryingStorage(backend, "sqlite:///x.db", RetryPolicy(sleep=interrupt))
    study = open_study(storage, "s", PARETO, {})
    backend.lost["get_all_trials"] = 10**6
    with pytest.raises(KeyboardInterrupt):
        study.get_trials()
    with pytest.raises(NasError, match=r"\(database is locked\): interrupted\."):
        study.ask()


def test_a_trial_that_was_made_unheard_is_not_made_twice() -> None:
    backend, study = flaky_study(FakeTime())
    backend.unheard["create_new_trial"] = 1
    assert study.ask().number == 0
    backend.lost["create_new_trial"] = 2
    assert study.ask().number == 1
    study.enqueue_trial({"a": 1.0})
    backend.unheard["create_new_trial"] = 1
    study.enqueue_trial({"a": 2.0})
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3]


def test_a_trial_that_was_told_unheard_is_told_once() -> None:
    backend, study = flaky_study(FakeTime())
    backend.unheard["set_trial_state_values"] = 1
    study.tell(study.ask(), [0.5, 1.0])
    assert study.trials[0].values == [0.5, 1.0]
    with pytest.raises(UpdateFinishedTrialError):  # by somebody else, not by an answer that was lost
        study._storage.set_trial_state_values(0, TrialState.FAIL)


def test_a_queued_trial_that_was_taken_unheard_is_ours() -> None:
    time = FakeTime()
    backend, study = flaky_study(time)
    study.enqueue_trial({})
    backend.unheard["set_trial_state_values"] = 1
    assert study.ask().number == 0
    assert len(study.trials) == 1 and time.now_s > 10  # another worker was given the time to sign it


def test_a_queued_trial_that_another_signed_is_not_ours() -> None:
    backend, study = flaky_study(FakeTime())
    study.enqueue_trial({})
    other = RetryingStorage(backend, "sqlite:///x.db", RetryPolicy())
    assert other.set_trial_state_values(0, TrialState.RUNNING)
    backend.lost["set_trial_state_values"] = 1
    assert not study._storage.set_trial_state_values(0, TrialState.RUNNING)
    other.set_trial_state_values(0, TrialState.WAITING)  # given back: whoever takes it next signs anew
    backend.unheard["set_trial_state_values"] = 1
    assert study._storage.set_trial_state_values(0, TrialState.RUNNING)


def test_a_locked_database_is_waited_for(tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.study.storage.database._SQLITE_TIMEOUT_S", 0.1)
    path = tmp_path / "optuna.db"
    said: list[str] = []
    holder: list[sqlite3.Connection] = []

    def say(text: str) -> None:
        said.append(text)
        if holder:
            holder.pop().close()

    study = open_study(opened(f"sqlite:///{path}", RetryPolicy(say=say)), "s", PARETO, {})
    holder.append(sqlite3.connect(path, check_same_thread=False, isolation_level=None))
    holder[0].execute("BEGIN IMMEDIATE")
    study.ask()
    assert re.match(r"storage not reachable \(database is locked\): trying again, \d+:\d\d of 10:00", said[0])
    assert said[1].startswith("storage reachable again") and len(study.trials) == 1


def test_only_what_passes_is_waited_for() -> None:
    def by_code(code: int) -> BaseException:
        original = sqlite3.OperationalError("x")
        original.sqlite_errorcode = code
        return sqlalchemy.exc.OperationalError("", {}, original)

    assert is_transient(by_code(sqlite3.SQLITE_FULL)) and is_transient(by_code(sqlite3.SQLITE_BUSY_SNAPSHOT))
    assert not is_transient(by_code(sqlite3.SQLITE_ERROR))  # no such table
    assert is_transient(OSError(errno.ENOSPC, "full")) and not is_transient(FileNotFoundError(errno.ENOENT, "gone"))
    assert not is_transient(sqlalchemy.exc.IntegrityError("", {}, sqlite3.IntegrityError("twice")))
    assert not is_transient(KeyError("no such study")) and not is_transient(StorageInternalError("without a cause"))
    with pytest.raises(KeyError):
        call_with_retries(lambda: {}["a"], RetryWait(FakeTime().patience(), "sqlite:///x.db"))


def test_reasons_are_one_line_without_passwords() -> None:
    assert storage_error_reason(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x")) == "No space left on device"
    original = sqlite3.OperationalError("cannot reach mysql://u:secret@host/db.\nHINT: x")
    assert storage_error_reason(sqlalchemy.exc.OperationalError("", {}, original)) == "cannot reach mysql://***@host/db"
    numbered = sqlite3.OperationalError(2003, "Can't connect to MySQL server")
    assert storage_error_reason(sqlalchemy.exc.OperationalError("", {}, numbered)) == "Can't connect to MySQL server"
