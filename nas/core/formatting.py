"""Formatting of figures in reports: units, rounding, a dash for unknown values."""

from __future__ import annotations

from pathlib import Path
from typing import Final

MISSING: Final = "–"  # noqa: RUF001


def ms(value: float | None) -> str:
    """Format milliseconds with two decimals: ``12.30 ms``."""
    return MISSING if value is None else f"{value:.2f} ms"


def percent(value: float | None) -> str:
    """Format a fraction of 1 as a percentage with two decimals: ``76.30%``."""
    return MISSING if value is None else f"{100 * value:.2f}%"


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


def plural(count: int, noun: str) -> str:
    """Format a count with its noun: ``1 trial``, ``1,000 trials``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


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
