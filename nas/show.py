"""``python -m nas.show arch=mixnet_s``: show the parts of a network.

It prints shapes, cost and latency of each stage, block or operation, and can draw the network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nas.arch.heads.attach import backbone, dense_network
from nas.arch.spec import TASKS, ArchSpec
from nas.cli import app, hydra_config
from nas.cli.help_layout import option_lines, paragraph
from nas.cli.layer_rows import LEVELS, network_rows, row_cells
from nas.cli.resolve.networks import known_networks, resolve_arch
from nas.cli.resolve.predictors import latency_remarks, network_totals, resolve_predictor
from nas.core.errors import NasError, quoted, unknown_choice
from nas.core.files import write_bytes_atomically
from nas.core.streams import write_lines
from nas.core.validation import check_number

if TYPE_CHECKING:
    from nas.latency.predictors.base import LatencyPredictor

_KEYS: Final = ("arch", "task", "classes", "resolution_px", "rows", "draw", "json", "runs_dir", "latency")
# Of COCO and Cityscapes, with which detectors and segmenters of this kind are published.
_CLASSES: Final = {"detection": 80, "segmentation": 19}
_ROW_NAMES: Final = dict(zip(LEVELS, ("stage", "block", "layer"), strict=True))
_DRAWINGS: Final = (".svg", ".png")
_COLUMNS: Final = ("kind", "in", "out", "params", "MACs", "acts", "ms")


def main() -> None:
    """Console entry point."""
    app.run_command(command, short=True)


def command(arguments: list[str]) -> int:
    """Print a network's stages, blocks or operations, and its totals."""
    arguments = app.word_as_setting(arguments, "arch")
    if app.answer_option("show", arguments, _help):
        return 0
    config = hydra_config.compose_config("show", arguments)
    app.check_keys(config, _KEYS)
    arch = resolve_arch(config["arch"])
    side = config["resolution_px"]
    check_number("resolution_px", side, low=1, whole=True, optional=True)
    app.check_flags(config, "json")
    level = config["rows"]
    if level not in LEVELS:
        raise unknown_choice("rows", level, LEVELS)
    arch = _for_task(replace(arch, resolution_px=side or arch.resolution_px), config["task"], config["classes"])
    path = _drawing_path(config["draw"])
    predictor = resolve_predictor(config)
    facts, times = network_totals(arch, predictor), dict(predictor.layer_ms(arch))
    remarks = latency_remarks(arch, predictor)
    rows = network_rows(arch, level, times)
    if path:
        _draw(arch, facts["latency_ms"], times, path)
    if config["json"]:
        write_lines(json.dumps({**facts, "remarks": list(remarks), "rows": rows}))
    else:
        _print_table(arch, level, rows, facts, predictor, remarks)
        finer = " or ".join(f"rows={name}" for name in LEVELS[LEVELS.index(level) + 1 :])
        more = ([f"{finer} for more rows"] if finer else []) + ([] if path else ["draw=network.svg to draw it"])
        write_lines(*([f"drawn: {path}"] if path else []), *([f"add {', '.join(more)}"] if more else []))
    return 0


def _for_task(arch: ArchSpec, task: object, classes: Any) -> ArchSpec:
    """The network with the head of a task; as it is without one. Raises: NasError."""
    check_number("classes", classes, low=1, whole=True, optional=True)
    if task is None:
        return arch if classes is None else replace(arch, classes=classes)
    if task not in TASKS:
        raise unknown_choice("task", task, TASKS)
    if task == "classification":
        return replace(backbone(arch), classes=classes or arch.classes)
    return dense_network(arch, str(task), classes or _CLASSES[str(task)])


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


def _draw(arch: ArchSpec, latency_ms: float, times: Mapping[str, float], path: Path) -> None:
    from nas.reporting.network_drawing.draw import draw
    from nas.reporting.svg import standalone, to_png

    svg = standalone(draw(arch, latency_by_path=times, total_ms=latency_ms))
    write_bytes_atomically(path, to_png(svg) if path.suffix == ".png" else svg.encode())


def _print_table(
    arch: ArchSpec,
    level: str,
    rows: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any],
    predictor: LatencyPredictor,
    remarks: Sequence[str],
) -> None:
    from nas.core.formatting import interval
    from nas.core.tables import print_table
    from nas.latency.predictors.base import error_text, forms_remark
    from nas.latency.speed import speed_of

    cost = (
        f"{arch.name} at {facts['resolution_px']} px: {facts['params']:,} parameters, {facts['macs']:,} MACs, "
        f"{facts['activations']:,} activations, {facts['peak_memory_bytes'] / 1e6:.2f} MB peak activation memory"
    )
    ends = interval(facts["latency_low_ms"], facts["latency_high_ms"])
    known = f" (90% interval {ends})" if predictor.error else ""
    device = f"{facts['device']}{forms_remark(predictor)}"
    latency = f"latency {facts['latency_ms']:.2f} ms{known} on {device}; {error_text(predictor)}"
    speed = speed_of(predictor)
    columns = (_ROW_NAMES[level], *_COLUMNS)
    print_table(
        columns,
        list(map(row_cells, rows)),
        (cost, latency, *([str(speed)] if speed else []), *remarks),
        left=2,
        dispensable=("acts", "in"),
    )


def _help() -> str:
    settings = option_lines(
        "show",
        ("arch=NAME, or NAME", "mixnet_s, timm/fbnetc_100, or a spec file such as runs/my-study/winners/winner_1.yaml"),
        ("task=" + "|".join(TASKS), "the network with the head of a detector (SSDLite) or segmenter (LR-ASPP)"),
        ("classes=20", "number of classes; of a task, those of COCO (80) or Cityscapes (19) unless given"),
        ("resolution_px=160", "input side in px"),
        (f"rows={'|'.join(LEVELS)}", "a row for each stage (the default), block or operation"),
        ("draw=network.svg", "also draws it block by block, with each block's share of the latency; or .png"),
        (
            "json=true",
            'one JSON object: {"params", "macs", "activations", "peak_memory_bytes", "latency_ms", "rows", ...}',
        ),
        ("latency=", " | ".join(hydra_config.choices("latency"))),
        ("runs_dir=runs", "the folder of calibrations"),
    )
    return f"{paragraph(__doc__ or '')}\n\n{settings}\n\n{known_networks()}"


if __name__ == "__main__":
    main()
