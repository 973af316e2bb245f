"""``python -m nas.show arch=mixnet_s``: show the layers of a network.

It prints shapes, cost and latency of each layer, and can draw the network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nas.arch.complexity import layers
from nas.arch.spec import ArchSpec
from nas.cli import app, hydra_config
from nas.cli.help_layout import option_lines, paragraph
from nas.cli.resolve.networks import known_networks, resolve_arch
from nas.cli.resolve.predictors import network_totals, resolve_predictor, short_count
from nas.core.errors import NasError, quoted
from nas.core.files import write_bytes_atomically
from nas.core.streams import write_lines
from nas.core.validation import check_number

if TYPE_CHECKING:
    from nas.latency.predictors.base import LatencyPredictor

_KEYS: Final = ("arch", "resolution_px", "draw", "json", "runs_dir", "latency")
_DRAWINGS: Final = (".svg", ".png")
_COLUMNS: Final = ("layer", "kind", "in", "out", "params", "MACs", "acts", "ms")


def main() -> None:
    """Console entry point."""
    app.run_command(command, short=True)


def command(arguments: list[str]) -> int:
    """Print the layer table of a network, or its totals as JSON."""
    arguments = app.word_as_setting(arguments, "arch")
    if app.answer_option("show", arguments, _help):
        return 0
    config = hydra_config.compose_config("show", arguments)
    app.check_keys(config, _KEYS)
    arch = resolve_arch(config["arch"])
    side = config["resolution_px"]
    check_number("resolution_px", side, low=1, whole=True, optional=True)
    app.check_flags(config, "json")
    arch = replace(arch, resolution_px=side or arch.resolution_px)
    path = _drawing_path(config["draw"])
    predictor = resolve_predictor(config)
    facts = network_totals(arch, predictor)
    if path:
        _draw(arch, facts["latency_ms"], predictor, path)
    if config["json"]:
        write_lines(json.dumps(facts))
    else:
        _print_table(arch, facts, predictor)
        write_lines(f"drawn: {path}" if path else "add draw=network.svg to draw it")
    return 0


def _drawing_path(value: object) -> Path | None:
    """Check ``draw`` and return it as a path.

    Called before the latency is predicted, which may trigger a calibration.
    """
    if value is None:
        return None
    path = Path(value).expanduser() if isinstance(value, str) else Path()
    if path.suffix not in _DRAWINGS:
        raise NasError(f"draw {quoted(value)}: must be the path of a file that ends in {' or '.join(_DRAWINGS)}.")
    if path.is_dir():
        raise NasError(f"draw {quoted(value)}: is a folder; give the path of a file.")
    if path.suffix == ".png":
        from nas.reporting.svg import png_renderer

        png_renderer()
    return path


def _draw(arch: ArchSpec, latency_ms: float, predictor: LatencyPredictor, path: Path) -> None:
    from nas.reporting.network_drawing.draw import draw
    from nas.reporting.svg import standalone, to_png

    svg = standalone(draw(arch, latency_by_path=dict(predictor.layer_ms(arch)), total_ms=latency_ms))
    write_bytes_atomically(path, to_png(svg) if path.suffix == ".png" else svg.encode())


def _print_table(arch: ArchSpec, facts: Mapping[str, Any], predictor: LatencyPredictor) -> None:
    from nas.core.formatting import interval
    from nas.core.tables import print_table
    from nas.latency.predictors.base import error_text

    times = dict(predictor.layer_ms(arch))
    cells = []
    for row in layers(arch):
        kind = f"{row.kind} {row.kernel}x{row.kernel}" if row.kind in ("conv", "depthwise") else row.kind
        cells.append(
            (
                row.path,
                f"{kind}/{row.stride}" if row.stride > 1 else kind,
                f"{row.in_shape[0]}@{row.in_shape[1]}",
                f"{row.out_shape[0]}@{row.out_shape[1]}",
                short_count(row.params),
                short_count(row.macs),
                short_count(row.activations),
                f"{times[row.path]:.3f}" if row.path in times else "",
            )
        )
    cost = (
        f"{arch.name} at {facts['resolution_px']} px: {facts['params']:,} parameters, {facts['macs']:,} MACs, "
        f"{facts['activations']:,} activations, {facts['peak_memory_bytes'] / 1e6:.2f} MB peak activation memory"
    )
    ends = interval(facts["latency_low_ms"], facts["latency_high_ms"])
    known = f" (90% interval {ends})" if predictor.error else ""
    latency = f"latency {facts['latency_ms']:.2f} ms{known} on {facts['device']}; {error_text(predictor)}"
    print_table(_COLUMNS, cells, (cost, latency), left=2, dispensable=("acts", "in"))


def _help() -> str:
    settings = option_lines(
        "show",
        ("arch=NAME, or NAME", "mixnet_s, timm/fbnetc_100, or a spec file such as runs/my-study/winners/winner_1.yaml"),
        ("resolution_px=160", "input side in px"),
        ("draw=network.svg", "also draws it block by block, with each block's share of the latency; or .png"),
        ("json=true", 'one JSON object: {"params", "macs", "activations", "peak_memory_bytes", "latency_ms", ...}'),
        ("latency=", " | ".join(hydra_config.choices("latency"))),
        ("runs_dir=runs", "the folder of calibrations"),
    )
    return f"{paragraph(__doc__ or '')}\n\n{settings}\n\n{known_networks()}"


if __name__ == "__main__":
    main()
