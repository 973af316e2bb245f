"""Performance estimation strategies: accuracy estimates without full training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.estimators.base import Evaluation, Evaluator
else:
    __getattr__, __dir__ = lazy_exports(__name__, {"base": ["Evaluation", "Evaluator"]})

__all__ = ["Evaluation", "Evaluator"]
