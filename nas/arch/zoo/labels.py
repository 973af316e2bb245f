"""Width labels in the names of published networks."""

from __future__ import annotations


def width_label(width: float) -> str:
    """Width multiplier in percent, three digits as in timm's names: ``075`` for 0.75."""
    return f"{round(width * 100):03d}"
