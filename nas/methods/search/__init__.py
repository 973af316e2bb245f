"""Architecture search: ask, screen, train, tell, and what comes out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.methods.search.config import SearchPlan

__all__ = ["SearchPlan"]

__getattr__, __dir__ = lazy_exports(__name__, {"config": ["SearchPlan"]})
