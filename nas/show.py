"""``python -m nas.show arch=mixnet_s``: the layers of a network with shapes, cost and predicted latency."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

from nas import cli
from nas.arch import zoo
from nas.arch.checks import check_number
from nas.arch.complexity import LayerCost, layers
from nas.arch.spec import ArchSpec
from nas.networks import find_arch
from nas.predictors import find_predictor, short, totals

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
    cli.check_flags(config, "json")
    predictor = find_predictor(config)
    arch = replace(arch, resolution_px=side or arch.resolution_px)
    facts = totals(arch, predictor)
    if config["json"]:
        print(json.dumps(facts))
    else:
        from nas.latency.predictor import error_text

        _print_table(arch, layers(arch), dict(predictor.layer_ms(arch)), facts, error_text(predictor))
    return 0


def _print_table(
    arch: ArchSpec, rows: tuple[LayerCost, ...], times: dict[str, float], facts: dict[str, Any], error: str
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
            short(row.params),
            short(row.macs),
            short(row.activations),
            f"{times[row.path]:.3f}" if row.path in times else "",
        )
    console = Console()
    if not console.is_terminal:
        console.width = _PIPED_WIDTH  # paths in one piece
    console.print(table)
    console.print(
        f"{arch.name} at {facts['resolution_px']} px: {facts['params']:,} parameters, {facts['macs']:,} MACs, "
        f"{facts['activations']:,} activations, {facts['peak_memory_bytes'] / 1e6:.2f} MB peak activation memory",
        highlight=False,
        soft_wrap=True,
    )
    interval = f"90% interval {facts['latency_low_ms']:.2f} to {facts['latency_high_ms']:.2f}"
    console.print(
        f"latency {facts['latency_ms']:.2f} ms ({interval}) on {facts['device']}; {error}",
        highlight=False,
        soft_wrap=True,
    )


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
