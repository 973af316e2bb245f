"""Static plots of trial records, drawn with matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.reporting.plots.axes import (
        BASELINE_COLOR,
        FRONT_COLOR,
        GREY_COLOR,
        LIMIT_COLOR,
        TEXT_COLOR,
        Canvas,
        canvas,
    )
    from nas.reporting.plots.hover_points import Point, block_lines
    from nas.reporting.plots.training import EpochFigures, accuracy_svg, confusion_svg, losses_svg
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "training": ["EpochFigures", "accuracy_svg", "confusion_svg", "losses_svg"],
            "axes": ["LIMIT_COLOR", "BASELINE_COLOR", "FRONT_COLOR", "GREY_COLOR", "TEXT_COLOR", "Canvas", "canvas"],
            "hover_points": ["Point", "block_lines"],
        },
    )

__all__ = [
    "BASELINE_COLOR",
    "Canvas",
    "EpochFigures",
    "FRONT_COLOR",
    "GREY_COLOR",
    "LIMIT_COLOR",
    "Point",
    "TEXT_COLOR",
    "accuracy_svg",
    "block_lines",
    "canvas",
    "confusion_svg",
    "losses_svg",
]
