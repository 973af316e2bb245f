"""Architecture search: ask-and-tell, screening, pruning, and the files it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.methods.search.config import SearchPlan
    from nas.methods.search.context import search_context
    from nas.methods.search.report_data import existing_winners
else:
    __getattr__, __dir__ = lazy_exports(
        __name__, {"config": ["SearchPlan"], "context": ["search_context"], "report_data": ["existing_winners"]}
    )

__all__ = ["SearchPlan", "existing_winners", "search_context"]
