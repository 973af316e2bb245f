"""Linux' parent-death signal: a process that is killed as soon as its parent ends."""

from __future__ import annotations

import ctypes
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # of Linux' prctl


def die_with_parent() -> None:
    """Have this process killed when its parent ends, even if it is stopped then."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
