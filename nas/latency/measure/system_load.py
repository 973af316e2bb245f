"""What other programs do on this machine meanwhile: their work slows ours down in ways that no clock shows."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Cores that other programs keep busy, from which on a chunk counts as disturbed. Processors share caches, and often
# cores: calibrated beside tests and training, networks of 3 to 8 ms came out 5 to 10% too slow, small ones did not,
# and the reference showed nothing.
DISTURBING_CORES: Final = 0.25
_STAT: Final = Path("/proc/stat")
_IDLE: Final = (3, 4)  # idle and iowait among the columns of its first line, which is of all cores together
_COLUMNS: Final = 8  # up to stolen time; guests are counted among users


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemLoad:
    """CPU seconds that all programs of the machine have had so far (None where it does not say), and this one."""

    all_s: float | None
    own_s: float
    wall_s: float

    @classmethod
    def now(cls) -> SystemLoad:
        """As it stands."""
        return cls(all_s=_all_s(), own_s=time.process_time(), wall_s=time.monotonic())

    def others_since(self, before: SystemLoad) -> float | None:
        """Cores that other programs kept busy between ``before`` and this, on average; stolen time is theirs too."""
        if self.all_s is None or before.all_s is None or self.wall_s <= before.wall_s:
            return None
        others_s = (self.all_s - before.all_s) - (self.own_s - before.own_s)
        return max(0.0, others_s / (self.wall_s - before.wall_s))


def _all_s() -> float | None:
    try:
        ticks = [int(text) for text in _STAT.read_text(encoding="ascii").split("\n", 1)[0].split()[1 : _COLUMNS + 1]]
    except (OSError, ValueError):
        return None
    return sum(count for column, count in enumerate(ticks) if column not in _IDLE) / os.sysconf("SC_CLK_TCK")
