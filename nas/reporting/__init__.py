"""How results are shown: plots, network drawings, pages, dashboard notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.reporting.html_page import template
    from nas.reporting.search_report import SearchReport, Winner, render_search_report, search_plot, winner_drawing
    from nas.reporting.svg import png_renderer, printable, standalone, to_png
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "html_page": ["template"],
            "search_report": ["SearchReport", "Winner", "render_search_report", "search_plot", "winner_drawing"],
            "svg": ["png_renderer", "printable", "standalone", "to_png"],
        },
    )

__all__ = [
    "SearchReport",
    "Winner",
    "png_renderer",
    "printable",
    "render_search_report",
    "search_plot",
    "standalone",
    "template",
    "to_png",
    "winner_drawing",
]
