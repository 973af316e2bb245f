"""Optuna's storages, adapted for several writers, servers and the gRPC proxy."""

from __future__ import annotations

import json
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, Final

import optuna
import sqlalchemy
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from nas.core.credentials import mask_url
from nas.core.errors import NasError
from nas.study.storage.database import Database, SerialSqlite
from nas.study.storage.trial_writes import TrialWrites, write_one_by_one
from nas.study.storage.urls import url_file, url_proxy

# Of PostgreSQL's client library: a server that is gone without a word is noticed within a minute, not within hours.
_POSTGRES: Final = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
_CHUNK_BYTES: Final = 4096
_EXTRAS: Final = {"postgresql": "postgres", "mysql": "mysql", "grpc": "grpc"}


def make_backend(url: str) -> BaseStorage:
    """The storage at ``url``, which is as ``checked_url`` returns it.

    Raises: NasError where the package for it is missing; whatever the storage raises if it cannot be reached.
    """
    kind = url.partition("://")[0].partition("+")[0]
    path, proxy = url_file(url), url_proxy(url)
    try:
        if kind == "journal" and path is not None:
            return _journal(path)
        if proxy is not None:
            return _proxy(*proxy)
        return _database(url, kind)
    except ImportError as error:
        extra = _EXTRAS.get(kind)
        how = f"pip install 'nas[{extra}]' (or the driver that the URL names)" if extra else "install its driver"
        missing = error.name or getattr(error.__cause__, "name", None) or "its driver"
        raise NasError(f"study.storage {mask_url(url)!r}: {missing} is not installed; {how}.") from None


def close_backend(backend: BaseStorage) -> None:
    """Close the connections of this process; the storage may be used again."""
    if isinstance(backend, GrpcStorageProxy):
        backend.close()
    elif isinstance(backend, Database):
        backend.engine.dispose()


def write_to_backend(backend: BaseStorage, trial_id: int, writes: TrialWrites) -> None:
    """Write ``writes`` into an unfinished trial.

    In one transaction of a database, in one append to a journal. A proxy has no call for it and is asked for one write
    after the other. Raises: KeyError, UpdateFinishedTrialError.
    """
    if isinstance(backend, Database | Journal):
        backend.write_trial(trial_id, writes)
    else:
        write_one_by_one(backend, trial_id, writes)


class Journal(JournalStorage):  # type: ignore[misc]
    """Optuna's journal in a file, where several writes to a trial are one append."""

    def __init__(self, path: Path) -> None:
        self.file = RepairingJournal(path)
        super().__init__(self.file)

    def write_trial(self, trial_id: int, writes: TrialWrites) -> None:
        """Write all of ``writes`` into an unfinished trial.

        Raises: KeyError, UpdateFinishedTrialError.
        """
        self.check_trial_is_updatable(trial_id, self.get_trial(trial_id).state)
        with self.file.one_append() as lines:
            write_one_by_one(self, trial_id, writes)
        self._apply(trial_id, len(lines))

    def _apply(self, trial_id: int, lines: int) -> None:
        """Read until the ``lines`` that this thread has appended are applied.

        Each line that is refused, for another process has finished the trial, ends a read behind it, by an error that
        would otherwise meet a later call. Raises: the first of these errors.
        """
        refused: list[Exception] = []
        while len(refused) <= lines:
            try:
                self.get_trial(trial_id)
                break
            except (UpdateFinishedTrialError, ValueError) as error:
                refused.append(error)
        if refused:
            raise refused[0]


class RepairingJournal(JournalFileBackend):  # type: ignore[misc]
    """Optuna's journal file, in which a partly written line is removed.

    Optuna would write the next line behind the half one, and nobody could read the journal any more.
    """

    def __init__(self, path: Path) -> None:
        _check_journal(path)
        self._path = path
        self._thread = threading.local()  # what one thread writes at once is not mixed with a lease's renewal
        self._open_lock = JournalFileOpenLock(str(path))
        super().__init__(str(path), lock_obj=self._open_lock)

    @contextmanager
    def one_append(self) -> Iterator[list[dict[str, Any]]]:
        """Collect what this thread writes and append it at the end; nothing on failure."""
        collected: list[dict[str, Any]] = []
        self._thread.collected = collected
        try:
            yield collected
        finally:
            self._thread.collected = None
        self.append_logs(collected)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append to the journal. Raises: OSError, and nothing was appended."""
        if (collected := getattr(self._thread, "collected", None)) is not None:
            collected.extend(logs)
            return
        data = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        self._open_lock.acquire()
        try:
            with self._path.open("r+b", buffering=0) as file:  # a buffer would be written at closing, come what may
                end = _end_of_last_line(file)
                file.truncate(end)
                file.seek(end)
                try:
                    while data:
                        data = data[file.write(data) or 0 :]
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(end)
                    raise
        finally:
            self._open_lock.release()


def _check_journal(path: Path) -> None:
    """Refuse a file that is no journal.

    Optuna would take its last line for a torn one, and write into the file.
    """
    if path.is_file():
        with path.open("rb") as file:
            begins = file.read(1)
        if begins not in (b"", b"{"):
            raise NasError(f"study.storage 'journal:///{path}': is no journal of Optuna's; name another file.")


def _end_of_last_line(file: FileIO) -> int:
    """Offset of the end of the last complete line.

    What follows was written by a process that was killed or whose disk was full.
    """
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - _CHUNK_BYTES)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _journal(path: Path) -> Journal:
    try:
        return Journal(path)
    except AssertionError:  # of Optuna, at an operation that it does not know
        raise NasError(
            f"study.storage 'journal:///{path}': holds operations that Optuna {optuna.__version__} does not know, so "
            "that a newer one wrote it: pip install -U optuna."
        ) from None


def _database(url: str, kind: str) -> Database:
    if kind == "sqlite":
        return SerialSqlite(url)
    query = sqlalchemy.make_url(url).query
    defaults = _POSTGRES if kind == "postgresql" else {}
    given = {name: value for name, value in defaults.items() if name not in query}
    return Database(url, {"pool_pre_ping": True, "connect_args": given})


def _proxy(host: str, port: int) -> GrpcStorageProxy:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return GrpcStorageProxy(host=host, port=port)
