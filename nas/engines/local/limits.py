"""Limits on a trial's time and memory (``engine.*``), and their messages."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from nas.core.errors import NasError
from nas.study.config import EngineSettings

_NEARLY: Final = 0.8
_LESS: Final = "proxy.batch_size, proxy.resolution_px or proxy.width_multiplier"


def resident_mb(pid: int | str = "self") -> float:
    """Resident memory of a process in MB (10^6 bytes); 0 if it has ended.

    As ``top`` shows it, libraries included.
    """
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def check_baseline(settings: EngineSettings) -> None:
    """Check that this process is within the limits before its first trial.

    Raises: NasError.
    """
    limit_mb, held_mb = settings.trial_memory_mb, resident_mb()
    if limit_mb is not None and held_mb > limit_mb:
        raise NasError(
            f"engine.trial_memory_mb {limit_mb:g}: a worker holds {held_mb:.0f} MB before its first trial, libraries "
            "and images included; allow more."
        )


def exceeded_limit(settings: EngineSettings, *, trained_s: float, held_mb: float) -> str:
    """Why a trial has to be ended, or an empty text.

    It has been trained for ``trained_s`` in a process that holds ``held_mb`` of resident memory.
    """
    if settings.trial_timeout_s is not None and trained_s > settings.trial_timeout_s:
        return (
            f"trained for longer than engine.trial_timeout_s {settings.trial_timeout_s:g}; raise it, or lower "
            "proxy.epochs or data.subset"
        )
    if settings.trial_memory_mb is not None and held_mb > settings.trial_memory_mb:
        return (
            f"its worker held {held_mb:.0f} MB, engine.trial_memory_mb is {settings.trial_memory_mb:g}; lower {_LESS}"
        )
    return ""


def memory_warning(settings: EngineSettings, *, held_mb: float) -> str:
    """A warning for a process that is near its limit of memory; empty for others."""
    limit_mb = settings.trial_memory_mb
    if limit_mb is None or held_mb <= _NEARLY * limit_mb:
        return ""
    return f"{held_mb:.0f} of the {limit_mb:g} MB of engine.trial_memory_mb; less is needed with a lower {_LESS}"
