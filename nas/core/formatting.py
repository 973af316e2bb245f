"""How reports write figures: with their units, rounded to be read; a dash for what is not known."""

from __future__ import annotations

from pathlib import Path
from typing import Final

MISSING: Final = "–"  # noqa: RUF001


def ms(value: float | None) -> str:
    """Milliseconds."""
    return MISSING if value is None else f"{value:.2f} ms"


def percent(value: float | None) -> str:
    """A share of one."""
    return MISSING if value is None else f"{100 * value:.2f}%"


def decimal(value: float | None, digits: int = 2) -> str:
    """A bare number."""
    return MISSING if value is None else f"{value:.{digits}f}"


def millions(value: int) -> str:
    """Rounded, and in full: a figure to read and one to compare."""
    return f"{value / 1e6:.2f} M ({value:,})"


def megabytes(value: int) -> str:
    """Bytes, rounded and in full."""
    return f"{value / 1e6:.2f} MB ({value:,} bytes)"


def interval(low: float | None, high: float | None) -> str:
    """Two ends; empty where one of them is missing."""
    return "" if low is None or high is None else f"{low:.2f} to {high:.2f}"


def plural(count: int, noun: str) -> str:
    """A number of things."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def shown_path(path: Path) -> str:
    """``path`` relative to the working directory where it lies below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
