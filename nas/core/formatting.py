"""Formatting of figures in reports: units, rounding, a dash for unknown values."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

MISSING: Final = "–"  # noqa: RUF001


def ms(value: float | None) -> str:
    """Format milliseconds with two decimals: ``12.30 ms``."""
    return MISSING if value is None else f"{value:.2f} ms"


def percent(value: float | None, error: float | None = None, digits: int = 2) -> str:
    """Format a fraction of 1 as a percentage, such as ``76.30%``.

    With its standard ``error``: ``76.30 ± 0.98%``.
    """
    return MISSING if value is None else f"{percent_with_error(value, error, digits)}%"


def percent_with_error(value: float | None, error: float | None, digits: int = 2) -> str:
    """Format a fraction and its standard error in percent, without a unit.

    ``76.30 ± 0.98``; empty where there is no value.
    """
    return number_with_error(None if value is None else 100 * value, None if error is None else 100 * error, digits)


def number_with_error(value: float | None, error: float | None, digits: int = 2) -> str:
    """Format a number and its standard error: ``0.512 ± 0.010``.

    Empty where there is no value.
    """
    if value is None:
        return ""
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def ms_with_error(value_ms: float, error_ms: float | None) -> str:
    """Format a latency and its standard error: ``0.371 ± 0.006 ms``, or ``0.37 ms``."""
    return f"{number_with_error(value_ms, error_ms, 2 if error_ms is None else 3)} ms"


def decimal(value: float | None, digits: int = 2) -> str:
    """Format a number without unit, with ``digits`` decimals."""
    return MISSING if value is None else f"{value:.{digits}f}"


def millions(value: int) -> str:
    """Format a count in millions and in full: ``4.13 M (4,134,606)``."""
    return f"{value / 1e6:.2f} M ({value:,})"


def megabytes(value: int) -> str:
    """Format bytes in MB (10^6 bytes) and in full: ``1.20 MB (1,204,224 bytes)``."""
    return f"{value / 1e6:.2f} MB ({value:,} bytes)"


def interval(low: float | None, high: float | None) -> str:
    """Format an interval; empty if either bound is missing."""
    return "" if low is None or high is None else f"{low:.2f} to {high:.2f}"


def cpu_time(seconds: float) -> str:
    """Format CPU time: ``12 CPU-s``, ``3.5 CPU-min``, ``1.2 CPU-h``."""
    for unit, length in (("CPU-h", 3600), ("CPU-min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} CPU-s"


def plural(count: int, noun: str) -> str:
    """Format a count with its noun: ``1 trial``, ``1,000 trials``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def alternatives(values: Sequence[object]) -> str:
    """Format ``values`` as a choice: ``3, 4 or 6``."""
    *others, last = map(str, values)
    return f"{', '.join(others)} or {last}" if others else last


def sentence_case(text: str) -> str:
    """``text`` as the beginning of a sentence; a name such as mIoU keeps its letters."""
    word = text.partition(" ")[0]
    return text[:1].upper() + text[1:] if word.islower() and "_" not in word else text


def first_names(names: Sequence[str], *, most: int = 5, rest: str = ", ...") -> str:
    """Format the first ``most`` of ``names``, with ``rest`` where there are more."""
    return ", ".join(names[:most]) + (rest if len(names) > most else "")


def escape_controls(text: str, *, ascii_only: bool = False) -> str:
    """``text`` in one line, with nothing in it that a terminal obeys.

    Newlines, escape sequences, and characters that reverse or hide text become escapes: ``\\n``, ``\\x1b``. Names of
    files, classes and studies may hold any of them. ``ascii_only``: so does everything else that is not ASCII.
    """
    if text.isprintable() and (text.isascii() or not ascii_only):
        return text
    return "".join(
        one if one.isprintable() and (one.isascii() or not ascii_only) else one.encode("unicode_escape").decode()
        for one in text
    )


def shown_path(path: Path) -> str:
    """Format ``path`` relative to the working directory if it is inside it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def changed_command(command: str, overrides: Mapping[str, object], *, without: str | None = None) -> str:
    """A command with other overrides; words that begin with ``without`` are left out."""
    words = [word for word in shlex.split(command) if word.partition("=")[0] not in overrides]
    unchanged = [word for word in words if without is None or not word.startswith(without)]
    return shlex.join([*unchanged, *(f"{key}={value}" for key, value in overrides.items())])
