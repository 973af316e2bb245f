"""Searches as a user runs them, on real images with the smallest proxies, and the processes that they are made of."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias, TypeVar

from nas.engines.local.worker import start_server
from nas.methods import SEARCH
from tests.deadline import DEADLINE_S

# 16 points, 100 images at 8 px: a training takes a fraction of a second.
TINY = (
    "space=mobilenet_v1", "latency=macs", "estimator=proxy", "data=digits", "proxy=tiny", "data.subset=100",
    "study.name=tiny",
)  # fmt: skip
# Without a queue of first trials the sampler decides from the start.
SAMPLED = (*TINY, "sampler=random", "sampler.startup=0", "study.seed_published=false", "proxy.epochs=3")

Found = TypeVar("Found")
Search: TypeAlias = "Forked | OwnProcess"


class Forked:
    """A function in a process of its own, forked from one that has torch loaded, which takes seconds of CPU to do.

    It has this process's folder, in which it writes what it says, and environment, and looks like ``subprocess.Popen``.
    """

    def __init__(self, run: Callable[..., object], *arguments: object) -> None:
        start_server(SEARCH)
        self._said = Path("said.txt").absolute()
        self._process = multiprocessing.get_context("forkserver").Process(
            target=_run_forked, args=(run, arguments, self._said, dict(os.environ))
        )
        self._process.start()
        self.pid = self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        self._process.join(timeout)
        return self._said.read_text(encoding="utf-8"), None


def _run_forked(run: Callable[..., object], arguments: tuple[object, ...], said: Path, env: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(env)
    with said.open("wb", buffering=0) as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
    run(*arguments)


class OwnProcess:
    """A command that runs in this very process, as ``subprocess.Popen`` shows one to whoever interferes with it."""

    pid = os.getpid()

    def __init__(self) -> None:
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        """To the main thread, which may be waiting for a worker and is woken by it."""
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, number)

    def communicate(self) -> tuple[str, None]:
        return "what it said was captured", None


@contextmanager
def beside(interfere: Callable[[OwnProcess], object]) -> Iterator[None]:
    """Run ``interfere`` in a thread beside the command within, which it ends by an interrupt if it fails."""
    search, errors = OwnProcess(), []

    def run() -> None:
        try:
            interfere(search)
        except BaseException as error:
            errors.append(error)
            if search.poll() is None:
                search.send_signal(signal.SIGINT)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        search.returncode = 0
        thread.join()
        if errors:
            raise errors[0]


def wait_for(look: Callable[[], Found], search: Search | None = None) -> Found:
    """What ``look`` finds as soon as it finds something; fails with what ``search`` said if that ends before."""
    give_up = time.monotonic() + DEADLINE_S
    while not (found := look()):
        if search is not None and search.poll() is not None:
            raise AssertionError(f"ended with {search.returncode}: {search.communicate()[0]}")
        assert time.monotonic() < give_up, "nothing happened"
        time.sleep(0.2)
    return found


def workers_of(search: int) -> list[int]:
    """Process ids of the workers of a search, which are forked by a server of its own."""
    servers = [pid for pid in _children(search) if b"multiprocessing.forkserver" in _read(pid, "cmdline")]
    return [pid for server in servers for pid in _children(server)]


def send(pids: list[int], number: int) -> None:
    """A signal to processes that may just have ended."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def is_alive(pid: int) -> bool:
    """Whether a process is there, and no zombie that only waits to be asked for its exit code."""
    return b"State:\tZ" not in (status := _read(pid, "status")) and bool(status)


def is_held(pid: int) -> bool:
    """Whether a process stands still with all of its threads, so that no signal reaches it any more."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all(b"State:\tT" in _read(pid, f"task/{thread.name}/status") for thread in threads)


def is_pending(pid: int, number: int) -> bool:
    """Whether signal ``number`` waits until a process that stands still goes on."""
    masks = re.findall(rb"^ShdPnd:\t([0-9a-f]+)$", _read(pid, "status"), re.MULTILINE)
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def _children(pid: int) -> list[int]:
    return [int(child) for child in _read(pid, f"task/{pid}/children").split()]


def _read(pid: int, name: str) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""
