"""A lease in the study, renewed by the search that works on it.

It keeps other searches away, also those of other machines.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import optuna
from rich.console import Console

from nas.core.console import print_lines, progress_bar
from nas.core.dataclass_io import from_mapping
from nas.core.errors import NasError
from nas.study.storage.optuna_private import storage_of, study_id
from nas.study.storage.retry_policy import storage_error_reason
from nas.study.storage.retrying_storage import RetryingStorage

_KEY: Final = "nas:lease"  # system attribute of a study


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTiming:
    """Seconds between renewals, of watching a lease, and between write and check.

    Nobody's clock is compared with another's. A lease is renewed three times while it is watched.
    """

    renew_s: float = 10.0
    watch_s: float = 32.0
    settle_s: float = 0.5
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseHolder:
    """The process at work on a study.

    ``place``: where its process number is valid; ``started``: that it is the same process.

    ``beat`` counts the renewals.
    """

    token: str
    host: str
    place: str
    pid: int
    started: str
    since: str
    beat: int = 0

    def __str__(self) -> str:
        return f"host {self.host}, process {self.pid}"

    @property
    def is_known_dead(self) -> bool:
        """Whether the process has ended; False where that cannot be seen from here."""
        return self.place == _place() and _start_of(self.pid) != self.started


@contextmanager
def acquire_lease(study: optuna.Study, console: Console, timing: LeaseTiming | None = None) -> Iterator[None]:
    """Hold ``study`` against other searches.

    Of two that start at the same moment one goes on.

    A lease that another process holds is taken over where its process is seen to be dead or it is not renewed. One that
    is lost in the end, because this process stood still, bars the study's storage: the next call raises NasError.
    Raises: NasError if another is at work.
    """
    timing = timing or LeaseTiming()
    known = lease_holder(study)
    if known is not None:
        if not known.is_known_dead:
            _watch(study, known, console, timing)
        print_lines(console, f"study {study.study_name!r} is taken over from {known}, which has ended")
    own = _myself()
    _write(storage_of(study), study, own)
    timing.sleep(timing.settle_s)
    found = lease_holder(study)
    if found is None or found.token != own.token:
        raise NasError(_at_work(study, found))
    work_under_lease(study)
    stop = threading.Event()
    renewal = threading.Thread(target=_renew, args=(study, own, console, timing, stop), name="lease", daemon=True)
    renewal.start()
    try:
        yield
    finally:
        stop.set()
        renewal.join()
        with suppress(NasError):  # lost, or not reachable any more: it is reported elsewhere, and expires by itself
            _release(study, own)


def lease_holder(study: optuna.Study) -> LeaseHolder | None:
    """Who holds ``study``; None if nobody does."""
    return _read(storage_of(study), study)


def work_under_lease(study: optuna.Study) -> None:
    """Let this process change trials only while the present lease holds."""
    storage = storage_of(study)
    known = lease_holder(study)
    if known is None or not isinstance(storage, RetryingStorage):
        return

    def guard() -> str:
        found = _read(storage.backend, study)
        return "" if found is not None and found.token == known.token else _at_work(study, found)

    storage.guard = guard


def _watch(study: optuna.Study, known: LeaseHolder, console: Console, timing: LeaseTiming) -> None:
    """Wait until ``known`` has certainly stopped renewing its lease.

    Raises: NasError if it renews it.
    """
    start = timing.clock()
    text = f"study {study.study_name!r} is held by {known}: watching whether it is still at work"
    with progress_bar(console, text) as progress:
        while (waited_s := timing.clock() - start) < timing.watch_s:
            progress(int(waited_s), int(timing.watch_s))
            timing.sleep(min(1.0, timing.watch_s / 10))
            found = lease_holder(study)
            if found is None:
                return
            if (found.token, found.beat) != (known.token, known.beat):
                raise NasError(_at_work(study, found))


def _renew(study: optuna.Study, own: LeaseHolder, console: Console, timing: LeaseTiming, stop: threading.Event) -> None:
    """Renew the lease until ``stop``, and print when that fails.

    Workers that wait for the storage print nothing themselves.
    """
    retrying = storage_of(study)
    storage = retrying.backend if isinstance(retrying, RetryingStorage) else retrying
    mine, is_away = own, False
    while not stop.wait(timing.renew_s):
        try:
            found = _read(storage, study)
            if found is None or found.token != own.token:
                if isinstance(retrying, RetryingStorage):
                    retrying.refuse(_at_work(study, found))
                break
            mine = replace(mine, beat=mine.beat + 1)
            _write(storage, study, mine)
        except Exception as error:  # what the study's own calls will meet too, and stop for if need be
            if not is_away and isinstance(retrying, RetryingStorage) and not retrying.is_waiting:
                is_away = True
                reason = storage_error_reason(error, retrying.url)
                print_lines(console, f"storage not reachable ({reason}): waiting for it")
        else:
            if is_away:
                is_away = False
                print_lines(console, "storage reachable again")
    storage.remove_session()  # a connection of SQLite is to be closed by its own thread


def _release(study: optuna.Study, own: LeaseHolder) -> None:
    found = lease_holder(study)
    if found is not None and found.token == own.token:
        storage_of(study).set_study_system_attr(study_id(study), _KEY, None)


def _read(storage: optuna.storages.BaseStorage, study: optuna.Study) -> LeaseHolder | None:
    data = storage.get_study_system_attrs(study_id(study)).get(_KEY)
    return from_mapping(LeaseHolder, data, _KEY) if data else None


def _write(storage: optuna.storages.BaseStorage, study: optuna.Study, holder: LeaseHolder) -> None:
    storage.set_study_system_attr(study_id(study), _KEY, asdict(holder))


def _at_work(study: optuna.Study, holder: LeaseHolder | None) -> str:
    who = "another search" if holder is None else str(holder)
    since = "" if holder is None else f" since {holder.since}"
    return (
        f"{who}, is at work on study {study.study_name!r}{since}: two searches would mix their trials. "
        "Wait for it, stop it, or choose another study.name."
    )


def _myself() -> LeaseHolder:
    return LeaseHolder(
        token=secrets.token_hex(8),
        host=socket.gethostname(),
        place=_place(),
        pid=os.getpid(),
        started=_start_of(os.getpid()) or "",
        since=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    )


def _place() -> str:
    """This machine's boot, and the process namespace of this container."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"


def _start_of(pid: int) -> str | None:
    """When process ``pid`` started, in the kernel's own measure; None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
