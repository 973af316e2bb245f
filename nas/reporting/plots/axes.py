"""Matplotlib axes in the style of the reports, exported as SVG or PNG."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from nas.reporting.plots.hover_points import Point, markup

TEXT_COLOR: Final = "#010203"  # placeholder of the page's text colour; ``_finish`` replaces it by currentColor
FRONT_COLOR: Final = "#0b7285"
BASELINE_COLOR: Final = "#c2255c"
LIMIT_COLOR: Final = "#d9480f"
EXPECTED_COLOR: Final = "#6741d9"
GREY_COLOR: Final = "#868e96"
_PNG_DPI: Final = 150
_MOST_COLUMNS: Final = 3
_LEGEND_SHARE: Final = 0.92  # of the width: a browser's font may be wider than the one that is measured here
_LARGEST: Final = 1.4  # upper limit of page px per drawing unit
_SETTINGS: Final = {
    "svg.fonttype": "none",  # text stays text: it can be searched and read aloud
    "svg.hashsalt": "nas",  # ids are random without it
    "text.parse_math": False,  # a name with dollar signs is a name, not a formula
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.color": TEXT_COLOR,
    "axes.edgecolor": TEXT_COLOR,
    "axes.labelcolor": TEXT_COLOR,
    "xtick.color": TEXT_COLOR,
    "ytick.color": TEXT_COLOR,
    "font.size": 11.5,
}


class Canvas:
    """Axes to draw on, and the finished SVG after drawing.

    ``points``: data points with a tooltip.
    """

    def __init__(self, figure: Any, axes: Any) -> None:
        self.axes = axes
        self.points: list[Point] = []
        self.svg = ""
        self._figure = figure

    def png(self) -> bytes:
        """The finished drawing as PNG on white, for positions without SVG support."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        stream = io.BytesIO()
        FigureCanvasAgg(self._figure)
        self._figure.set_layout_engine(None)  # that of the SVG stays; to find one takes as long as to draw
        self._figure.savefig(stream, format="png", dpi=_PNG_DPI, facecolor="white", metadata={"Software": None})
        return stream.getvalue()


@contextmanager
def canvas(name: str, title: str, inches: tuple[float, float]) -> Iterator[Canvas]:
    """Empty axes in the style of the reports; labelled artists get a legend."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=inches, layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=GREY_COLOR, alpha=0.25, linewidth=0.6)
        drawn = Canvas(figure, axes)
        yield drawn
        if axes.get_legend_handles_labels()[1]:
            _draw_legend(figure)
        stream = io.StringIO()
        FigureCanvasSVG(figure).print_svg(stream, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
        drawn.svg = _finish(stream.getvalue(), name, title, inches).replace("</svg>", f"{_hits(drawn, figure)}</svg>")


def _draw_legend(figure: Any) -> None:
    """Legend below the axes, in as many columns as the figure is wide enough for."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer: Any = FigureCanvasAgg(figure).get_renderer()
    for columns in range(_MOST_COLUMNS, 0, -1):
        legend = figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=10)
        if columns == 1 or legend.get_window_extent(renderer).width <= _LEGEND_SHARE * figure.bbox.width:
            return
        legend.remove()


def _hits(drawn: Canvas, figure: Any) -> str:
    """SVG of hover targets for the points of a finished layout."""
    scale = 72 / figure.dpi
    height = 72 * figure.get_figheight()
    positions = [drawn.axes.transData.transform((point.x, point.y)) * scale for point in drawn.points]
    return markup((point, x, height - y) for point, (x, y) in zip(drawn.points, positions, strict=True))


def _finish(text: str, name: str, title: str, inches: tuple[float, float]) -> str:
    """Post-process matplotlib's output into an embeddable SVG element.

    It is as wide as its container, takes the page's text colour, and has a title and unique ids.
    """
    body = text[text.index("<svg") :]
    body = re.sub(r"<[^>]*>", lambda tag: re.sub(r'(\bid="|href="#|url\(#)', rf"\1{name}-", tag[0]), body)
    head, rest = body.split(">", 1)
    width, height = (72 * side for side in inches)
    for side, value in (("width", width), ("height", height)):
        head = head.replace(f' {side}="{value:g}pt"', "")
    head += f' width="100%" style="max-width:{_LARGEST * width:.0f}px" role="img" class="plot"'
    rest = rest.replace("*{stroke", ".plot *{stroke")  # matplotlib's rule would apply to the whole page
    return f"{head}><title>{title}</title>{rest}".replace(TEXT_COLOR, "currentColor").strip()
