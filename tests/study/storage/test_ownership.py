"""One search per study: on this machine by the run's folder, between machines by a lease in the study."""

from __future__ import annotations

import errno
import io
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from rich.console import Console

from nas.core.errors import NasError
from nas.study.storage import lease
from nas.study.storage.lease import LeaseHolder, LeaseTiming, acquire_lease, lease_holder, work_under_lease
from nas.study.storage.opening import open_study
from nas.study.storage.ownership import exclusive_ownership
from nas.study.storage.retrying_storage import RetryingStorage
from tests.deadline import DEADLINE_S
from tests.paths import ROOT
from tests.study.fakes import PARETO, new_study

Opened = Callable[..., RetryingStorage]
QUICK = LeaseTiming(renew_s=0.05, watch_s=0.5, settle_s=0.05)
HOLD = """
import sys, time
from pathlib import Path
from rich.console import Console
from nas.study.storage.ownership import exclusive_ownership
from nas.study.storage.opening import open_storage
import optuna
with exclusive_ownership(Path(sys.argv[1]), Console()) as hold:
    if len(sys.argv) > 2:
        hold(optuna.load_study(study_name="s", storage=open_storage(sys.argv[2])))
    print("held", flush=True)
    time.sleep(600)
"""


def a_study(folder: Path, opened: Opened) -> tuple[str, optuna.Study]:
    url = f"sqlite:///{folder / 'optuna.db'}"
    return url, open_study(opened(url), "s", PARETO, {})


def said_by(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().split())


def silent() -> Console:
    return Console(file=io.StringIO())


def put(study: optuna.Study, holder: LeaseHolder) -> None:
    study._storage.set_study_system_attr(study._study_id, "nas:lease", asdict(holder))


def elsewhere() -> LeaseHolder:
    """Somebody on another machine."""
    return LeaseHolder(
        token="theirs", host="far", place="far away", pid=7, started="1", since="2026-01-01 00:00:00 UTC"
    )


@contextmanager
def holding(*arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds what ``exclusive_ownership`` is told to."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, *map(str, arguments)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        yield holder
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()


def test_a_second_search_in_a_folder_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    with (
        holding(tmp_path),
        pytest.raises(NasError, match=r"another process is at work on .*"),
        exclusive_ownership(tmp_path, silent()),
    ):
        pass
    with exclusive_ownership(tmp_path, silent()):
        pass


def test_a_file_system_without_locks_is_not_taken_for_another_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with (
        pytest.raises(NasError, match=r"^runs_dir: cannot lock .*\.lock: No locks available; "),
        exclusive_ownership(tmp_path, silent()),
    ):
        pass


def test_the_lock_is_given_back_when_a_search_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), exclusive_ownership(tmp_path / "new", silent()):
        raise ZeroDivisionError
    with exclusive_ownership(tmp_path / "new", silent()):
        pass


