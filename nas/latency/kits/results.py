"""Reading of a kit's results: the tool's output for each network, in files."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Final

import numpy as np

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, quoted
from nas.latency.device import Device
from nas.latency.kits.manifest import Kit, KitNetwork
from nas.latency.kits.runtimes import kit_runtime
from nas.latency.kits.tool_outputs import ToolReading, UnreadableOutput, read_stand_in, runs_on_gpu

RESULTS: Final = "results"  # folder
STAND_IN: Final = "bench.py"
_END: Final = "# end"
_MARKS: Final = ("# section ", _END)
_MAX_LINE: Final = 2000  # characters
_MAX_BYTES: Final = 1_000_000  # of one tool's output; a verbose trtexec writes 200,000
# Change of the reference network's latency within one measurement, beyond which that is no measurement.
_UNSTEADY: Final = 0.3
_AGREE: Final = 0.15  # two passes, relative: beyond it one was disturbed
_SAME_SESSION_S: Final = 900.0  # between the starts of two measurements; engines of TensorRT take minutes to build


@dataclass(frozen=True, slots=True, kw_only=True)
class KitNetworkResult:
    """Measured network.

    ``latencies_ms``: one for each pass, at the device's typical speed, without passes in which the device changed its
    speed. ``slowdowns``: the reference network's latency in each pass, relative to its median.
    """

    network: KitNetwork
    latencies_ms: tuple[float, ...]
    slowdowns: tuple[float, ...]

    @property
    def latency_ms(self) -> float:
        """Mean of the passes that agree with the fastest.

        Other programs only slow a network down.
        """
        fastest_ms = min(self.latencies_ms)
        return statistics.fmean(ms for ms in self.latencies_ms if ms <= fastest_ms * (1 + _AGREE))


@dataclass(frozen=True, slots=True, kw_only=True)
class KitResults:
    """Results of a kit on one device.

    ``networks``: those that can be used, in the order of the kit. ``missing``: not measured at all. ``failed``: the
    tool's last line for those on which it failed. ``unsteady``: left out, by how much the device's speed changed while
    they were measured. ``statistic``: what of the tool's output a latency is. ``noise``: relative error of one
    measurement, RMS, from the networks that were measured repeatedly; None without.
    """

    device: Device
    networks: tuple[KitNetworkResult, ...]
    missing: tuple[str, ...]
    failed: Mapping[str, str]
    unsteady: Mapping[str, float]
    statistic: str
    noise: float | None

    @property
    def pairs(self) -> list[tuple[ArchSpec, float]]:
        """Networks and their latencies in ms."""
        return [(one.network.spec, one.latency_ms) for one in self.networks]


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """Content of one result file: of one network in one pass."""

    network: KitNetwork
    tool: str
    time_s: float
    reference: ToolReading
    reading: ToolReading


@dataclass(frozen=True, slots=True, kw_only=True)
class _Steady:
    """A file's latency at the device's typical speed.

    ``change``: by which the reference network's latency changed meanwhile, relative.
    """

    file: _File
    latency_ms: float
    slowdown: float
    change: float


def read_results(kit: Kit, folder: Path) -> KitResults:
    """Results in ``folder``, of ``kit``.

    Raises: NasError naming file and line for output that cannot be read and measurements of another kit, and where
    nothing is measured yet.
    """
    files: list[_File] = []
    failed: dict[str, str] = {}
    for network in kit.networks:
        for turn in range(1, kit.settings.protocol.passes + 1):
            label = network.number if turn == 1 else f"{network.number}-{turn}"
            path = folder / f"{label}.txt"
            lines = _lines(path)
            if lines and lines[-1] == _END:  # else it is of a run that was interrupted, and run.sh repeats it
                files.append(_read(path, lines, kit, network, label))
            elif (said := _lines(path.with_suffix(".failed"))) is not None:
                failed[network.number] = next((line for line in reversed(said) if line.strip()), "")
    if not files:
        reason = f"; the tool failed: {quoted(next(iter(failed.values())))}" if failed else "; run run.sh there first"
        raise NasError(f"{folder}: no network is measured{reason}.")
    tools = sorted({one.tool for one in files})
    if len(tools) > 1:
        raise NasError(f"{folder}: measured by {' and '.join(tools)}, which differ; delete the results of one of them.")
    return _results(kit, folder, files, failed)


def _results(kit: Kit, folder: Path, files: Sequence[_File], failed: Mapping[str, str]) -> KitResults:
    networks, missing, unsteady = [], [], {}
    steady = _at_typical_speed(files)
    for network in kit.networks:
        own = [one for one in steady if one.file.network is network]
        used = [one for one in own if one.change <= _UNSTEADY]
        if used:
            networks.append(
                KitNetworkResult(
                    network=network,
                    latencies_ms=tuple(one.latency_ms for one in used),
                    slowdowns=tuple(one.slowdown for one in used),
                )
            )
        elif own:
            unsteady[network.number] = min(one.change for one in own)
        else:
            missing.append(network.number)
    return KitResults(
        device=_device(kit, folder, files),
        networks=tuple(networks),
        missing=tuple(missing),
        failed=failed,
        unsteady=unsteady,
        statistic=files[0].reading.statistic,
        noise=_noise(networks),
    )


def _noise(networks: Sequence[KitNetworkResult]) -> float | None:
    """Relative error of one measurement, RMS, by networks measured repeatedly."""
    spreads = [np.var(np.log(one.latencies_ms), ddof=1) for one in networks if len(one.latencies_ms) > 1]
    return math.sqrt(statistics.fmean(spreads)) if spreads else None


def _lines(path: Path) -> list[str] | None:
    """Lines of the file, without carriage returns; None if there is no file.

    Of a very long line the beginning: searching for a figure takes time with the square of its length.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NasError(f"{path}: cannot be read: {error.strerror}.") from None
    if len(data) > _MAX_BYTES:
        raise NasError(f"{path}: has more than {_MAX_BYTES:,} bytes, which no tool prints; delete it.")
    return [line[:_MAX_LINE] for line in data.decode(errors="replace").replace("\r", "").splitlines()]


