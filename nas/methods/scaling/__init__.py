"""Compound scaling: a grid of coefficients, a comparison of rules, or a table of multipliers, trained and ranked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.methods.scaling.config import ScalingPlan

__all__ = ["ScalingPlan"]

__getattr__, __dir__ = lazy_exports(__name__, {"config": ["ScalingPlan"]})
