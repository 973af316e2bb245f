"""Latency predictors, which price a spec without building it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.latency.predictors.base import (
        LatencyEstimate,
        LatencyPredictor,
        error_text,
        forms_of,
        forms_remark,
        unmeasured_remark,
        with_plain_blocks,
    )
    from nas.latency.predictors.block_table import BlockTable, MissingEntries, check_covers
    from nas.latency.predictors.held_out import HeldOutCheck, outliers_of
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "base": [
                "LatencyEstimate",
                "LatencyPredictor",
                "error_text",
                "forms_of",
                "forms_remark",
                "unmeasured_remark",
                "with_plain_blocks",
            ],
            "block_table": ["BlockTable", "MissingEntries", "check_covers"],
            "held_out": ["HeldOutCheck", "outliers_of"],
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
    "forms_of",
    "forms_remark",
    "outliers_of",
    "unmeasured_remark",
    "with_plain_blocks",
]
