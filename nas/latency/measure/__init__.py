"""Latency measurement on this machine: timer, backends, profiles, system load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.latency.measure.timer import measure_many
else:
    __getattr__, __dir__ = lazy_exports(__name__, {"timer": ["measure_many"]})

__all__ = ["measure_many"]
