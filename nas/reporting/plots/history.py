"""Plots of a search's progress and of learning curves.

Progress is the best result so far over trials and over hours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from nas.analysis.history import Curve, FrontProgress, ProgressStep
from nas.reporting.plots.axes import BASELINE_COLOR, FRONT_COLOR, GREY_COLOR, TEXT_COLOR, canvas
from nas.study.trial_record import Outcome, TrialRecord, score_of

_INCHES: Final = (5.2, 3.4)  # 374 x 245 units of SVG: two of them side by side on a page
_MOST_STEPS: Final = 1000
_MOST_CURVES: Final = 150


def progress_svgs(progress: FrontProgress) -> tuple[str, ...]:
    """SVGs of hypervolume in %, or of the highest reward, over trials and hours.

    The plot over hours only where trial times are known.
    """
    what = "highest reward" if progress.reference is None else "hypervolume, %"
    scale = 1.0 if progress.reference is None else 100.0
    drawn = [_steps(progress.steps, "trials", "trial", what, scale, lambda step: step.trial, whole=True)]
    if progress.timed and (progress.timed[-1].hours or 0.0) > 0:
        in_hours = (progress.timed[-1].hours or 0.0) >= 1
        unit, factor = ("hours of work", 1.0) if in_hours else ("minutes of work", 60.0)
        drawn.append(_steps(progress.timed, "hours", unit, what, scale, lambda step: factor * (step.hours or 0.0)))
    return tuple(drawn)


def curves_svg(curves: Mapping[int, Curve], rows: Sequence[TrialRecord], winners: Mapping[int, str]) -> str | None:
    """SVG of accuracy in % over epochs.

    None where no training recorded at least two epochs.

    Winners (trial number to label) are emphasized and labelled, stopped trainings end in a cross. Very many others are
    sampled evenly.
    """
    outcomes = {row.number: row.outcome for row in rows}
    recorded = {number: curve for number, curve in curves.items() if number in outcomes and curve}
    if max((len(curve) for curve in recorded.values()), default=0) < 2:
        return None
    others = [number for number in recorded if number not in winners]
    sample = {others[index * len(others) // _MOST_CURVES] for index in range(_MOST_CURVES)} if others else set()
    score = score_of(rows)
    with canvas("curves", f"{score.title} after each epoch of {len(recorded)} trainings", _INCHES) as drawn:
        axes = drawn.axes
        axes.set(xlabel="epoch", ylabel=f"proxy {score.name}, %")
        axes.xaxis.get_major_locator().set_params(integer=True)
        stopped = [number for number in sorted(sample) if outcomes[number] is Outcome.STOPPED]
        _lines(axes, [recorded[number] for number in sorted(sample - set(stopped))], "trained", GREY_COLOR)
        _lines(axes, [recorded[number] for number in stopped], "stopped early", BASELINE_COLOR)
        if stopped:
            ends = [_percent(recorded[number])[-1] for number in stopped]
            axes.plot(*zip(*ends, strict=True), "x", color=BASELINE_COLOR, markersize=5)
        named = {winners[number]: _percent(recorded[number]) for number in winners if number in recorded}
        for index, points in enumerate(named.values()):
            label = "winners" if index == 0 else None
            axes.plot(
                *zip(*points, strict=True), color=FRONT_COLOR, linewidth=1.8, marker="o", markersize=3, label=label
            )
        _name_ends(axes, {name: points[-1] for name, points in named.items()})
    return drawn.svg


def _steps(
    steps: Sequence[ProgressStep], name: str, across: str, up: str, scale: float, x_of: Any, *, whole: bool = False
) -> str:
    """One step plot; intermediate steps without a change are omitted.

    ``whole``: the axis counts in whole numbers.
    """
    recorded = [
        step for index, step in enumerate(steps) if index in (0, len(steps) - 1) or step.value != steps[index - 1].value
    ][-_MOST_STEPS:]
    with canvas(f"progress-{name}", f"{up} over {across}", _INCHES) as drawn:
        axes = drawn.axes
        axes.set(xlabel=across, ylabel=up)
        points = [(x_of(step), scale * step.value) for step in recorded]
        axes.plot(*zip(*points, strict=True), color=FRONT_COLOR, drawstyle="steps-post", linewidth=1.6)
        axes.plot(*points[-1], "o", color=FRONT_COLOR, markersize=4)
        axes.margins(x=0.04, y=0.08)
        if whole:
            axes.xaxis.get_major_locator().set_params(integer=True)
    return drawn.svg


def _lines(axes: Any, curves: Sequence[Curve], label: str, color: str) -> None:
    for index, curve in enumerate(curves):
        legend = label if index == 0 else None
        axes.plot(*zip(*_percent(curve), strict=True), color=color, linewidth=0.7, alpha=0.6, label=legend)


def _name_ends(axes: Any, ends: Mapping[str, tuple[int, float]]) -> None:
    """Label the ends of curves; ends close together share one label."""
    low, high = axes.get_ylim()
    names: list[str] = []
    position = (0, 0.0)
    for name, end in sorted(ends.items(), key=lambda item: -item[1][1]):
        if names and position[1] - end[1] > 0.05 * (high - low):
            _name_end(axes, names, position)
            names = []
        position = position if names else end
        names.append(name)
    if names:
        _name_end(axes, names, position)


def _name_end(axes: Any, names: Sequence[str], position: tuple[int, float]) -> None:
    style = {"xytext": (5, 0), "textcoords": "offset points", "color": TEXT_COLOR, "fontsize": 9, "va": "center"}
    axes.annotate(", ".join(names), position, annotation_clip=False, **style)


def _percent(curve: Curve) -> list[tuple[int, float]]:
    return [(epoch, 100 * accuracy) for epoch, accuracy in curve]
