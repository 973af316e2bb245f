"""SVG plots of accuracy over latency, and of measured over predicted latency.

Deterministic: equal data gives equal SVGs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from nas.analysis.latency_agreement import LatencyAgreement, LatencyPair
from nas.analysis.surrogate import ExpectedPoint
from nas.reporting.plots.axes import (
    BASELINE_COLOR,
    EXPECTED_COLOR,
    FRONT_COLOR,
    GREY_COLOR,
    LIMIT_COLOR,
    TEXT_COLOR,
    canvas,
)
from nas.reporting.plots.hover_points import baseline_point, point_of, thin_points
from nas.reporting.svg import printable
from nas.study.trial_record import (
    BaselineRecord,
    Outcome,
    TrialRecord,
    pareto_front,
    score_of,
    searched_networks,
    trained_networks,
)

_PARETO_INCHES: Final = (6.6, 4.7)  # 475 x 338 SVG units; text stays legible on phones, which show 370
_AGREEMENT_INCHES: Final = (5.0, 4.9)
_MARGIN: Final = 0.08  # share of the axes that leaves room for labels around the outermost points
_MOST_PAIRS: Final = 500
_NAMED_STYLE: Final = {"markersize": 6, "capsize": 3, "elinewidth": 1, "zorder": 5}
_WINNER_STYLE: Final = {"fmt": "o", "color": FRONT_COLOR}
_BASELINE_STYLE: Final = {"fmt": "s", "color": LIMIT_COLOR}
_TICKS: Final = 400  # per width; infeasible candidates closer than that share one tick


def pareto_svg(
    rows: Sequence[TrialRecord],
    winners: Mapping[str, TrialRecord],
    *,
    published: Mapping[int, str] | None = None,
    baselines: Sequence[BaselineRecord] = (),
    limit_ms: float | None = None,
    latency: str = "predicted",
    expected: Sequence[ExpectedPoint] = (),
) -> str:
    """SVG of accuracy in % over predicted or measured latency in ms.

    ``latency``: ``predicted`` or ``measured``. Trained candidates are dots, those only scored dots without a fill, the
    Pareto front is a step line, ``winners``
    (label to row) carry the 90% interval of their latency and the standard error of their accuracy, ``published``
    (trial number to name) are diamonds, ``baselines`` squares with the same error bars, ``limit_ms`` a dashed line.
    ``expected``: front that a model expects of untried networks, a dotted step line with the band of its 90% interval.
    Infeasible candidates have no accuracy: they are ticks at their latency along the bottom. Every dot has a tooltip;
    very many dots are thinned out where they overlap.
    """
    trained = _drawn_networks(rows)
    score = score_of(rows)
    title = f"{score.title} over latency of {len(trained)} candidates"
    with canvas("pareto", title, _PARETO_INCHES) as drawn:
        axes = drawn.axes
        others = [baseline.row for baseline in baselines]
        axes.set(xlabel=f"{latency} latency, ms", ylabel=f"{score.name}, %" if others else f"proxy {score.name}, %")
        right_ms = _right_edge([*trained, *others], limit_ms)
        front = pareto_front(trained)
        names = {**(published or {}), **{row.number: label for label, row in winners.items()}}
        shown = thin_points(trained, names.keys() | {row.number for row in front})
        more = f" ({len(shown):,} of {len(trained):,} drawn)" if len(shown) < len(trained) else ""
        _draw_trained(axes, shown, front, published or {}, f"trained{more}")
        drawn.points += [point_of(row, names.get(row.number, ""), measured=latency == "measured") for row in shown]
        drawn.points += [baseline_point(baseline, measured=latency == "measured") for baseline in baselines]
        _draw_limit_and_infeasible(axes, rows, limit_ms, right_ms)
        if not trained:
            axes.text(0.5, 0.5, "no candidate was trained", transform=axes.transAxes, ha="center", color=TEXT_COLOR)
            axes.set_ylim(0, 100)
        if right_ms is not None:
            axes.set_xlim(_left_edge([*trained, *others], right_ms), right_ms)
            axes.margins(y=_MARGIN)
        _draw_expected(axes, expected)
        _draw_named(axes, winners, _WINNER_STYLE, "winner")
        _draw_named(axes, {one.label: one.row for one in baselines}, _BASELINE_STYLE, "baseline, fine-tuned")
    return drawn.svg


def agreement_svg(agreement: LatencyAgreement, limit_ms: float | None = None) -> str:
    """SVG of measured over predicted latency in ms, with 90% intervals.

    On the diagonal both are equal; an interval that does not cross it misses its measurement. Winners are labelled,
    ``limit_ms`` is a dashed line. Very many pairs are sampled evenly.
    """
    step = len(agreement.pairs) / _MOST_PAIRS
    spaced = {int(index * step) for index in range(_MOST_PAIRS)}
    pairs = [pair for index, pair in enumerate(agreement.pairs) if step <= 1 or index in spaced or pair.winner]
    ends = [end for pair in pairs for end in (pair.predicted_ms, pair.measured_ms, pair.low_ms, pair.high_ms) if end]
    low, high = 0.95 * min(ends, default=0.0), 1.05 * max(ends, default=1.0)
    title = f"Measured over predicted latency of {len(pairs)} networks"
    with canvas("agreement", title, _AGREEMENT_INCHES) as drawn:
        axes = drawn.axes
        axes.set(xlabel="predicted latency, ms", ylabel="measured latency, ms", xlim=(low, high), ylim=(low, high))
        axes.plot([low, high], [low, high], color=GREY_COLOR, linewidth=1, label="measured as predicted")
        _draw_pairs(axes, [pair for pair in pairs if not pair.outside], "o", FRONT_COLOR, "inside its 90% interval")
        _draw_pairs(axes, [pair for pair in pairs if pair.outside], "s", BASELINE_COLOR, "outside")
        if limit_ms is not None and limit_ms < high:
            axes.axhline(limit_ms, color=LIMIT_COLOR, linestyle="--", linewidth=1.2, label=f"limit {limit_ms:g} ms")
    return drawn.svg


def _draw_pairs(axes: Any, pairs: Sequence[LatencyPair], marker: str, color: str, label: str) -> None:
    if not pairs:
        return
    positions = [(pair.predicted_ms, pair.measured_ms) for pair in pairs]
    low = [max(0.0, pair.predicted_ms - (pair.low_ms or pair.predicted_ms)) for pair in pairs]
    high = [max(0.0, (pair.high_ms or pair.predicted_ms) - pair.predicted_ms) for pair in pairs]
    style = {"fmt": marker, "color": color, "markersize": 5, "capsize": 2, "elinewidth": 0.8, "zorder": 4}
    legend = label if pairs[0].low_ms else "measured"
    axes.errorbar(*zip(*positions, strict=True), xerr=(low, high), label=legend, **style)
    for pair, position in zip(pairs, positions, strict=True):
        if pair.winner:
            _name(axes, pair.name, position, offset=(6, -12), color=TEXT_COLOR, weight="bold")


def _draw_trained(
    axes: Any, trained: Sequence[TrialRecord], best: Sequence[TrialRecord], published: Mapping[int, str], label: str
) -> None:
    others = [row for row in trained if row.number not in published]
    scored = [point for row in others if row.accuracy is None and (point := _point(row))]
    if scored:
        style = {"s": 16, "facecolors": "none", "edgecolors": GREY_COLOR, "alpha": 0.75, "linewidths": 0.8}
        axes.scatter(*zip(*scored, strict=True), label="scored (estimate)", **style)
    ours = [point for row in others if row.accuracy is not None and (point := _point(row))]
    if ours:
        axes.scatter(*zip(*ours, strict=True), s=20, color=GREY_COLOR, alpha=0.75, linewidths=0, label=label)
    front = [point for row in best if (point := _point(row))]
    if front:
        axes.plot(
            *zip(*front, strict=True), drawstyle="steps-post", color=FRONT_COLOR, linewidth=1.4, label="Pareto front"
        )
    named = [(published[row.number], point) for row in trained if row.number in published and (point := _point(row))]
    for index, (name, point) in enumerate(named):
        legend = "published" if index == 0 else None
        axes.scatter(*point, s=42, marker="D", facecolors="none", edgecolors=BASELINE_COLOR, zorder=4, label=legend)
        _name(axes, name, point, offset=(7, -11), color=BASELINE_COLOR)


def _draw_expected(axes: Any, front: Sequence[ExpectedPoint]) -> None:
    """Draw the expected front, without widening the axes."""
    if not front:
        return
    limits = axes.get_xlim(), axes.get_ylim()
    times, accuracies, low, high = zip(*front, strict=True)
    lines = [[100 * value for value in (*values, values[-1])] for values in (accuracies, low, high)]
    times = (*times, max(times[-1], limits[0][1]))
    style = {"color": EXPECTED_COLOR, "linewidth": 1.2, "linestyle": ":", "zorder": 3}
    axes.plot(times, lines[0], drawstyle="steps-post", label="expected of untried networks", **style)
    band = {"color": EXPECTED_COLOR, "alpha": 0.12, "linewidth": 0, "zorder": 1}
    axes.fill_between(times, *lines[1:], step="post", label="90% interval of one", **band)
    axes.set(xlim=limits[0], ylim=limits[1])


def _draw_named(axes: Any, networks: Mapping[str, TrialRecord], style: Mapping[str, Any], kind: str) -> None:
    """Draw networks by label, with the errors of latency and accuracy."""
    named = [(point, label, row) for label, row in networks.items() if (point := _point(row))]
    named.sort(key=lambda item: item[0])
    left, right = axes.get_xlim()
    above, previous_ms = True, -math.inf
    for index, (point, label, row) in enumerate(named):
        # Labels go above the front, which is free; of two close neighbours one goes below.
        above = not above if point[0] - previous_ms < 0.08 * (right - left) else True
        previous_ms = point[0]
        low = point[0] if row.latency_low_ms is None else row.latency_low_ms
        high = point[0] if row.latency_high_ms is None else row.latency_high_ms
        # Rounding can put a corrected prediction outside its interval; error bars must not be negative.
        reach = [[max(0.0, point[0] - low)], [max(0.0, high - point[0])]]
        error = None if row.ranked_error is None else 100 * row.ranked_error
        shown = ["90% interval"] * (row.latency_low_ms is not None) + ["standard error"] * (error is not None)
        legend = f"{kind}{', with ' if shown else ''}{' and '.join(shown)}" if index == 0 else None
        axes.errorbar(*point, xerr=reach, yerr=error, label=legend, **_NAMED_STYLE, **style)
        _name(axes, label, point, offset=(-5, 6) if above else (6, -12), color=TEXT_COLOR, weight="bold")


def _draw_limit_and_infeasible(
    axes: Any, rows: Sequence[TrialRecord], limit_ms: float | None, right_ms: float | None
) -> None:
    refused = [row.latency_ms for row in rows if row.outcome is Outcome.INFEASIBLE and row.latency_ms is not None]
    shown = [value for value in refused if right_ms is None or value <= right_ms]
    if refused:
        beyond = f", {len(refused) - len(shown)} beyond the edge" if len(shown) < len(refused) else ""
        low = axes.get_xaxis_transform()  # x in ms, y as a share of the axes
        label = f"infeasible ({len(refused)}{beyond})"
        style = {"marker": "|", "markersize": 7, "color": LIMIT_COLOR, "alpha": 0.6, "linestyle": "none"}
        width_ms = (right_ms or max(shown, default=1.0)) / _TICKS
        marks = sorted({round(value / width_ms) * width_ms for value in shown} if len(shown) > _TICKS else shown)
        axes.plot(marks, [0.02] * len(marks), transform=low, label=label, **style)
    if limit_ms is not None:
        axes.axvline(limit_ms, color=LIMIT_COLOR, linestyle="--", linewidth=1.2, label=f"limit {limit_ms:g} ms")


def _name(axes: Any, name: str, point: tuple[float, float], offset: tuple[int, int], **style: Any) -> None:
    """Draw a label next to its point, on the side of its offset."""
    side = "left" if offset[0] > 0 else "right"
    text = printable(name if len(name) <= 32 else name[:31] + "…")
    axes.annotate(text, point, xytext=offset, textcoords="offset points", ha=side, fontsize=10, zorder=6, **style)


def _left_edge(trained: Sequence[TrialRecord], right_ms: float) -> float:
    """Left axis limit in ms, with room for intervals and labels."""
    low_ms = min(row.latency_low_ms or row.latency_ms or 0.0 for row in trained)
    return low_ms - _MARGIN * (right_ms - low_ms)


def _right_edge(trained: Sequence[TrialRecord], limit_ms: float | None) -> float | None:
    """Right axis limit in ms, set by trained candidates and the limit.

    Slow infeasible candidates must not squeeze the trained ones.
    """
    if not trained:
        return None
    ends = [row.latency_high_ms or row.latency_ms or 0.0 for row in trained]
    ends += [limit_ms] if limit_ms is not None else []
    return 1.15 * max(ends) if max(ends) > 0 else None


def _point(row: TrialRecord) -> tuple[float, float] | None:
    """Latency in ms, accuracy or its estimate in %; None where one of them is unknown."""
    accuracy = row.ranked_accuracy
    return None if accuracy is None or row.latency_ms is None else (row.latency_ms, 100 * accuracy)


def _drawn_networks(rows: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Trained networks, and those scored that were not trained later, by number."""
    trained = trained_networks(rows)
    known = {row.arch_id for row in trained}
    scored = [row for row in searched_networks(rows) if row.accuracy is None and row.arch_id not in known]
    return sorted([*trained, *scored], key=lambda row: row.number)
