"""Plots of a grid: accuracy over cost with errors, and over alpha and beta."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from nas.core.formatting import ms, plural
from nas.methods.scaling.ranking.ranking import AT_CHANCE, BEST, PEER, WORSE, RankedNetwork, Ranking
from nas.reporting.plots.axes import BASELINE_COLOR, FRONT_COLOR, GREY_COLOR, TEXT_COLOR, Canvas, canvas
from nas.reporting.plots.hover_points import Point, block_lines
from nas.reporting.svg import printable

COST_INCHES: Final = (6.6, 4.4)  # 475 x 317 SVG units: its text is legible on a phone, which is 370 wide
_SURFACE_INCHES: Final = (6.6, 4.7)
_MAX_LABELLED: Final = 5
_PUBLISHED: Final = "1.2/1.1/1.15"

Cost = Callable[[RankedNetwork], float]


def cost_plot(ranking: Ranking, cost: Cost, *, name: str, axis: str) -> Canvas:
    """Accuracy in % over ``cost``, with standard errors of the means.

    ``axis`` is the cost's name with its unit. The best network and those statistically indistinguishable from it are
    filled, the others hollow, so that the plot works without colours.
    """
    shown = [one for one in ranking.ranked if one.mean is not None]
    with canvas(name, f"Accuracy over {axis} of {len(shown)} networks", COST_INCHES) as drawn:
        axes = drawn.axes
        axes.set(xlabel=axis, ylabel="proxy accuracy, %")
        axes.margins(x=0.14)  # space for the labels
        _draw_means(axes, ranking, cost)
        _draw_steps(axes, ranking, cost)
        drawn.points += network_points((ranking.baseline, *shown), cost)
        for place, one in enumerate(one for one in shown if _is_labelled(one, len(shown))):
            offset = (7, 5) if place % 2 == 0 else (7, -12)
            weight = "bold" if one.verdict == BEST else "normal"
            _label(axes, one, cost, offset=offset, weight=weight)
        if not shown:
            axes.text(0.5, 0.5, "no training finished", transform=axes.transAxes, ha="center", color=TEXT_COLOR)
    return drawn


def rules_plot(ranking: Ranking) -> Canvas:
    """Accuracy in % by rule, at equal cost: means with standard errors.

    Single trainings are small dots.
    """
    shown = [one for one in (ranking.baseline, *ranking.ranked) if one.mean is not None]
    positions = {one.entry.label: float(place) for place, one in enumerate(shown)}
    with canvas("rules", f"Accuracy of {len(shown)} networks by rule", COST_INCHES) as drawn:
        axes = drawn.axes
        axes.set(ylabel="proxy accuracy, %", xlim=(-0.6, max(1, len(shown)) - 0.4))
        axes.set_xticks(range(len(shown)), [printable(one.entry.label) for one in shown])
        dots = [(positions[one.entry.label] + 0.12, 100 * value) for one in shown for value in one.accuracies]
        if dots:
            axes.plot(*zip(*dots, strict=True), ".", color=GREY_COLOR, markersize=5, label="one training")
        _draw_means(axes, ranking, lambda one: positions[one.entry.label])
        drawn.points += network_points(shown, lambda one: positions[one.entry.label])
    return drawn


def network_points(networks: Iterable[RankedNetwork], across: Cost) -> list[Point]:
    """Interactive points of trained networks at their mean accuracy in %."""
    return [
        Point(across(one), 100 * one.mean, network_row_id(one.entry.label), _text(one)) for one in networks if one.mean
    ]


def network_row_id(label: str) -> str:
    """HTML id of a network's row in the table of all networks."""
    return f"network-{label.replace(' ', '_')}"


def _text(one: RankedNetwork) -> str:
    entry, cost = one.entry, one.entry.candidate.measures
    lines = [
        f"{entry.label}: {one.verdict}" if one.verdict else entry.label,
        f"{one.percent}% ({plural(len(one.accuracies), 'seed')})",
        f"{ms(entry.latency.latency_ms)} predicted, {cost['macs_m']:.1f} M MACs, {cost['params_m']:.2f} M parameters",
        f"x{entry.scaled.macs_growth:.2f} MACs and x{entry.latency_growth:.2f} latency over the baseline, "
        f"{entry.arch.resolution_px} px",
        *block_lines(" ".join(stage) for stage in entry.arch.strings),
    ]
    return "\n".join(lines)


def surface_plot(ranking: Ranking) -> Canvas:
    """Accuracy by alpha (x) and beta (y), with gamma in each cell.

    Gamma follows from the rule of equal cost. Of several gammas in one cell all are written, and the shade is that of
    the best: the lighter, the better. Triples without an accuracy, usually stopped early, are hatched.
    """
    cells: dict[tuple[float, float], list[RankedNetwork]] = {}
    for one in (*ranking.ranked, *(other for other in ranking.others if not other.entry.reason)):
        triple = one.entry.parameters
        cells.setdefault((triple["alpha"], triple["beta"]), []).append(one)
    with canvas("surface", f"Accuracy over alpha and beta of {len(ranking.ranked)} triples", _SURFACE_INCHES) as drawn:
        axes = drawn.axes
        axes.set(xlabel="alpha (depth)", ylabel="beta (width)")
        axes.grid(False)
        best = {place: max(one.mean or 0.0 for one in networks) for place, networks in cells.items()}
        alphas, betas = sorted({alpha for alpha, _ in cells}), sorted({beta for _, beta in cells})
        axes.set_xticks(range(len(alphas)), [f"{value:g}" for value in alphas])
        axes.set_yticks(range(len(betas)), [f"{value:g}" for value in betas])
        axes.set(xlim=(-0.6, len(alphas) - 0.4), ylim=(-0.6, len(betas) - 0.4))
        known = [value for value in best.values() if value]
        low, high = min(known, default=0.0), max(known, default=1.0)
        for (alpha, beta), networks in cells.items():
            share = (best[alpha, beta] - low) / (high - low) if high > low else 1.0
            lines = [line for one in networks for line in (_figure(one), f"gamma {one.entry.parameters['gamma']:g}")]
            place, untrained = (alphas.index(alpha), betas.index(beta)), all(one.mean is None for one in networks)
            marked = any(one.verdict == BEST for one in networks)
            draw_cell(axes, place, lines, None if untrained else share, marked=marked)
    return drawn


