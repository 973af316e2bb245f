"""Zero-cost scores: order networks at their initial weights, without training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.estimators.zero_cost.scorer import ZeroCostScorer
    from nas.estimators.zero_cost.scores import zero_cost_scores
    from nas.estimators.zero_cost.settings import LABELLED_SCORES, SCORE_NAMES, ZeroCostSettings
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "scorer": ["ZeroCostScorer"],
            "scores": ["zero_cost_scores"],
            "settings": ["LABELLED_SCORES", "SCORE_NAMES", "ZeroCostSettings"],
        },
    )

__all__ = ["LABELLED_SCORES", "SCORE_NAMES", "ZeroCostScorer", "ZeroCostSettings", "zero_cost_scores"]