def _read(path: Path, lines: Sequence[str], kit: Kit, network: KitNetwork, label: str) -> _File:
    header = dict(re.findall(r"^# (kit|network|tool|time) (.*)$", "\n".join(lines), re.MULTILINE))
    if header.get("kit") != kit.kit_id:
        raise NasError(
            f"{path}: measured with kit {quoted(header.get('kit'))}, but this is kit {kit.kit_id}; delete it."
        )
    if header.get("network") != label or not re.fullmatch(r"\d+", header.get("time", "")):
        raise NasError(f"{path}: its first lines are not those that run.sh writes; delete it, and run run.sh again.")
    tool = header.get("tool", "").rpartition("/")[2]
    return _File(
        network=network,
        tool=tool,
        time_s=float(header["time"]),
        reference=_reading(path, lines, "reference", kit, tool),
        reading=_reading(path, lines, "network", kit, tool),
    )


def _reading(path: Path, lines: Sequence[str], section: str, kit: Kit, tool: str) -> ToolReading:
    """Latency in a section of the file. Raises: NasError."""
    runtime = kit_runtime(kit.settings.runtime)
    start = lines.index(f"# section {section}") + 1 if f"# section {section}" in lines else len(lines)
    stops = (index for index in range(start, len(lines)) if lines[index].startswith(_MARKS))
    own = lines[start : next(stops, len(lines))]
    try:
        reading = read_stand_in(own) if tool == STAND_IN else runtime.read(own)
    except UnreadableOutput as error:
        raise NasError(
            f"{path}, line {start + 1}: {section}: {str(error).rstrip('.')}; delete the file, and run run.sh again."
        ) from None
    if runtime.name == "litert" and runs_on_gpu(own) and kit.settings.accelerator != "gpu":
        raise NasError(
            f"{path}, line {start + 1}: a GPU ran the network, in float16, but the kit is for {kit.settings.precision} "
            "on the CPU; write one with accelerator=gpu."
        )
    return reading


def _device(kit: Kit, folder: Path, files: Sequence[_File]) -> Device:
    """Device of the results, as run.sh described it."""
    fields = dict(line.partition(": ")[::2] for line in _lines(folder / "device.txt") or [])
    settings = kit.settings
    version = next((one.reading.version for one in files if one.reading.version), "")
    cores = fields.get("cores", "").strip()
    where = f" {fields['run_with'].strip()}" if fields.get("run_with", "").strip() else ""
    return Device(
        processor=fields.get("processor", "").strip() or "unknown processor",
        cores=int(cores) if re.fullmatch(r"[1-9]\d{0,5}", cores) else settings.protocol.threads,
        backend=settings.runtime,
        backend_version=f"{version} ({files[0].tool}{where})".strip(),
        threads=settings.protocol.threads,
        batch=settings.protocol.batch,
        precision=settings.precision,
        os=fields.get("os", "").strip() or "elsewhere",
    )


def _at_typical_speed(files: Sequence[_File]) -> list[_Steady]:
    """Latencies divided by the slowdown of the reference network.

    The reference network is measured before each network, so that the next one's is the one after it; ``bench.py``
    measures both in turns.
    """
    typical_ms = statistics.median(one.reference.latency_ms for one in files)
    in_time = sorted(files, key=lambda one: one.time_s)
    steady = []
    for one, later in zip_longest(in_time, in_time[1:]):
        before_ms = after_ms = one.reference.latency_ms
        if later and one.tool != STAND_IN and later.time_s - one.time_s < _SAME_SESSION_S:
            after_ms = later.reference.latency_ms
        slowdown = math.sqrt(before_ms * after_ms) / typical_ms
        steady.append(
            _Steady(
                file=one,
                latency_ms=one.reading.latency_ms / slowdown,
                slowdown=slowdown,
                change=max(before_ms, after_ms) / min(before_ms, after_ms) - 1,
            )
        )
    return steady
