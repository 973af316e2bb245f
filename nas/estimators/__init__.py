"""Performance estimation strategies: accuracy estimates without full training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.estimators.base import Estimate, Evaluation, Evaluator, ParentNetwork, Scorer, network_seed, repeated_seed
    from nas.estimators.scorers import supernets_of, with_scorer
    from nas.estimators.settings import EstimatorSettings
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "base": ["repeated_seed", "network_seed", "ParentNetwork", "Estimate", "Evaluation", "Evaluator", "Scorer"],
            "scorers": ["supernets_of", "with_scorer"],
            "settings": ["EstimatorSettings"],
        },
    )

__all__ = [
    "Estimate",
    "EstimatorSettings",
    "Evaluation",
    "Evaluator",
    "ParentNetwork",
    "Scorer",
    "network_seed",
    "repeated_seed",
    "supernets_of",
    "with_scorer",
]
