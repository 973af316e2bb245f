"""Writing of a kit: networks as files, and what measures them on a device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from importlib.resources import files as package_files
from pathlib import Path
from typing import Final

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.core.files import file_sha256, write_text_atomically
from nas.core.formatting import plural
from nas.core.progress import ProgressCallback
from nas.exporters.formats import Format, format_of
from nas.exporters.graph import inference_graph
from nas.latency.kits.manifest import MANIFEST, NETWORKS, REFERENCE, Kit, KitNetwork, KitSettings, kit_id_of, load_kit
from nas.latency.kits.runtimes import kit_runtime
from nas.latency.measure.timer import SPEED_PROBE
from nas.latency.random_networks import random_spec

NETWORK_LIST: Final = "networks.txt"  # what run.sh reads
RUN_SCRIPT: Final = "run.sh"
DEVICE_FILES: Final = (RUN_SCRIPT, "bench.py", "README.md")
_TEMPLATES: Final = package_files("nas.latency.kits") / "templates"

# A hundred networks have to suffice, and the published ones are typical. From measurements in ONNX Runtime 42 of these
# were predicted with an RMS error of 4% where four in five of a hundred were typical, and of 5% where it was three. In
# networks below these multiply-adds little but the runtime itself is measured.
_TYPICAL_SHARE: Final = 0.8
_LEAST_MACS: Final = 15e6


def kit_specs(count: int, seed: int) -> list[ArchSpec]:
    """Random networks that a kit measures."""
    return [random_spec(seed, index, typical_share=_TYPICAL_SHARE, least_macs=_LEAST_MACS) for index in range(count)]


def write_kit(
    settings: KitSettings,
    folder: Path,
    *,
    specs: Sequence[ArchSpec] | None = None,
    reference: ArchSpec | None = None,
    progress: ProgressCallback | None = None,
) -> Kit:
    """Write a kit into ``folder``, or complete one that was interrupted; returns it.

    ``specs``: the networks (default: random ones, ``settings.n`` of ``settings.seed``). ``reference``: the one that is
    measured beside each (default: the speed probe of ``measure/``, a millisecond on a phone). ``progress(done,
    total)``: called with counts of networks.

    Raises: NasError if the folder holds another kit, the format's package is missing, or a file cannot be written.
    """
    chosen = list(specs) if specs is not None else kit_specs(settings.n, settings.seed)
    reference = reference or SPEED_PROBE
    kit_id = kit_id_of(settings, reference, chosen)
    if _found_kit_id(folder) not in (None, kit_id):
        raise NasError(f"out {str(folder)!r}: holds another kit; choose another folder, or delete it.")
    with suppress(NasError):
        kit = load_kit(folder)
        if kit.kit_id == kit_id and all((folder / path).is_file() for path in kit.files):
            _write_device_files(folder, kit)  # may be those of another version
            return kit
    file_format = format_of(kit_runtime(settings.runtime).format)
    digits = max(3, len(str(len(chosen))))
    numbers = [REFERENCE, *(f"{index:0{digits}d}" for index in range(1, len(chosen) + 1))]
    _write_list(folder, kit_id, numbers, [reference, *chosen], file_format)
    networks = []
    for done, (number, spec) in enumerate(zip(numbers, [reference, *chosen], strict=True)):
        if progress:
            progress(done, len(numbers))
        networks.append(_write_network(folder, number, spec, file_format, settings.protocol.batch))
    kit = Kit(settings=settings, reference=networks[0], networks=tuple(networks[1:]))
    _write_device_files(folder, kit)
    kit.save(folder)
    return kit


def kit_bytes(folder: Path, kit: Kit) -> int:
    """Size of the networks of a kit, in bytes."""
    return sum((folder / path).stat().st_size for path in kit.files)


def _found_kit_id(folder: Path) -> str | None:
    """Id of the kit whose list of networks is in ``folder``; None if there is none."""
    try:
        first = (folder / NETWORK_LIST).read_text(encoding="utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError):
        return None
    return first.removeprefix("# kit ")


def _write_list(
    folder: Path, kit_id: str, numbers: Sequence[str], specs: Sequence[ArchSpec], file_format: Format
) -> None:
    """Write the list that run.sh reads: number, file, side of the images."""
    with suppress(FileNotFoundError):
        (folder / MANIFEST).unlink()  # written last: without it the kit is not complete
    rows = [
        f"{number} {_file(number, file_format)} {spec.resolution_px}"
        for number, spec in zip(numbers[1:], specs[1:], strict=True)
    ]
    write_text_atomically(folder / NETWORK_LIST, "\n".join([f"# kit {kit_id}", *rows]) + "\n")


def _file(number: str, file_format: Format) -> str:
    return f"{NETWORKS}/{number}{file_format.suffix}"


def _write_network(folder: Path, number: str, spec: ArchSpec, file_format: Format, batch: int) -> KitNetwork:
    try:
        paths = file_format.module().write_model(
            inference_graph(spec, batch=batch), folder / _file(number, file_format)
        )
    except NasError as error:
        raise NasError(f"network {number} ({spec.name}): {error}") from None
    return KitNetwork(
        number=number,
        spec=spec,
        files={path.relative_to(folder).as_posix(): file_sha256(path) for path in paths},
    )


def _write_device_files(folder: Path, kit: Kit) -> None:
    settings, protocol, runtime = kit.settings, kit.settings.protocol, kit_runtime(kit.settings.runtime)
    values = {
        "KIT": kit.kit_id,
        "RUNTIME": runtime.name,
        "TOOL": runtime.tool,
        "MODULES": " ".join(runtime.modules),
        "INSTALL": runtime.install,
        "PRECISION": settings.precision,
        "ACCELERATOR": settings.accelerator,
        "THREADS": protocol.threads,
        "THREADS_TEXT": plural(protocol.threads, "thread"),
        "BATCH_TEXT": f"batch {protocol.batch}",
        "RUNS": protocol.runs,
        "PASSES": protocol.passes,
        "PASSES_TEXT": plural(protocol.passes, "time"),
        "WARMUP": protocol.warmup_runs,
        "SECONDS": f"{protocol.seconds:g}",
        "WHOLE_SECONDS": math.ceil(protocol.seconds),
        "PAUSE_S": protocol.pause_s,
        "REFERENCE": kit.reference.file,
        "REFERENCE_PX": kit.reference.spec.resolution_px,
        "COUNT": len(kit.networks),
        "MEGABYTES": f"{kit_bytes(folder, kit) / 1e6:,.0f}",
    }
    for name in DEVICE_FILES:
        text = (_TEMPLATES / name).read_text(encoding="utf-8")
        if name != "bench.py":
            for key, value in values.items():
                text = text.replace(f"@{key}@", str(value))
        write_text_atomically(folder / name, text)
