"""Several workers on one storage: a queued trial is taken once, a torn journal is mended, a proxy is a storage too."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from nas.core.errors import NasError
from nas.study.recovery import recover_trials
from nas.study.storage import backends, database
from nas.study.storage.backends import RepairingJournal, close_backend, make_backend
from nas.study.storage.opening import open_storage, open_study
from nas.study.storage.retry_policy import RetryPolicy
from nas.study.storage.retrying_storage import RetryingStorage
from tests.study.fakes import PARETO
from tests.study.test_recovery import killed_trial

Opened = Callable[..., RetryingStorage]


class Said:
    """What a user is told of a storage that is away; ``heard`` as soon as that is something."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.heard = threading.Event()

    def __call__(self, text: str) -> None:
        self.texts.append(text)
        self.heard.set()

    @property
    def is_told_from_first_to_last(self) -> bool:
        first, last = self.texts[0], self.texts[-1]
        return first.startswith("storage not reachable (") and last.startswith("storage reachable again after")


def test_migration_scripts_are_loaded_once_per_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    monkeypatch.setattr(database, "_revisions", set())
    monkeypatch.setattr(database, "check_tables", lambda opened: checked.append(opened.get_current_version()))
    for name in ("a", "a", "b"):
        close_backend(make_backend(f"sqlite:///{tmp_path / name}"))
    assert len(checked) == 1
    with closing(sqlite3.connect(tmp_path / "b")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'another'")
    close_backend(make_backend(f"sqlite:///{tmp_path / 'b'}"))
    assert checked[1:] == ["another"]


def test_a_queued_trial_is_taken_by_one_worker(storage_url: str, opened: Opened) -> None:
    study = open_study(opened(storage_url), "s", PARETO, {})
    n_trials, n_workers = 15, 3
    for _ in range(n_trials):
        study.enqueue_trial({})
    ids = [trial._trial_id for trial in study.trials]
    ready = threading.Barrier(n_workers)

    def take_all(_: int) -> list[int]:
        storage = opened(storage_url)
        storage.get_all_trials(study._study_id)
        taken = []
        for trial_id in ids:
            ready.wait()
            if storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                taken.append(trial_id)
        storage.remove_session()
        return taken

    with ThreadPoolExecutor(n_workers) as pool:
        taken = [trial_id for trials in pool.map(take_all, range(n_workers)) for trial_id in trials]
    assert sorted(taken) == ids


def test_a_line_that_does_not_fit_on_the_disk_is_taken_back(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    room = [200, 10**6]  # bytes left on the disk at the first attempt, and at the second

    class SmallDisk(FileIO):
        def write(self, data: Any) -> int:
            if not room[0]:
                room.pop(0)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written = super().write(data[: room[0]])
            room[0] -= written
            return written

    url = f"journal:///{tmp_path / 'study'}"
    patience = RetryPolicy(say=said.append, clock=iter(range(1000)).__next__, sleep=lambda _: None)
    study = open_study(opened(url, patience), "s", PARETO, {})
    open_file = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, mode, **named: SmallDisk(path, mode) if mode == "r+b" else open_file(path, mode)
    )
    study.set_user_attr("long", "x" * 1000)
    monkeypatch.undo()
    assert len(room) == 1
    assert "(No space left on device)" in said[0]
    assert open_study(opened(url), "s", PARETO, {}).user_attrs["long"] == "x" * 1000


def test_half_a_line_of_a_killed_writer_does_not_spoil_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    RepairingJournal(path).append_logs([{"a": 1}])
    with path.open("ab") as file:
        file.write(b'{"b": ' + b" " * 10_000)
    RepairingJournal(path).append_logs([{"c": 3}])
    assert list(RepairingJournal(path).read_logs(0)) == [{"a": 1}, {"c": 3}]
    (tmp_path / "torn").write_bytes(b'{"b": ')
    RepairingJournal(tmp_path / "torn").append_logs([{"c": 3}])
    assert (tmp_path / "torn").read_bytes() == b'{"c":3}\n'


@contextmanager
def proxy(url: str, port: int = 0) -> Iterator[int]:
    """Optuna's server in front of the storage at ``url``; its port."""
    from optuna.storages._grpc.server import make_server

    backend = make_backend(url)
    server = make_server(backend, "localhost", port)
    port = port or server.add_insecure_port("localhost:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()
        backends.close_backend(backend)


def test_a_proxy_is_a_storage_like_any_other(tmp_path: Path, opened: Opened) -> None:
    pytest.importorskip("grpc")
    away, back = Said(), threading.Event()
    behind = f"sqlite:///{tmp_path / 'optuna.db'}"
    with proxy(behind) as port:
        study = open_study(opened(f"grpc://localhost:{port}", RetryPolicy(say=away)), "s", PARETO, {"a": 1})
        left = killed_trial(study)
        assert recover_trials(study) == 1
        taken = study.ask()
        assert (taken.number, study.trials[0].user_attrs["kills"]) == (left.number, 1)

    def serve_again() -> None:
        away.heard.wait()
        with proxy(behind, port):
            back.wait()

    again = threading.Thread(target=serve_again)
    again.start()
    try:
        study.tell(taken, [0.5, 1.0])
        assert away.is_told_from_first_to_last
        assert [trial.state for trial in study.trials] == [TrialState.COMPLETE]
        with pytest.raises(NasError, match=r"started with a = 1, now it is 2"):
            open_study(opened(f"grpc://localhost:{port}"), "s", PARETO, {"a": 2})
    finally:
        away.heard.set()
        back.set()
        again.join()


def test_a_package_that_is_missing_is_named_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'psycopg'", name="psycopg")

    monkeypatch.setattr(backends, "Database", missing)
    with pytest.raises(NasError, match=r"//\*\*\*@host/db': psycopg is not installed; pip install 'nas\[postgres\]'"):
        open_storage("postgresql://u:p@host/db")


def test_a_wrong_password_is_refused_at_once(postgres: Any, opened: Opened) -> None:
    with pytest.raises(NasError, match=r"cannot be opened: .*password authentication failed for user") as caught:
        opened(postgres.url(password="wrong"))
    assert "wrong" not in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(NasError, match=r"cannot be opened: .*does not exist"):
        opened(postgres.url() + "x")


def test_a_study_outlives_a_server_that_is_gone_for_a_while(postgres: Any, opened: Opened) -> None:
    away = Said()
    study = open_study(opened(postgres.url(), RetryPolicy(say=away)), "s", PARETO, {})
    study.add_trial(optuna.trial.create_trial(values=[0.5, 1.0]))
    postgres.kill()

    def start_again() -> None:
        away.heard.wait()
        postgres.start()

    back = threading.Thread(target=start_again)
    back.start()
    try:
        trial = study.ask()
    finally:
        away.heard.set()
        back.join()
    study.tell(trial, [0.5, 1.0])
    assert [trial.number for trial in study.trials] == [0, 1]
    assert away.is_told_from_first_to_last
