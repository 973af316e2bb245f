"""``python -m nas.show arch=mixnet_s``: the layers of a network with shapes, cost and predicted latency."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nas import cli
from nas.arch import zoo
from nas.arch.checks import check_number
from nas.arch.complexity import LayerCost, complexity, layers
from nas.arch.errors import NasError
from nas.arch.plain import from_mapping
from nas.arch.spec import ArchSpec
from nas.networks import find_arch

if TYPE_CHECKING:
    from nas.latency.predictor import LatencyPredictor
    from nas.latency.settings import LatencySettings

_KEYS: Final = ("arch", "resolution_px", "json", "runs_dir", "latency")
_PIPED_WIDTH: Final = 160


def main() -> None:
    """Console entry point."""
    cli.run(command)


def command(arguments: list[str]) -> int:
    """Print the layer table of a network, or its totals as JSON."""
    if cli.answered("show", arguments, _help):
        return 0
    config = cli.compose_config("show", arguments)
    cli.check_keys(config, _KEYS)
    arch = find_arch(config["arch"])
    side = config["resolution_px"]
    check_number("resolution_px", side, low=1, whole=True, optional=True)
    if not isinstance(config["json"], bool):
        raise NasError(f"json {config['json']!r}: must be true or false.")
    from nas.latency.settings import LatencySettings

    settings, folder = from_mapping(LatencySettings, config["latency"], "latency"), cli.runs_dir(config)
    if settings.backend != "macs":
        cli.check_writable(folder)
    predictor = _predictor(settings, folder)
    arch = replace(arch, resolution_px=side or arch.resolution_px)
    totals = _totals(arch, predictor)
    if config["json"]:
        print(json.dumps(totals))
    else:
        from nas.latency.predictor import error_text

        _print_table(arch, layers(arch), dict(predictor.layer_ms(arch)), totals, error_text(predictor))
    return 0


def _totals(arch: ArchSpec, predictor: LatencyPredictor) -> dict[str, Any]:
    cost, estimate = complexity(arch), predictor.predict(arch)
    return {
        "name": arch.name,
        "arch_id": arch.arch_id,
        "resolution_px": arch.resolution_px,
        **asdict(cost),
        "latency_ms": estimate.latency_ms,
        "latency_low_ms": estimate.low_ms,
        "latency_high_ms": estimate.high_ms,
        "device": str(predictor.device),
    }


def _predictor(settings: LatencySettings, runs_dir: Path) -> LatencyPredictor:
    """This device's predictor, calibrated now if it never was; what it says goes to stderr, the answer to stdout."""
    from rich.console import Console

    from nas.latency.store import load_or_calibrate
    from nas.study.progress import bar

    with bar(Console(stderr=True), f"calibrating latency ({settings.backend}, once per device)") as progress:
        return load_or_calibrate(settings, runs_dir, progress=progress)


def _print_table(
    arch: ArchSpec, rows: tuple[LayerCost, ...], times: dict[str, float], totals: dict[str, Any], error: str
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("layer", "kind", "in", "out", "params", "MACs", "acts", "ms"):
        left = column in ("layer", "kind")
        table.add_column(column, justify="left" if left else "right", no_wrap=column != "layer", overflow="fold")
    for row in rows:
        kind = f"{row.kind} {row.kernel}x{row.kernel}" if row.kind in ("conv", "depthwise") else row.kind
        table.add_row(
            row.path,
            f"{kind}/{row.stride}" if row.stride > 1 else kind,
            f"{row.in_shape[0]}@{row.in_shape[1]}",
            f"{row.out_shape[0]}@{row.out_shape[1]}",
            _short(row.params),
            _short(row.macs),
            _short(row.activations),
            f"{times[row.path]:.3f}" if row.path in times else "",
        )
    console = Console()
    if not console.is_terminal:
        console.width = _PIPED_WIDTH  # paths in one piece
    console.print(table)
    console.print(
        f"{arch.name} at {totals['resolution_px']} px: {totals['params']:,} parameters, {totals['macs']:,} MACs, "
        f"{totals['activations']:,} activations, {totals['peak_memory_bytes'] / 1e6:.2f} MB peak activation memory",
        highlight=False,
        soft_wrap=True,
    )
    interval = f"90% interval {totals['latency_low_ms']:.2f} to {totals['latency_high_ms']:.2f}"
    console.print(
        f"latency {totals['latency_ms']:.2f} ms ({interval}) on {totals['device']}; {error}",
        highlight=False,
        soft_wrap=True,
    )


def _short(value: int) -> str:
    """Counts in three or four digits: 239.2M."""
    if not value:
        return ""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return str(value)


def _help() -> str:
    return f"""{cli.plain(__doc__)}

  arch=mixnet_s | arch=timm/fbnetc_100 | arch=runs/my-study/winners/winner_1.yaml
  resolution_px=160    another input side
  json=true            {{"params", "macs", "activations", "peak_memory_bytes", "latency_ms", ...}} as one JSON object
  latency={"|".join(cli.choices("latency"))}

Networks: {", ".join(zoo.names())};
timm/NAME for any of timm's EfficientNet and MobileNet families"""


if __name__ == "__main__":
    main()
