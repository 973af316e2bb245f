"""SVG shapes, written as an element tree so that the XML is well-formed."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from nas.core.errors import NasError

Element = ET.Element
_PIXELS: Final = 2  # PNG pixels per drawing unit


def root(width: float, height: float, title: str) -> Element:
    """Create an ``svg`` of ``width`` x ``height`` units that scales down.

    It fills its container up to that many px and has an accessible title.

    The custom property ``--full`` holds its width for pages that scroll it instead of shrinking it.
    """
    svg = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {width:g} {height:g}"})
    svg.attrib |= {
        "width": "100%",
        "style": f"max-width:{width:g}px;--full:{width:g}px",
        "role": "img",
        "fill": "currentColor",
    }
    svg.attrib |= {"font-family": "system-ui, 'DejaVu Sans', sans-serif"}
    element(svg, "title").text = printable(title)
    return svg


def to_string(svg: Element) -> str:
    """Serialize ``svg`` without an XML declaration."""
    return ET.tostring(svg, encoding="unicode")


def standalone(svg: str) -> str:
    """Make ``svg`` independent of a page: dark on white, with a fixed size."""
    head, body = svg.split(">", 1)
    size = re.sub(r'.*viewBox="0 0 ([\d.]+) ([\d.]+)".*', r' width="\1" height="\2"', head, flags=re.DOTALL)
    head = head.replace(' width="100%"', f'{size} color="#111111"')
    return f'{head}><rect width="100%" height="100%" fill="#ffffff"/>{body}'


def png_renderer() -> Callable[..., Any]:
    """The SVG rasterizer. Raises: NasError where resvg-py is not installed."""
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        raise NasError("PNG output needs resvg-py: run pip install 'nas[png]', or use the suffix .svg.") from None
    return svg_to_bytes


def to_png(svg: str) -> bytes:
    """Render ``svg``, made ``standalone``, as PNG bytes.

    With matplotlib's font where the system has none.

    Raises: NasError as ``png_renderer``.
    """
    render = png_renderer()
    import matplotlib

    fonts = str(Path(matplotlib.get_data_path(), "fonts", "ttf"))
    return bytes(render(svg_string=svg, zoom=_PIXELS, font_dirs=[fonts], sans_serif_family="DejaVu Sans"))


def element(parent: Element, tag: str, attributes: Mapping[str, str] | None = None) -> Element:
    """Add a child element to ``parent``."""
    return ET.SubElement(parent, tag, dict(attributes or {}))


def rect(
    parent: Element, x: float, y: float, width: float, height: float, *, rx: float = 0, fill: str = "none",
    stroke: str = "", opacity: float = 1,
) -> Element:  # fmt: skip
    """Add a rectangle; ``opacity`` applies to the fill."""
    numbers = {"x": x, "y": y, "width": width, "height": height}
    numbers |= ({"rx": rx} if rx else {}) | ({"fill-opacity": opacity} if opacity != 1 else {})
    attributes = {key: f"{value:.6g}" for key, value in numbers.items()}
    return element(parent, "rect", attributes | {"fill": fill} | ({"stroke": stroke} if stroke else {}))


def text(
    parent: Element, x: float, y: float, content: str, *, size: float, bold: bool = False, anchor: str = "middle",
    fill: str = "", room: float = math.inf,
) -> Element:  # fmt: skip
    """Add text at its baseline.

    It is squeezed where its estimated width (0.6 em a character) exceeds ``room``.
    """
    attributes = {"x": f"{x:.6g}", "y": f"{y:.6g}", "font-size": f"{size:g}"}
    attributes |= {"text-anchor": anchor} if anchor != "start" else {}
    attributes |= ({"font-weight": "700"} if bold else {}) | ({"fill": fill} if fill else {})
    if 0.6 * size * len(content) > room:
        attributes |= {"textLength": f"{room:g}", "lengthAdjust": "spacingAndGlyphs"}
    child = element(parent, "text", attributes)
    child.text = printable(content)
    return child


def arrow(parent: Element, x: float, tip: float, y: float) -> None:
    """Add a horizontal arrow from ``x`` to ``tip``."""
    element(parent, "path", {"d": f"M{x:g} {y:g}H{tip - 3:g}", "stroke": "currentColor", "fill": "none"})
    element(parent, "path", {"d": f"M{tip:g} {y:g}l-5 -3v6z"})


def printable(content: str) -> str:
    """``content`` without control characters, which XML does not allow."""
    return "".join(char for char in content if char.isprintable())
