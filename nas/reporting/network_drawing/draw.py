"""Block-by-block SVG drawing of a network.

After figure 5 of the MixConv paper (arXiv:1907.09595).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from nas.arch.complexity import complexity
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.core.formatting import ms, plural
from nas.reporting import svg as canvas
from nas.reporting.network_drawing.boxes import TIMES_SIGN, Bar, Box, Group, explanations, figure, owner, squared
from nas.reporting.svg import Element

# Lightness decreases in even steps with the kernel size, so that sizes differ in greyscale too (after ColorBrewer's
# YlGnBu); boxes without a convolution have no fill.
_FILLS: Final = {1: "#fbfbf7", 3: "#eae18a", 5: "#8ccfa0", 7: "#3fb0be", 9: "#2672a8", 11: "#253494", 13: "#171452"}
_LEAST_SHARE, _LARGEST_SHARE = (0xFD, 0xBE, 0x85), (0x7F, 0x27, 0x04)  # lightness is interpolated between them
_STRIDE_FILL: Final = "#5f3dc4"
_OUTLINE, _INK = "#333333", "#111111"

# All lengths are in user units, which are px at full size.
_MAX_WIDTH, _MIN_WIDTH, _MARGIN = 1100, 600, 8
_BOX, _GAP, _PAD, _BETWEEN = 58, 8, 6, 16
_TITLE, _HEADER, _SHARE, _STRIP = 50, 42, 35, 8
_LEGEND, _LEGEND_LINE, _LEGEND_CHAR = 18, 16, 5.7
_LABEL, _BAR_MIN, _BARS, _LINE = 19, 13, 78, 13
_LONGEST: Final = (_MAX_WIDTH - 2 * (_MARGIN + _PAD) + _GAP) // (_BOX + _GAP)  # boxes that fit in one row


class _Latency(NamedTuple):
    """Predicted latency in ms by box, in total, and of the slowest box."""

    by_box: Mapping[str, float]
    total_ms: float
    largest_ms: float

    def of(self, boxes: Sequence[Box]) -> float:
        return sum(self.by_box.get(box.path, 0.0) for box in boxes)


class _Style(NamedTuple):
    """Heights and latencies shared by all groups of one drawing.

    ``latency`` is None if no latencies are shown.
    """

    bars: float
    box: float
    group: float
    latency: _Latency | None


def draw(spec: ArchSpec, *, latency_by_path: Mapping[str, float] | None = None, total_ms: float | None = None) -> str:
    """Draw ``spec`` as an SVG, with the kernels of each block as bars.

    Stages run from left to right in as many rows as needed.

    A bar's height grows with the group's share of the channels, its colour is the kernel's size. ``latency_by_path``
    gives ms by operation path (``blocks.2.1.conv_dw.0``) and adds each block's share of the whole; they are scaled so
    that they sum to ``total_ms``, if that is given. Text and lines take the surrounding text colour.
    Raises: NasError for a latency that is negative or not finite.
    """
    groups = figure(spec, longest=_LONGEST)
    boxes = [box for group in groups for box in group.boxes]
    style = _style(boxes, _latency(latency_by_path, total_ms) if latency_by_path else None)
    rows = _rows(groups)
    width = max(_MIN_WIDTH, 2 * _MARGIN + max(_row_width(row) for row in rows))
    words = _legend_lines(boxes, width, style.latency)
    end = _TITLE + len(rows) * (style.group + _BETWEEN)
    svg = canvas.root(width, end + _LEGEND + _LEGEND_LINE * len(words), f"Network {spec.name}")
    _caption(svg, spec, style.latency)
    for index, row in enumerate(rows):
        _draw_row(svg, row, _TITLE + index * (style.group + _BETWEEN), style, first=index == 0)
    _draw_legend(svg, boxes, end + _LEGEND - 6, words)
    return canvas.to_string(svg)


def _latency(latency_by_path: Mapping[str, float], total_ms: float | None) -> _Latency:
    by_box: dict[str, float] = {}
    for path, value in latency_by_path.items():
        if not (math.isfinite(value) and value >= 0):
            raise NasError(f"latency_by_path {path!r}: {value!r} ms; a latency is finite and not negative.")
        by_box[owner(path)] = by_box.get(owner(path), 0.0) + value
    sum_ms = sum(by_box.values())
    scale = total_ms / sum_ms if total_ms and sum_ms else 1.0
    by_box = {path: scale * value for path, value in by_box.items()}
    return _Latency(by_box, sum(by_box.values()), max(by_box.values()))


def _style(boxes: Sequence[Box], latency: _Latency | None) -> _Style:
    bars = max(_BARS, _BAR_MIN * max(len(box.bars) for box in boxes))
    box = _LABEL + bars + _LINE * max(len(box.lines) for box in boxes) + 7
    return _Style(bars, box, _HEADER + box + _PAD + (_SHARE if latency else 0), latency)


def _width(group: Group) -> int:
    return 2 * _PAD + len(group.boxes) * (_BOX + _GAP) - _GAP


def _row_width(row: Sequence[Group]) -> int:
    return sum(_width(group) + _BETWEEN for group in row) - _BETWEEN


def _rows(groups: Sequence[Group]) -> list[list[Group]]:
    """Arrange ``groups`` in the fewest rows of at most ``_MAX_WIDTH``.

    Among those arrangements, the longest row is as short as possible.
    """
    limit = _MAX_WIDTH - 2 * _MARGIN
    fewest, widths = len(_fill(groups, limit)), [_width(group) + _BETWEEN for group in groups]
    sums = {total - _BETWEEN for start in range(len(widths)) for total in accumulate(widths[start:])}
    possible = sorted(total for total in sums if max(widths) - _BETWEEN <= total <= limit)
    return next(rows for total in possible if len(rows := _fill(groups, total)) == fewest)


def _fill(groups: Sequence[Group], limit: int) -> list[list[Group]]:
    """Fill rows greedily with ``groups``, each at most ``limit`` wide."""
    rows: list[list[Group]] = [[]]
    for group in groups:
        if rows[-1] and _row_width([*rows[-1], group]) > limit:
            rows.append([])
        rows[-1].append(group)
    return rows


def _caption(svg: Element, spec: ArchSpec, latency: _Latency | None) -> None:
    """Draw the name and the line of figures, and add a text description.

    The description serves screen readers.
    """
    cost = complexity(spec)
    facts = f"{squared(spec.resolution_px)}{TIMES_SIGN}{spec.in_channels} input · {plural(spec.depth, 'block')} · "
    facts += f"{cost.params / 1e6:.2f} M parameters · {cost.macs / 1e6:.1f} M MACs"
    if latency:
        facts += f" · {ms(latency.total_ms)} predicted"
    stages = (f"stage {index}: {', '.join(strings)}" for index, strings in enumerate(spec.strings))
    canvas.element(svg, "desc").text = f"{facts}. {'; '.join(stages)}."
    name = spec.name if len(spec.name) <= 40 else spec.name[:39] + "…"
    canvas.text(svg, _MARGIN, 18, name, size=14, bold=True, anchor="start")
    canvas.text(svg, _MARGIN, 36, facts, size=12, anchor="start")


def _draw_row(svg: Element, row: Sequence[Group], y: float, style: _Style, *, first: bool) -> None:
    x = float(_MARGIN)
    for group in row:
        if group.follows and group is not row[0]:
            canvas.arrow(svg, x - _BETWEEN + 2, x - 2, y + _HEADER + style.box / 2)
        elif group.follows and not first:
            canvas.arrow(svg, 0, x - 1, y + _HEADER + style.box / 2)
        _draw_group(svg, group, x, y, style)
        x += _width(group) + _BETWEEN


def _draw_group(svg: Element, group: Group, x: float, y: float, style: _Style) -> None:
    canvas.rect(svg, x, y, _width(group), style.group, rx=6, fill="#808080", opacity=0.12)
    centre, room = x + _width(group) / 2, _width(group) - 4
    canvas.text(svg, centre, y + 14, group.title, size=11.5, bold=True, room=room)
    canvas.text(svg, centre, y + 28, group.subtitle, size=11, room=room)
    for index, box in enumerate(group.boxes):
        left, top = x + _PAD + index * (_BOX + _GAP), y + _HEADER
        if index and box.follows:
            canvas.arrow(svg, left - _GAP, left - 0.5, top + style.box / 2)
        parent = canvas.element(svg, "g", {"data-path": box.path})
        _draw_box(parent, box, left, top, style)
        if style.latency:
            _draw_share(parent, box, style.latency, left, top + style.box + 5)
    if style.latency:
        canvas.text(svg, centre, y + style.group - 4, ms(style.latency.of(group.boxes)), size=10, bold=True, room=room)


def _draw_box(parent: Element, box: Box, x: float, y: float, style: _Style) -> None:
    canvas.element(parent, "title").text = box.note
    if box.shortcut:
        arc = f"M{x + 8:g} {y:g} C{x + 12:g} {y - 11:g} {x + _BOX - 12:g} {y - 11:g} {x + _BOX - 8:g} {y:g}"
        canvas.element(parent, "path", {"d": arc, "fill": "none", "stroke": "currentColor", "stroke-width": "1.2"})
    canvas.rect(parent, x, y, _BOX, style.box, rx=4, stroke="currentColor")
    room = 30 if box.stride > 1 else _BOX - 10
    canvas.text(parent, x + 4, y + 14, box.label, size=11.5, bold=True, anchor="start", room=room)
    if box.stride > 1:
        canvas.rect(parent, x + _BOX - 20, y + 3.5, 17, 13, rx=3, fill=_STRIDE_FILL)
        canvas.text(parent, x + _BOX - 11.5, y + 13.5, f"s{box.stride}", size=10, bold=True, fill="#ffffff")
    _draw_bars(parent, box, x + 4, y + _LABEL, style.bars)
    for index, line in enumerate(box.lines, start=1):
        base = y + _LABEL + style.bars + index * _LINE
        if line.startswith("SE "):
            canvas.rect(parent, x + 6, base - 10, _BOX - 12, 12.5, rx=6, stroke="currentColor")
        canvas.text(parent, x + _BOX / 2, base, line, size=10, bold=index == 1, room=_BOX - 14)


def _draw_bars(parent: Element, box: Box, x: float, y: float, height: float) -> None:
    """Draw one bar per kernel, its height by its share of the channels.

    Each bar is at least high enough for its text.
    """
    channels, spare = sum(bar.channels for bar in box.bars), height - _BAR_MIN * len(box.bars)
    for bar in box.bars:
        bar_height = _BAR_MIN + spare * bar.channels / channels
        rect = canvas.rect(parent, x, y, _BOX - 8, bar_height, fill=_fill_of(bar.reach_px), stroke=_outline(bar))
        canvas.element(rect, "title").text = f"{bar.text}: {bar.channels} of {channels} channels"
        ink = "#ffffff" if bar.reach_px >= 9 else _INK if bar.reach_px else ""
        canvas.text(parent, x + (_BOX - 8) / 2, y + bar_height / 2 + 3.5, bar.text, size=10, fill=ink, room=_BOX - 12)
        y += bar_height


def _fill_of(reach_px: int) -> str:
    return _FILLS.get(reach_px, _FILLS[13]) if reach_px else "none"


def _outline(bar: Bar) -> str:
    """Outline colour: dark around a fill, otherwise the page's text colour."""
    return _OUTLINE if bar.reach_px else "currentColor"