_STYLES: Final[dict[str, dict[str, Any]]] = {
    BEST: {"fmt": "*", "color": FRONT_COLOR, "markersize": 13},
    PEER: {"fmt": "o", "color": FRONT_COLOR, "markersize": 6},
    WORSE: {"fmt": "o", "color": GREY_COLOR, "markerfacecolor": "none", "markersize": 6},
    AT_CHANCE: {"fmt": "x", "color": GREY_COLOR, "markersize": 6},
}


def _draw_means(axes: Any, ranking: Ranking, across: Cost) -> None:
    """Draw means with errors, each verdict in its style, and the baseline."""
    for verdict, style in _STYLES.items():
        _errorbars(axes, [one for one in ranking.ranked if one.verdict == verdict], across, verdict, style)
    if ranking.baseline.mean is not None:
        style = {"fmt": "D", "color": BASELINE_COLOR, "markerfacecolor": "none", "markersize": 7}
        _errorbars(axes, [ranking.baseline], across, "baseline", style)


def _draw_steps(axes: Any, ranking: Ranking, cost: Cost) -> None:
    """Draw the path of stepwise expansion, and the candidates not chosen.

    The path leads from the baseline through the network that each step chose.
    """
    chosen = [step.candidates[step.axis] for step in ranking.steps]
    if not chosen or ranking.baseline.mean is None:
        return
    path = [(cost(one), 100 * (one.mean or 0.0)) for one in (ranking.baseline, *chosen)]
    axes.plot(
        *zip(*path, strict=True),
        linestyle=":",
        marker=".",
        color=TEXT_COLOR,
        linewidth=1,
        label="steps chosen",
        zorder=2,
    )
    rejected = [one for step in ranking.steps for axis, one in step.candidates.items() if axis != step.axis]
    points = [(cost(one), 100 * one.mean) for one in rejected if one.mean is not None]
    if points:
        axes.plot(*zip(*points, strict=True), "x", color=GREY_COLOR, markersize=6, label="steps not chosen", zorder=2)


def _errorbars(axes: Any, networks: Sequence[RankedNetwork], cost: Cost, label: str, style: dict[str, Any]) -> None:
    if not networks:
        return
    axes.errorbar(
        [cost(one) for one in networks],
        [100 * (one.mean or 0.0) for one in networks],
        yerr=[100 * (one.error or 0.0) for one in networks],
        label=label,
        linestyle="none",
        capsize=3,
        elinewidth=0.9,
        zorder=5 if label == BEST else 4,
        **style,
    )


def _is_labelled(one: RankedNetwork, count: int) -> bool:
    """Whether a point carries its label: with many points, only the important ones."""
    published = _PUBLISHED in (one.entry.label, *one.entry.same)
    return count <= _MAX_LABELLED or one.verdict == BEST or published


def _label(axes: Any, one: RankedNetwork, cost: Cost, *, offset: tuple[int, int], weight: str) -> None:
    point = (cost(one), 100 * (one.mean or 0.0))
    style = {"xytext": offset, "textcoords": "offset points", "fontsize": 10, "zorder": 6, "weight": weight}
    axes.annotate(printable(one.entry.label), point, color=TEXT_COLOR, **style)


def draw_cell(axes: Any, place: tuple[int, int], lines: Sequence[str], share: float | None, *, marked: bool) -> None:
    """Draw one cell: ``lines`` of text on a grey of ``share``.

    ``share``: 0 dark, 1 light; None: hatched.
    """
    from matplotlib.patches import Rectangle

    x, y = place
    shade = 1.0 if share is None else 0.25 + 0.7 * max(0.0, share)
    edge, line = (FRONT_COLOR, 2.5) if marked else (GREY_COLOR, 0.6)
    style: dict[str, Any] = {"facecolor": str(shade), "edgecolor": edge, "linewidth": line}
    if share is None:
        style = {"fill": False, "edgecolor": GREY_COLOR, "hatch": "//", "linewidth": line}
    axes.add_patch(Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, **style))
    ink, size = "black" if shade > 0.46 else "white", 10.5 if len(lines) <= 2 else 8.5
    box = {"facecolor": "white", "edgecolor": "none"} if share is None else None
    axes.text(x, y, "\n".join(lines), ha="center", va="center", fontsize=size, color=ink, linespacing=1.1, bbox=box)


def _figure(one: RankedNetwork) -> str:
    return one.verdict.partition(":")[0] if one.mean is None else f"{100 * one.mean:.1f}"
