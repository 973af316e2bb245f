"""Where trials run: this process, local worker processes, or a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.engines.run import run_study
else:
    __getattr__, __dir__ = lazy_exports(__name__, {"run": ["run_study"]})

__all__ = ["run_study"]
