"""CPU load of other programs, which slows measurements down unseen by any clock."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nas.core.errors import NasError

# Load of other programs above which a chunk counts as disturbed, in cores. Programs share caches, and often cores:
# calibrated beside tests and training, networks of 3 to 8 ms were predicted 5 to 10% too slow, small ones were not, and
# the latency of the reference did not reveal it.
DISTURBING_CORES: Final = 0.25
WINDOW_S: Final = 5.0  # in which a machine that is waited for must be quiet
LoadMeter = Callable[[float], float | None]  # cores that other programs use in the next seconds, None if unknown
_STAT: Final = Path("/proc/stat")
_IDLE: Final = (3, 4)  # columns of idle and iowait in its first line, which sums all cores
_COLUMNS: Final = 8  # up to stolen time; guest time is included in user time


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemLoad:
    """CPU seconds used by the whole machine and by this process, at one moment.

    ``all_s``: of all programs since boot, None where the system does not report it. ``own_s``: of this process.
    ``wall_s``: monotonic clock.
    """

    all_s: float | None
    own_s: float
    wall_s: float

    @classmethod
    def now(cls) -> SystemLoad:
        """Current reading."""
        return cls(all_s=_all_s(), own_s=time.process_time(), wall_s=time.monotonic())

    def others_since(self, before: SystemLoad) -> float | None:
        """Mean number of cores that other programs used between ``before`` and this.

        Stolen time of a virtual machine counts as theirs. None where the system does not report it.
        """
        if self.all_s is None or before.all_s is None or self.wall_s <= before.wall_s:
            return None
        others_s = (self.all_s - before.all_s) - (self.own_s - before.own_s)
        return max(0.0, others_s / (self.wall_s - before.wall_s))


def other_cores(window_s: float) -> float | None:
    """Mean number of cores that other programs use in the next ``window_s`` seconds.

    None where the system does not report it.
    """
    before = SystemLoad.now()
    time.sleep(window_s)
    return SystemLoad.now().others_since(before)


def is_busy(others: float | None) -> bool:
    """Whether other programs use so many cores that they disturb a measurement."""
    return others is not None and others > DISTURBING_CORES


def wait_until_quiet(limit_s: float, on_busy: Callable[[float, float], object], load: LoadMeter = other_cores) -> None:
    """Wait until other programs are quiet for ``WINDOW_S``, for at most ``limit_s``.

    ``on_busy(others, waited_s)``: called after each window in which they were not. Time is counted in windows.

    Raises: NasError if the machine stays busy, or if the system does not report how busy it is.
    """
    waited_s = 0.0
    while (others := load(WINDOW_S)) is None or others > DISTURBING_CORES:
        if others is None:
            raise NasError(
                "latency.when_busy wait: this system does not report how busy it is (no /proc/stat); leave it out, and "
                "close other programs."
            )
        waited_s += WINDOW_S
        if waited_s >= limit_s:
            raise NasError(
                f"latency.when_busy wait: other programs still use {others:.1f} cores after {waited_s:g} s; close "
                "them, raise latency.wait_s, or set latency.when_busy=warn to calibrate beside them."
            )
        on_busy(others, waited_s)


def _all_s() -> float | None:
    """CPU seconds of all programs since boot, None where ``/proc/stat`` is missing."""
    try:
        ticks = [int(text) for text in _STAT.read_text(encoding="ascii").split("\n", 1)[0].split()[1 : _COLUMNS + 1]]
    except (OSError, ValueError):
        return None
    return sum(count for column, count in enumerate(ticks) if column not in _IDLE) / os.sysconf("SC_CLK_TCK")
