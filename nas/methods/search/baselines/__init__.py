"""Baselines of a search: pretrained networks, fine-tuned beside its winners."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.methods.search.baselines.choice import BaselineChoice
    from nas.methods.search.baselines.records import baseline_file, baseline_records
else:
    __getattr__, __dir__ = lazy_exports(
        __name__, {"choice": ["BaselineChoice"], "records": ["baseline_file", "baseline_records"]}
    )

__all__ = ["BaselineChoice", "baseline_file", "baseline_records"]
