"""SVG plot of found over predicted accuracy."""

from __future__ import annotations

from typing import Final

import numpy as np

from nas.analysis.surrogate import CrossValidation
from nas.arch.heads.task_scores import TASK_SCORES, TaskScore
from nas.reporting.plots.axes import BASELINE_COLOR, FRONT_COLOR, GREY_COLOR, canvas

_INCHES: Final = (5.0, 4.9)
_MARGIN: Final = 0.04  # share of the axes around the outermost points


def prediction_svg(validation: CrossValidation, score: TaskScore = TASK_SCORES["classification"]) -> str:
    """SVG of found over predicted accuracy in %, with 90% intervals.

    Each network is predicted from the others. On the diagonal both are equal; an interval that does not cross it misses
    what was found. The axes have room for what was found and predicted; intervals may end outside. ``score``: what
    accuracies are.
    """
    predicted, low, high, found = (
        100 * values for values in (validation.predicted, validation.low, validation.high, validation.found)
    )
    first, last = min(predicted.min(), found.min()), max(predicted.max(), found.max())
    margin = _MARGIN * (last - first)
    ends = (first - margin, last + margin)
    with canvas("prediction", f"Found over predicted {score.name} of {len(found)} networks", _INCHES) as drawn:
        axes = drawn.axes
        axes.set(xlabel=f"predicted {score.name}, %", ylabel=f"proxy {score.name}, %", xlim=ends, ylim=ends)
        axes.plot(ends, ends, color=GREY_COLOR, linewidth=1, label="found as predicted")
        is_inside = (low <= found) & (found <= high)
        for shown, marker, color, label in (
            (is_inside, "o", FRONT_COLOR, "inside its 90% interval"),
            (~is_inside, "s", BASELINE_COLOR, "outside"),
        ):
            if shown.any():
                reach = np.clip([predicted - low, high - predicted], 0.0, None)[:, shown]
                style = {"fmt": marker, "color": color, "markersize": 4, "elinewidth": 0.6, "alpha": 0.8}
                axes.errorbar(predicted[shown], found[shown], xerr=reach, label=label, **style)
    return drawn.svg
