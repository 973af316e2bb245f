"""Performance estimation strategies: accuracy estimates without full training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.estimators.base import Estimate, Evaluation, Evaluator, Scorer
    from nas.estimators.scorers import supernets_of, with_scorer
    from nas.estimators.settings import EstimatorSettings
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "scorers": ["supernets_of", "with_scorer"],
            "base": ["Estimate", "Evaluation", "Evaluator", "Scorer"],
            "settings": ["EstimatorSettings"],
        },
    )

__all__ = ["with_scorer", "supernets_of", "Estimate", "EstimatorSettings", "Evaluation", "Evaluator", "Scorer"]
