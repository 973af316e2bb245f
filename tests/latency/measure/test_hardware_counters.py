"""Tests of hardware counters: on files that stand for counters, and on the kernel's task clock."""

from __future__ import annotations

import errno
import os
import resource
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from nas.latency.measure import hardware_counters as module
from nas.latency.measure import timer
from nas.latency.measure.hardware_counters import CounterGroup, CountingTimer, has_counters
from nas.latency.measure.timer import measure_runners
from tests.latency.synthetic_device import DEVICE

TASK_CLOCK: Final = (1, 1)  # counted by the kernel, not by the processor
PAGE_FAULTS: Final = (1, 2)


@pytest.fixture(autouse=True)
def untried() -> Iterator[None]:
    has_counters.cache_clear()
    yield
    has_counters.cache_clear()


def counters(monkeypatch: pytest.MonkeyPatch, path: Path, readings: list[tuple[int, ...]]) -> list[int]:
    """Let counters be a file of ``readings``, (enabled, running, instructions, cycles), and return those opened."""
    path.write_bytes(b"".join(struct.pack("5Q", 2, *reading) for reading in readings))
    opened: list[int] = []

    def syscall(number: int, attributes: bytes, *arguments: int) -> int:
        kind, size, config = struct.unpack_from("IIQ", attributes)
        assert (kind, size, len(attributes), config) == (0, 64, 64, (1, 0)[len(opened) % 2])
        assert arguments == (0, -1, opened[-1] if len(opened) % 2 else -1, 8)
        opened.append(os.open(path, os.O_RDONLY))
        return opened[-1]

    monkeypatch.setattr(module, "_syscall", syscall)
    return opened


def refuse(number: int, attributes: bytes, *arguments: int) -> int:
    raise OSError(errno.ENOENT, "No such file or directory")


def is_open(file: int) -> bool:
    try:
        os.fstat(file)
    except OSError:
        return False
    return True


def test_a_run_is_what_was_counted_during_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    readings = [(0, 0, 100, 50), (10, 10, 1100, 550), (20, 20, 2000, 900), (30, 25, 9000, 900), (40, 35, 9000, 950),
                (50, 45, 12000, 2950), (60, 55, 12000, 2950), (70, 65, 17000, 3950)]  # fmt: skip
    opened = counters(monkeypatch, tmp_path / "counters", readings)
    runs = [lambda: None, lambda: None]
    with CounterGroup() as group:
        counting = CountingTimer(lambda run: run() or 0.5, group)
        assert [counting(runs[0]) for _ in range(4)] == [0.5] * 4
    # The second run was counted for half of the time only: it is left out.
    assert counting.medians(runs[0]) == (3000, 1000)
    assert counting.medians(runs[1]) is None
    assert len(opened) == 2 and not any(map(is_open, opened))


def test_measurements_have_counts_where_there_are_counters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened = counters(monkeypatch, tmp_path / "counters", [(n, n, 7 * n, 3 * n) for n in range(1, 400)])
    monkeypatch.setattr(timer, "speed_probe", lambda _: lambda: None)
    monkeypatch.setattr(timer, "stopwatch", lambda *_: lambda run: run() or 1e-3)
    (counted,) = measure_runners([lambda: None], DEVICE, rounds=2, runs=2)
    assert (counted.instructions, counted.cycles) == (7, 3)
    assert timer.is_counted(DEVICE) and not timer.is_counted(replace(DEVICE, threads=2))
    assert not timer.is_counted(replace(DEVICE, backend="cuda"))
    assert opened and not any(map(is_open, opened))
    has_counters.cache_clear()
    monkeypatch.setattr(module, "_syscall", refuse)
    (plain,) = measure_runners([lambda: None], DEVICE, rounds=2, runs=2)
    assert (plain.instructions, plain.cycles) == (None, None)
    assert plain.latency_ms == counted.latency_ms


def test_counters_that_stay_at_zero_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened = counters(monkeypatch, tmp_path / "counters", [(1, 1, 0, 0)])
    assert not has_counters()
    assert not any(map(is_open, opened))


def test_availability_is_told_once_and_what_was_opened_is_closed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened: list[int] = []

    def only_one(number: int, attributes: bytes, *arguments: int) -> int:
        if opened:
            raise OSError(errno.EINVAL, "no second counter")
        opened.append(os.open(os.devnull, os.O_RDONLY))
        return opened[0]

    monkeypatch.setattr(module, "_syscall", only_one)
    assert not has_counters()
    assert not is_open(opened[0])
    monkeypatch.setattr(module, "_syscall", None)  # not asked again
    assert module.open_counters() is None


@pytest.mark.parametrize(("system", "machine"), [("linux", "riscv64"), ("darwin", "arm64"), ("win32", "AMD64")])
def test_other_systems_have_none(monkeypatch: pytest.MonkeyPatch, system: str, machine: str) -> None:
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert not has_counters()


def interruptions() -> int:
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return usage.ru_nvcsw + usage.ru_nivcsw


def test_the_kernel_counts_the_time_of_this_thread() -> None:
    """The task clock lies between clocks right within and right around it: attributes and readings are understood.

    A hypervisor's time for others counts as time of the task, but not as CPU time of the thread: the bound from above
    is a wall clock. A switch to another thread is part of the thread's CPU time, but not of the task clock: only an
    interval without one has a bound from below.
    """
    try:
        group = CounterGroup([TASK_CLOCK, PAGE_FAULTS])
    except OSError as error:
        pytest.skip(f"perf_event_open is not allowed here: {error}")
    with group:
        for _ in range(1000):
            earlier, outer = interruptions(), time.perf_counter_ns()
            before_ns, _, before = group.read()
            inner = time.thread_time_ns()
            touched = bytearray(64 * 4096)
            while time.thread_time_ns() < inner + 1_000_000:
                pass
            within_ns = time.thread_time_ns() - inner
            after_ns, _, after = group.read()
            around_ns = time.perf_counter_ns() - outer
            if interruptions() == earlier:
                break
        else:
            pytest.skip("this thread was interrupted in each of 1,000 intervals of a millisecond")
    assert within_ns <= after[0] - before[0] <= around_ns
    assert within_ns <= after_ns - before_ns
    assert after[1] >= before[1] and len(touched)