def _draw_share(parent: Element, box: Box, latency: _Latency, x: float, y: float) -> None:
    """Draw the box's latency as a strip relative to the slowest box.

    Length and shade grow with the latency; below it, the share of the total in %.
    """
    value_ms = latency.of([box])
    share = value_ms / latency.total_ms if latency.total_ms else 0.0
    size = value_ms / latency.largest_ms if latency.largest_ms else 0.0
    ends = zip(_LEAST_SHARE, _LARGEST_SHARE, strict=True)
    fill = "#" + "".join(f"{round(least + size * (largest - least)):02x}" for least, largest in ends)
    canvas.rect(parent, x, y, _BOX, _STRIP, fill="#ffffff", stroke=_OUTLINE)
    canvas.rect(parent, x, y, size * _BOX, _STRIP, fill=fill, stroke=_OUTLINE)
    canvas.text(parent, x + _BOX / 2, y + _STRIP + 10.5, f"{100 * share:.1f}%", size=10)


def _legend_lines(boxes: Sequence[Box], width: float, latency: _Latency | None) -> list[str]:
    """Legend text of the drawing, wrapped to ``width``."""
    strip = ["strip: latency relative to the slowest block, and in % of the total"] if latency else []
    lines = [""]
    for part in ["below a stage's name: feature map size", *explanations(boxes), *strip]:
        longer = f"{lines[-1]} · {part}" if lines[-1] else part
        if len(longer) * _LEGEND_CHAR > width - 2 * _MARGIN:
            lines.append(part)
        else:
            lines[-1] = longer
    return lines


def _draw_legend(svg: Element, boxes: Sequence[Box], y: float, words: Sequence[str]) -> None:
    x = float(_MARGIN)
    for reach_px in sorted({bar.reach_px for box in boxes for bar in box.bars} - {0}):
        canvas.rect(svg, x, y - 9, 11, 11, fill=_fill_of(reach_px), stroke=_OUTLINE)
        canvas.text(svg, x + 15, y, squared(reach_px), size=10.5, anchor="start")
        x += 25 + 6.4 * len(squared(reach_px))
    canvas.text(svg, x, y, "kernel sizes; bar height: share of the channels", size=10.5, anchor="start")
    for index, line in enumerate(words, start=1):
        canvas.text(svg, _MARGIN, y + index * _LEGEND_LINE, line, size=10.5, anchor="start")
