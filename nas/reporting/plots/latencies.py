"""Plot of latencies: networks in several runtimes and precisions, with errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nas.core.formatting import plural
from nas.latency.bench.results import NO_REWRITE, BenchResult, form_label
from nas.reporting.plots.axes import (
    BASELINE_COLOR,
    EXPECTED_COLOR,
    FRONT_COLOR,
    GREY_COLOR,
    LIMIT_COLOR,
    canvas,
)

_COLORS: Final = (FRONT_COLOR, BASELINE_COLOR, EXPECTED_COLOR, LIMIT_COLOR, GREY_COLOR)
_MARKERS: Final = {"float32": "o", "int8": "s", "mixed": "D"}
_WIDTH: Final = 8.6
_ROW: Final = 0.42  # inches of a network
_STEP: Final = 0.09  # between the forms of one network, which would hide each other


def latencies_svg(networks: Sequence[BenchResult]) -> str:
    """SVG of latencies in ms with two standard errors, a line for each network.

    Colours are runtimes, markers precisions; rewritten forms are hollow.
    """
    forms = list(dict.fromkeys((row.runtime, row.precision, row.rewrite) for one in networks for row in one.rows))
    runtimes = list(dict.fromkeys(runtime for runtime, _, _ in forms))
    height = 1.4 + _ROW * len(networks) + 0.1 * len(forms)
    with canvas(
        "latencies", f"Latency of {plural(len(networks), 'network')} in {plural(len(forms), 'form')}", (_WIDTH, height)
    ) as drawn:
        for index, form in enumerate(forms):
            runtime, precision, rewrite = form
            found = [
                (row.latency_ms, line + (index - (len(forms) - 1) / 2) * _STEP, 2 * row.error_ms)
                for line, network in enumerate(networks)
                for row in network.rows
                if (row.runtime, row.precision, row.rewrite) == form
            ]
            across, down, errors = zip(*found, strict=True)
            color = _COLORS[runtimes.index(runtime) % len(_COLORS)]
            drawn.axes.errorbar(
                across,
                down,
                xerr=errors,
                fmt=_MARKERS[precision],
                color=color,
                markerfacecolor=color if rewrite == NO_REWRITE else "none",
                markersize=5,
                linewidth=1,
                label=form_label(*form),
            )
        drawn.axes.set(xlabel="latency, ms", xlim=(0, None), ylim=(len(networks) - 0.5, -0.5))
        drawn.axes.set_yticks(range(len(networks)), [network.name for network in networks])
    return drawn.svg
