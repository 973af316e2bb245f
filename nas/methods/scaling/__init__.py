"""Compound scaling: scaled networks of one baseline, trained and ranked.

They are a grid of coefficients, a comparison of scaling rules, or a table of multipliers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.methods.scaling.config import ScalingPlan
    from nas.methods.scaling.context import scaling_context
    from nas.methods.scaling.family_files import FAMILY_FOLDER
    from nas.methods.scaling.report_data import grid_conclusion, study_ranking
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "config": ["ScalingPlan"],
            "context": ["scaling_context"],
            "family_files": ["FAMILY_FOLDER"],
            "report_data": ["grid_conclusion", "study_ranking"],
        },
    )

__all__ = ["FAMILY_FOLDER", "ScalingPlan", "grid_conclusion", "scaling_context", "study_ranking"]
