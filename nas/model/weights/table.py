"""Table of initial weights: what was carried and what was drawn anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from nas.core.console import print_lines
from nas.core.formatting import shown_path
from nas.core.tables import print_table
from nas.model.weights.initial import InitialWeights
from nas.model.weights.report import CarriedLayer, CarriedPart, CarriedWeights

_COLUMNS: Final = ("part", "weights", "channels before", "channels", "kernels before", "kernels", "carried")


def print_initial_weights(initial: InitialWeights, console: Console | None = None) -> None:
    """Print where the weights came from, and a table of parts that differ.

    Random weights: nothing. Parts are blocks, stem and head; channels are those in, the most within, and those out.
    """
    if initial.carried is None:
        return
    console = console or Console()
    rows = [_row(part, layers) for part, layers in _parts(initial.carried) if part.change != "carried"]
    if rows:
        print_table(_COLUMNS, rows, [], left=2, dispensable=("kernels before", "kernels"), console=console)
    params = sum(layer.params for layer in initial.carried.layers)
    carried = sum(layer.carried_params for layer in initial.carried.layers)
    origin = initial.origin
    print_lines(
        console,
        f"weights of {origin['network']} ({shown_path(Path(origin['file']))}): {carried:,} of {params:,} parameters "
        f"carried, {params - carried:,} drawn anew",
        *initial.remarks,
    )


def _parts(carried: CarriedWeights) -> Iterator[tuple[CarriedPart, Sequence[CarriedLayer]]]:
    """(part, its layers) pairs in execution order."""
    return zip(carried.parts, carried.layers_by_part.values(), strict=True)


def _row(part: CarriedPart, layers: Sequence[CarriedLayer]) -> tuple[str, ...]:
    return (
        part.path,
        part.change,
        _channels([layer.source_channels for layer in layers if layer.source_channels]),
        _channels([layer.channels for layer in layers]),
        _kernels([layer.source_kernels for layer in layers]),
        _kernels([layer.kernels for layer in layers]),
        f"{part.carried_params / part.params:.0%}" if part.params else "",
    )


def _channels(ends: Sequence[tuple[int, int]]) -> str:
    """Channels in, the most within if there are more, and out: ``16-96-24``."""
    if not ends:
        return ""
    first, most, last = ends[0][0], max(max(pair) for pair in ends), ends[-1][1]
    return "-".join(map(str, (first, most, last) if most > max(first, last) else (first, last)))


def _kernels(sides: Sequence[tuple[int, ...]]) -> str:
    """Kernels of the layer with the largest: ``3.5.7``; empty for 1x1."""
    largest = max(sides, key=lambda one: max(one, default=0), default=())
    return ".".join(map(str, largest)) if max(largest, default=1) > 1 else ""
