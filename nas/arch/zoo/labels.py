"""How names of published networks tell their width."""

from __future__ import annotations


def width_label(width: float) -> str:
    """The width multiplier in percent, three digits as in timm's names: ``075`` for 0.75."""
    return f"{round(width * 100):03d}"
