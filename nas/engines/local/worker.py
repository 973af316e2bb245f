"""A worker process: what it runs, and how its parent starts, hears and ends it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Final, NamedTuple, NoReturn

import torch
from rich.console import Console

from nas.core.errors import NasError
from nas.engines.local.limits import check_baseline
from nas.engines.local.measure_requests import request_measurement
from nas.study.config import StudyPlan
from nas.study.kind import StudyKind
from nas.study.trial_loop import run_trial_loop as run_tasks
from nas.training import die_with_parent

_STOPPING: Final = (signal.SIGINT, signal.SIGTERM)
_SERVER_DIED: Final = 255  # what multiprocessing gives for the exit code that nobody can tell it
_LONGEST_REASON: Final = 900  # what is sent stays below 4096 bytes, which a pipe takes whole or not at all


class WorkerMessage(NamedTuple):
    """A message of a worker: it is ready, or it trains the trial ``number``.

    ``number`` is None while it trains none.

    ``has_ended``: a trial has just ended. ``reason``: why it stops before the study has its trials.
    """

    number: int | None = None
    has_ended: bool = False
    reason: str = ""


class Worker:
    """A worker process as its parent sees it, started with the object.

    ``name`` is written into the trials that it takes, and is never given twice. ``number``: the trial that it trains
    since ``since_s`` of the parent's clock; None while it trains none. ``ready``: it has loaded its session.
    ``began``: it has taken a trial. ``reason``: why it stopped by itself. ``ended_for``: the trial that its parent
    ended it for, and why.
    """

    def __init__(self, plan: StudyPlan, kind: StudyKind, place: int) -> None:
        self.name = f"worker-{place}-{secrets.token_hex(3)}"
        self.place = place
        self.number: int | None = None
        self.since_s = 0.0
        self.ready = self.began = False
        self.reason = ""
        self.ended_for: tuple[int, str] | None = None
        context = multiprocessing.get_context("forkserver")
        self._line, far_end = context.Pipe(duplex=False)
        self.process: BaseProcess = context.Process(target=_work, args=(plan, kind, far_end), name=self.name)
        with _stopping_held_back(), without_main_module(plan):
            self.process.start()
        far_end.close()

    def hear(self, now_s: float) -> bool:
        """Read its messages; returns whether a trial ended.

        The last messages of a dead worker are read too.
        """
        has_ended = False
        with contextlib.suppress(EOFError, OSError):  # its end of the line is closed
            while self._line.poll():
                message: WorkerMessage = self._line.recv()
                self.began |= self.ready and not message.reason
                self.ready, self.number, self.since_s = True, message.number, now_s
                self.reason, has_ended = self.reason or message.reason, has_ended or message.has_ended
        return has_ended

    @property
    def exit_code(self) -> int:
        """The exit code of a dead worker, negative for a signal.

        SIGKILL too if it died with its fork server.
        """
        code = self.process.exitcode or 0
        return -signal.SIGKILL if code == _SERVER_DIED else code

    def interrupt(self) -> None:
        """Ask it to release its trial and to end.

        One that is still loading has no trial and is killed.
        """
        if not self.ready:
            self.process.kill()
        elif self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        """End it at once, and wait until it is gone."""
        self.process.kill()
        self.process.join()


def start_server(kind: StudyKind) -> None:
    """Start the fork server, which imports once what all workers need.

    That takes seconds of CPU for each worker otherwise.

    It only imports: it starts neither threads nor CUDA, which a fork would break.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is loaded
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nas.engines.local.forkserver_preload", __name__, kind.session_module])
    resource_tracker.ensure_running()  # started by the server otherwise, which would let interrupts in again
    with _stopping_held_back():
        forkserver.ensure_running()
    loaded = context.Process(target=int)
    with without_main_module():
        loaded.start()
    loaded.join()


@contextlib.contextmanager
def without_main_module(needed: object = None) -> Iterator[None]:
    """Start processes without re-running the caller's main script.

    As a context manager; multiprocessing would otherwise run the script in each process.

    A script that calls ``nas.run_search`` would start another search in each worker. The script is run all the same
    where ``needed``, which a process is given, is of a class that it defines.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        pickle.dumps(needed)
    except (pickle.PicklingError, AttributeError):
        sys.modules["__main__"] = main
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _work(plan: StudyPlan, kind: StudyKind, line: Connection) -> None:
    """The main function of a worker process.

    It makes a session of its own on the shared study, prints nothing, and runs trials until none is left.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    die_with_parent()
    torch.set_num_threads(1)
    with open(os.devnull, "w", encoding="utf-8") as silence, contextlib.suppress(KeyboardInterrupt):
        for number in _STOPPING:
            signal.signal(number, _leave)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
        try:
            session = kind.prepare(plan, Console(file=silence))
            check_baseline(plan.engine)
            study = session.open()
            name = multiprocessing.current_process().name
            tasks = session.ask_tell(study, timer=lambda trial, _: request_measurement(study, trial), worker=name)
            line.send(WorkerMessage())
            run_tasks(
                tasks,
                session.evaluator,
                on_trial=lambda _: line.send(WorkerMessage(has_ended=True)),
                on_task=lambda task: line.send(WorkerMessage(number=task.number)),
            )
        except NasError as error:
            line.send(WorkerMessage(reason=str(error)[:_LONGEST_REASON]))


def _leave(_number: int, _frame: object) -> NoReturn:
    """End this worker by one interrupt.

    The terminal and the parent may both send one; the second must not disturb.
    """
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """End this worker as soon as its parent has ended.

    A new run must find no process at work on the study.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _stopping_held_back() -> Iterator[None]:
    """Block interrupts within the context.

    In a process that is started here, until it can handle one.

    A worker that is interrupted before would show a traceback, and one of whom its parent does not know would go on.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
