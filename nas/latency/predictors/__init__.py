"""Latency predictors, which price a spec without building it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.latency.predictors.base import LatencyEstimate, LatencyPredictor, error_text
    from nas.latency.predictors.block_table import BlockTable, MissingEntries, check_covers
    from nas.latency.predictors.held_out import HeldOutCheck
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "base": ["LatencyEstimate", "LatencyPredictor", "error_text"],
            "block_table": ["BlockTable", "MissingEntries", "check_covers"],
            "held_out": ["HeldOutCheck"],
        },
    )

__all__ = [
    "BlockTable",
    "HeldOutCheck",
    "LatencyEstimate",
    "LatencyPredictor",
    "MissingEntries",
    "check_covers",
    "error_text",
]
