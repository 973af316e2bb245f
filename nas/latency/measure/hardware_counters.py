"""Instructions and CPU cycles of this thread, by Linux' ``perf_event_open``.

They are a second, steadier witness of what a network costs. Many virtual machines and containers offer none; then
nothing else changes. Nothing depends on the counts, because no machine that has them was at hand: what was checked,
against a clock, are the same calls with a counter of the kernel itself. Layouts and numbers: perf_event_open(2).
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Self

from nas.latency.measure.backends import Runner
from nas.latency.measure.paired_timing import Timer

CounterEvent = tuple[int, int]  # type and config of ``perf_event_attr``
INSTRUCTIONS: Final[CounterEvent] = (0, 1)
CYCLES: Final[CounterEvent] = (0, 0)
_SYSCALL: Final = {"x86_64": 298, "aarch64": 241}
_THIS_THREAD, _ANY_CPU, _CLOSE_ON_EXEC = 0, -1, 8  # arguments
_USER_ONLY: Final = 1 << 5 | 1 << 6  # flags: neither the kernel nor the hypervisor
_FORMAT: Final = 1 | 2 | 8  # read: number of counters, time enabled, time running, and the value of each of the group
_ATTRIBUTES: Final = struct.Struct("=IIQQQQQIIQ")  # the first version of ``perf_event_attr``, 64 bytes


class CounterGroup:
    """Counters of this thread that count together until they are closed.

    Raises: OSError where kernel, hypervisor or container does not allow one of ``events``.
    """

    def __init__(self, events: Sequence[CounterEvent] = (INSTRUCTIONS, CYCLES)) -> None:
        self._files: list[int] = []
        self._layout = struct.Struct(f"={3 + len(events)}Q")
        try:
            for event in events:
                self._files.append(_open(event, self._files[0] if self._files else -1))
        except OSError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the counters."""
        while self._files:
            os.close(self._files.pop())

    def read(self) -> tuple[int, int, tuple[int, ...]]:
        """Time enabled and time running in ns, and the counts so far.

        The two times differ where others use the processor's counters too.
        """
        _, enabled_ns, running_ns, *counts = self._layout.unpack(os.read(self._files[0], self._layout.size))
        return enabled_ns, running_ns, tuple(counts)


class CountingTimer:
    """Timer that also counts, outside of what it times."""

    def __init__(self, timer: Timer, group: CounterGroup) -> None:
        self._timer, self._group = timer, group
        self._counts: dict[int, list[tuple[int, ...]]] = {}

    def __call__(self, run: Runner) -> float:
        enabled_ns, running_ns, before = self._group.read()
        duration_s = self._timer(run)
        enabled_later_ns, running_later_ns, after = self._group.read()
        if running_later_ns - running_ns == enabled_later_ns - enabled_ns:  # counted all the time
            counts = tuple(last - first for first, last in zip(before, after, strict=True))
            self._counts.setdefault(id(run), []).append(counts)
        return duration_s

    def medians(self, run: Runner) -> tuple[int, ...] | None:
        """Median counts of the runs of ``run``; None if none was counted."""
        counts = self._counts.get(id(run))
        return tuple(sorted(column)[len(column) // 2] for column in zip(*counts, strict=True)) if counts else None


@lru_cache(maxsize=1)
def has_counters() -> bool:
    """Whether this process may count instructions and cycles; told once, by trying."""
    group = _open_group()
    if group is None:
        return False
    with group:
        return all(group.read()[2])  # some hypervisors offer counters that stay 0


def open_counters() -> CounterGroup | None:
    """Counters of this thread, None where there are none."""
    return _open_group() if has_counters() else None


def _open_group() -> CounterGroup | None:
    try:
        return CounterGroup()
    except OSError:
        return None


def _open(event: CounterEvent, leader: int) -> int:
    """File of a counter of this thread, in the group of ``leader`` (-1: a new one).

    Raises: OSError.
    """
    number = _SYSCALL.get(platform.machine()) if sys.platform == "linux" else None
    if number is None:
        raise OSError(f"perf_event_open: not on {sys.platform} on {platform.machine()}")
    kind, config = event
    attributes = _ATTRIBUTES.pack(kind, _ATTRIBUTES.size, config, 0, 0, _FORMAT, _USER_ONLY, 0, 0, 0)
    return _syscall(number, attributes, _THIS_THREAD, _ANY_CPU, leader, _CLOSE_ON_EXEC)


def _syscall(number: int, attributes: bytes, *arguments: int) -> int:
    """Result of a system call on ``attributes``. Raises: OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    result: int = library.syscall(ctypes.c_long(number), attributes, *map(ctypes.c_long, arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