def test_a_study_is_held_while_a_search_is_at_work_and_given_back(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LeaseTiming", lambda: QUICK)
    _, study = a_study(tmp_path, opened)
    with exclusive_ownership(tmp_path / "run", silent()) as hold:
        assert hold(study) is hold(study) is study
        holder = lease_holder(study)
        assert holder is not None and holder.pid == os.getpid() and not holder.is_known_dead
        study.ask()
    assert lease_holder(study) is None
    with pytest.raises(ZeroDivisionError), acquire_lease(study, silent(), QUICK):
        raise ZeroDivisionError
    assert lease_holder(study) is None


def test_a_killed_search_of_this_machine_is_followed_at_once(tmp_path: Path, opened: Opened) -> None:
    url, study = a_study(tmp_path, opened)
    with holding(tmp_path / "theirs", url) as process:
        assert str(lease_holder(study)).endswith(f"process {process.pid}")
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet buried by its parent
        console = silent()
        with acquire_lease(study, console, replace(QUICK, watch_s=600)):
            assert f"is taken over from host {os.uname().nodename}, process {process.pid}," in said_by(console)


def test_a_search_on_another_machine_is_left_alone_while_it_renews_its_lease() -> None:
    study = new_study("s")
    beats = threading.Event()

    def renew() -> None:
        for beat in itertools.count():
            if beats.wait(0.05):
                return
            put(study, replace(elsewhere(), beat=beat))

    put(study, elsewhere())
    other = threading.Thread(target=renew)
    other.start()
    console = silent()
    try:
        with (
            pytest.raises(
                NasError,
                match=r"^host far, process 7, is at work on study 's' since 2026-01-01 00:00:00 UTC: .*study\.name\.$",
            ),
            acquire_lease(study, console, replace(QUICK, watch_s=30)),
        ):
            pass
    finally:
        beats.set()
        other.join()
    assert "study 's' is held by host far, process 7: watching whether it is still at work ..." in said_by(console)
    holder = lease_holder(study)
    assert holder is not None and holder.token == "theirs"


def test_a_lease_that_is_not_renewed_is_taken_over() -> None:
    study = new_study("s")
    put(study, elsewhere())
    console = silent()
    with acquire_lease(study, console, QUICK):
        assert "study 's' is taken over from host far, process 7" in said_by(console)


@pytest.mark.parametrize("round", range(2))
def test_of_searches_that_begin_in_the_same_moment_one_goes_on(storage_url: str, opened: Opened, round: int) -> None:
    n_searches = 3
    # Each has looked for a lease, and written its own where there was none, before one of them goes on.
    ready, looked, over = (threading.Barrier(n_searches, timeout=DEADLINE_S) for _ in range(3))
    studies = [open_study(opened(storage_url), "s", PARETO, {}) for _ in range(n_searches)]

    def search(study: optuna.Study) -> str:
        pauses = itertools.count()

        def sleep(pause_s: float) -> None:
            if next(pauses) == 0:
                looked.wait()
            time.sleep(pause_s)

        ready.wait()
        try:
            with acquire_lease(
                study, silent(), LeaseTiming(renew_s=0.5, watch_s=DEADLINE_S, settle_s=0.0, sleep=sleep)
            ):
                over.wait()
                return "went on"
        except NasError as error:
            over.wait()
            return str(error)
        finally:
            study._storage.remove_session()

    with ThreadPoolExecutor(n_searches) as pool:
        said = list(pool.map(search, studies))
    assert said.count("went on") == 1
    assert sum("is at work on study 's'" in text for text in said) == n_searches - 1


def test_a_search_that_stood_still_and_was_followed_stops(storage_url: str, opened: Opened) -> None:
    study = open_study(opened(storage_url), "s", PARETO, {})
    lost = threading.Event()
    with acquire_lease(study, silent(), QUICK):
        refuse = study._storage.refuse
        study._storage.refuse = lambda reason: (refuse(reason), lost.set())
        put(study, elsewhere())
        assert lost.wait(DEADLINE_S)
        with pytest.raises(NasError, match=r"host far, process 7, is at work"):
            study.get_trials()  # whatever it does next
    assert str(lease_holder(open_study(opened(storage_url), "s", PARETO, {}))) == "host far, process 7"


def test_a_worker_of_a_search_that_was_followed_changes_no_trial(storage_url: str, opened: Opened) -> None:
    study = open_study(opened(storage_url), "s", PARETO, {})
    put(study, replace(elsewhere(), token="its parent"))
    worker = open_study(opened(storage_url), "s", PARETO, {})
    trial = worker.ask()
    put(study, elsewhere())
    with pytest.raises(NasError, match=r"host far, process 7, is at work"):
        worker.tell(trial, [0.5, 1.0])
    assert not study.trials[0].state.is_finished()
    work_under_lease(study)
    study.tell(trial.number, [0.5, 1.0])


def test_a_storage_that_is_away_is_told_also_while_nobody_asks_it(postgres: Any, opened: Opened) -> None:
    study = open_study(opened(postgres.url()), "s", PARETO, {})
    console = silent()

    def wait_for(text: str) -> None:
        until = time.monotonic() + DEADLINE_S
        while text not in said_by(console) and time.monotonic() < until:
            time.sleep(0.02)
        assert text in said_by(console)

    with acquire_lease(study, console, replace(QUICK, renew_s=0.2)):
        postgres.stop()
        try:
            wait_for("storage not reachable (")
        finally:
            postgres.start()
        wait_for("storage reachable again")
    assert said_by(console).count("not reachable") == 1
    assert lease_holder(study) is None
