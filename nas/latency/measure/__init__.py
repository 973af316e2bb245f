"""Latency measurement on this machine: timer, backends, profiles, system load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.latency.measure.backends import runtime_errors_as
    from nas.latency.measure.present_speed import present_probe_ms
    from nas.latency.measure.system_load import (
        WINDOW_S,
        LoadMeter,
        SystemLoad,
        is_busy,
        other_cores,
        wait_until_quiet,
    )
    from nas.latency.measure.timer import measure_many
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "backends": ["runtime_errors_as"],
            "present_speed": ["present_probe_ms"],
            "system_load": ["WINDOW_S", "LoadMeter", "SystemLoad", "is_busy", "other_cores", "wait_until_quiet"],
            "timer": ["measure_many"],
        },
    )

__all__ = [
    "WINDOW_S",
    "LoadMeter",
    "SystemLoad",
    "is_busy",
    "measure_many",
    "other_cores",
    "present_probe_ms",
    "runtime_errors_as",
    "wait_until_quiet",
]
