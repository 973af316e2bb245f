"""Optuna's storages, adapted for several writers, servers and the gRPC proxy."""

from __future__ import annotations

import json
import os
import threading
import warnings
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Any, Final

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from nas.core.credentials import mask_url
from nas.core.errors import NasError
from nas.study.storage.optuna_private import check_tables, database_behind_cache, with_trial_cache
from nas.study.storage.urls import url_file, url_proxy

_SQLITE_TIMEOUT_S: Final = 60.0
# Of PostgreSQL's client library: a server that is gone without a word is noticed within a minute, not within hours.
_POSTGRES: Final = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
_CHUNK_BYTES: Final = 4096
_revisions: Final[set[str]] = set()  # of tables, found to be those of the installed Optuna
_EXTRAS: Final = {"postgresql": "postgres", "mysql": "mysql", "grpc": "grpc"}


def make_backend(url: str) -> BaseStorage:
    """The storage at ``url``, with Optuna's cache where it has one.

    ``url`` is as ``checked_url`` returns it.

    Raises: NasError where the package for it is missing; whatever the storage raises if it cannot be reached.
    """
    kind = url.partition("://")[0].partition("+")[0]
    path, proxy = url_file(url), url_proxy(url)
    try:
        if kind == "journal" and path is not None:
            return _journal(path)
        if proxy is not None:
            return _proxy(*proxy)
        return with_trial_cache(_database(url, kind))
    except ImportError as error:
        extra = _EXTRAS.get(kind)
        how = f"pip install 'nas[{extra}]' (or the driver that the URL names)" if extra else "install its driver"
        missing = error.name or getattr(error.__cause__, "name", None) or "its driver"
        raise NasError(f"study.storage {mask_url(url)!r}: {missing} is not installed; {how}.") from None


def close_backend(backend: BaseStorage) -> None:
    """Close the connections of this process; the storage may be used again."""
    if isinstance(backend, GrpcStorageProxy):
        backend.close()
    elif database := database_behind_cache(backend):
        database.engine.dispose()


class Database(RDBStorage):  # type: ignore[misc]
    """Optuna's database storage, which leaves no connection open on failure.

    Its tables are compared with the installed Optuna's migration scripts once per process, not at each opening.
    """

    def __init__(self, url: str, engine_kwargs: dict[str, Any]) -> None:
        try:
            super().__init__(url, engine_kwargs=engine_kwargs, skip_compatibility_check=True)
            if (revision := self.get_current_version()) not in _revisions:
                check_tables(self)
                _revisions.add(revision)
        except BaseException:
            if hasattr(self, "engine"):
                self.engine.dispose()
            raise


class SerialSqlite(Database):
    """SQLite with a write-ahead log, where a queued trial is taken once.

    Optuna reads a trial's state and then sets it. Python's sqlite3 begins a transaction only before the second of the
    two, so that two workers may both find the trial WAITING: of 60 queued trials three processes took 9 twice.
    """

    def __init__(self, url: str) -> None:
        self._taking = threading.local()
        super().__init__(url, {"connect_args": {"timeout": _SQLITE_TIMEOUT_S}})
        sqlalchemy.event.listen(self.engine, "connect", _use_write_ahead_log)
        sqlalchemy.event.listen(self.engine, "begin", self._begin)
        self.engine.dispose()  # connections made before the listeners were there

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """As Optuna's, in one transaction from its first read on."""
        self._taking.now = True
        try:
            return bool(super().set_trial_state_values(trial_id, state, values))
        finally:
            self._taking.now = False

    def _begin(self, connection: Any) -> None:
        if getattr(self._taking, "now", False):
            connection.exec_driver_sql("BEGIN IMMEDIATE")


class RepairingJournal(JournalFileBackend):  # type: ignore[misc]
    """Optuna's journal file, in which a partly written line is removed.

    Optuna would write the next line behind the half one, and nobody could read the journal any more.
    """

    def __init__(self, path: Path) -> None:
        _check_journal(path)
        self._path = path
        self._open_lock = JournalFileOpenLock(str(path))
        super().__init__(str(path), lock_obj=self._open_lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append to the journal. Raises: OSError, and nothing was appended."""
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


def _journal(path: Path) -> JournalStorage:
    try:
        return JournalStorage(RepairingJournal(path))
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


def _use_write_ahead_log(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
