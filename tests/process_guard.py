"""Ends every process that a run of the tests has started, and removes its scratch folder, however the run ends.

A run that is killed cannot tidy up: searches would train on, servers would keep their ports. So a process of its own
waits for the end of the run and then kills whatever carries the run's mark in its environment, with all descendants.
Linux alone, as /proc is read.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

MARK: Final = "NAS_TEST_RUN"  # environment variable, inherited by all that a run starts
_GRACE_S: Final = 0.5  # for processes that end by themselves when the run does
_GIVE_UP_S: Final = 60.0
_QUIET_SCANS: Final = 3  # in a row without a process, as one may be starting another


def start_guard() -> Path:
    """Guard this process from now on; its scratch folder, which other users may enter.

    The guard is in no process group of the run, and notices its end by a pipe that only the run holds open.
    """
    token, folder = secrets.token_hex(8), mkdtemp(prefix="nas-tests-")
    os.chmod(folder, 0o711)
    reader, _held_open = os.pipe()
    streams = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (1, 2)]
    os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", __file__, token, folder],
        {name: value for name, value in os.environ.items() if name != MARK},
        file_actions=[(os.POSIX_SPAWN_DUP2, reader, 0), *streams],
        setsid=True,
    )
    os.close(reader)
    os.environ[MARK] = token
    return Path(folder)


def guard(token: str, folder: str) -> None:
    """What the guard runs: wait for the end of the run, then kill and remove."""
    sys.stdin.buffer.read()
    time.sleep(_GRACE_S)
    give_up, quiet = time.monotonic() + _GIVE_UP_S, 0
    while quiet < _QUIET_SCANS and time.monotonic() < give_up:
        found = marked_processes(token)
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        quiet = 0 if found else quiet + 1
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


def marked_processes(token: str) -> list[int]:
    """Process ids of those that carry ``token`` and of their descendants, which may have changed their environment."""
    entry, parents = f"{MARK}={token}".encode(), dict(_parents())
    marked = {pid for pid in parents if entry in _read(pid, "environ").split(b"\0")}
    reached = marked
    while reached:
        reached = {pid for pid, parent in parents.items() if parent in reached and pid not in marked}
        marked |= reached
    return sorted(marked - {os.getpid()})


def _parents() -> Iterator[tuple[int, int]]:
    """All processes that are no zombies, with their parents."""
    for path in Path("/proc").glob("[0-9]*"):
        state, _, rest = _read(int(path.name), "stat").rpartition(b") ")[2].partition(b" ")
        if rest and state != b"Z":
            yield int(path.name), int(rest.split()[0])


def _read(pid: int, name: str) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""


if __name__ == "__main__":
    guard(*sys.argv[1:])
