"""Files of measured latencies that ``nas.calibrate device=measurements`` reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from nas.arch import zoo
from nas.arch.files import save_spec
from nas.core.files import write_text_atomically
from nas.latency.bench.plan import BenchForm, BenchNetwork
from nas.latency.bench.results import NO_REWRITE, BenchResult, BenchRow

_FOLDER: Final = "measurements"


def write_measurement_files(
    folder: Path, networks: Sequence[BenchNetwork], forms: Sequence[BenchForm], results: Sequence[BenchResult]
) -> list[Path]:
    """Write one CSV file for each form below ``folder``; returns their paths.

    ``results``: of ``networks`` in the same order, at one speed of the machine. Networks that are not published ones
    are written as spec files beside them.

    Raises: NasError.
    """
    place = folder / _FOLDER
    names = [_name(network, place) for network in networks]
    paths = []
    for form in forms:
        found = [
            (name, row, result.resolution_px)
            for name, result in zip(names, results, strict=True)
            for row in result.rows
            if row.label == str(form)
        ]
        if found:
            path = place / f"{str(form).replace(' ', '-')}.csv"
            lines = [f"{name},{row.latency_ms:.6g},{side_px}" for name, row, side_px in found]
            text = "\n".join([*_header(found[0][1]), "network,latency_ms,resolution_px", *lines, ""])
            write_text_atomically(path, text)
            paths.append(path)
    return paths


def _header(row: BenchRow) -> list[str]:
    """Lines that describe the device.

    The version says how it was measured: a calibration by these figures is stored beside that of other rewrites, and
    never in place of this machine's own, which knows many more networks.
    """
    device = row.device
    rewrite = "" if row.rewrite == NO_REWRITE else f", rewrite={row.rewrite}"
    return [
        f"# device: {device.processor}",
        f"# backend: {device.backend} {device.backend_version} (nas.bench{rewrite})",
        f"# cores: {device.cores}",
        f"# os: {device.os}",
        f"# threads: {device.threads}",
        f"# batch: {device.batch}",
        f"# precision: {row.precision}",
        "# unit: ms",
    ]


def _name(network: BenchNetwork, folder: Path) -> str:
    """What stands for ``network`` in the files: a published name, or a spec file."""
    arch = network.arch
    if arch.name in zoo.names():
        published = replace(zoo.get(arch.name), resolution_px=arch.resolution_px)
        if published.arch_id == arch.arch_id:
            return arch.name
    path = folder / f"{arch.arch_id}.yaml"
    save_spec(arch, path)
    return path.name
