"""Measurement of calibration networks, in chunks that are saved for resumption."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from nas.arch import zoo
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.core.files import write_text_atomically
from nas.core.parsing import MAX_JSON_CHARACTERS, parse_json, read_text
from nas.core.validation import check_number
from nas.exporters.rewriting.forms import Forms
from nas.latency.arrays import FloatArray
from nas.latency.device import MAX_MS, MIN_MS, Device
from nas.latency.kernels.ort_lowering import network_calls
from nas.latency.measure.backends import runner
from nas.latency.measure.kernel_match import KernelMatch, best_match, call_times_us
from nas.latency.measure.ort_profile import ProfiledNetwork
from nas.latency.measure.paired_timing import COLD_RUNS
from nas.latency.measure.system_load import DISTURBING_CORES, SystemLoad, is_busy
from nas.latency.measure.timer import time_runners
from nas.latency.random_networks import random_forms, random_network
from nas.latency.settings import REWRITTEN_BACKENDS
from nas.latency.speed import MachineSpeed

CHUNK_FORMAT: Final = "nas.calibration/4"
CHUNK_SIZE: Final = 20  # networks in memory at a time
HELD_OUT_EVERY: Final = 5
_ROUNDS, _RUNS = 4, 2
_TARGET_ERROR: Final = 0.04  # of the median network; beyond it, up to three times as many rounds are measured
_MIN_UNDISTURBED: Final = 200  # networks; with fewer, the least disturbed chunks are used too
# Published networks, which are always held out; the fit sees random ones (``nas.latency.random_networks``).
HELD_OUT_ZOO: Final = (
    "mobilenetv1_050", "mobilenetv2_100", "mnasnet_100", "semnasnet_100", "mobilenetv3_large_100",
    "mobilenetv3_small_100", "mixnet_s", "mixnet_m", "efficientnet_b0", "efficientnet_lite0",
)  # fmt: skip
_KERNEL_SAMPLE: Final = ("mixnet_s", 64)  # splits, concats and odd channels tell block sizes apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Measurements of networks that were interleaved, one tuple item per network.

    ``networks``: zoo names, or indices of random networks. ``latencies_ms``: None where the network was not measured as
    a whole. ``kernels_us``: times of the calls of ``nas.latency.kernels.ort_lowering``, in their order; None where the
    network was not profiled. ``probe_ms``: median duration of the speed probe in the same rounds; ``probes_ms``:
    its medians turn by turn. ``spent_s``: CPU seconds of the chunk. ``others``: mean number of cores that other
    programs used during it, None if unknown.
    """

    networks: tuple[str | int, ...]
    latencies_ms: tuple[float | None, ...]
    kernels_us: tuple[tuple[float, ...] | None, ...]
    probe_ms: float
    probes_ms: tuple[float, ...]
    spent_s: float
    others: float | None = None

    @property
    def is_published(self) -> bool:
        """Whether it holds published networks, rather than random ones."""
        return isinstance(self.networks[0], str)

    def at_speed(self, probe_ms: float) -> Chunk:
        """Chunk scaled to a speed at which the speed probe takes ``probe_ms``."""
        factor = probe_ms / self.probe_ms
        return replace(
            self,
            latencies_ms=tuple(ms if ms is None else ms * factor for ms in self.latencies_ms),
            kernels_us=tuple(
                times if times is None else tuple(us * factor for us in times) for times in self.kernels_us
            ),
            probe_ms=probe_ms,
        )


def is_held_out(network: str | int) -> bool:
    """Whether a network is held out from the fit."""
    return isinstance(network, str) or network % HELD_OUT_EVERY == 0


def spec_of(network: str | int, seed: int) -> ArchSpec:
    """Spec of a network of a chunk: a zoo name, or an index of random networks."""
    return zoo.get(network) if isinstance(network, str) else random_network(seed, network)


def rewrites_blocks(device: Device) -> bool:
    """Whether ``device`` runs exported files, whose blocks may be rewritten."""
    return device.backend in REWRITTEN_BACKENDS


class Collector:
    """Measures chunks on ``device`` and saves them in ``path`` (None: in memory only).

    ``lane``: channels of one block of ONNX Runtime's kernels, None where kernels are not timed one by one. ``seed``: of
    the random networks. ``may_take_longer``: whether networks of the next chunk may be measured in up to three times as
    many rounds, if the machine is unsteady.
    """

    def __init__(self, device: Device, seed: int, path: Path | None) -> None:
        self.may_take_longer = False
        self.device, self.seed, self._path = device, seed, path
        self.lane = _lane(device) if _can_time_kernels(device) else None
        self.chunks = self._load()

    @property
    def spent_s(self) -> float:
        """CPU seconds spent on all chunks, including those of interrupted runs."""
        return sum(chunk.spent_s for chunk in self.chunks)

    @property
    def networks(self) -> list[str | int]:
        """All networks that were measured, in order; published ones repeatedly."""
        return [network for chunk in self.chunks for network in chunk.networks]

    def forms_of(self, network: str | int) -> Forms | None:
        """Forms of the blocks of a network in which it is measured; None for plain ones."""
        if isinstance(network, str) or not rewrites_blocks(self.device):
            return None
        return random_forms(spec_of(network, self.seed), self.seed, network, self.lane)

    def measure(self, networks: Sequence[str | int]) -> None:
        """Measure one more chunk, and save it.

        Raises: NasError if a network does not run, or the clock jumps all the time; chunks before it are kept.
        """
        start, before = time.process_time(), SystemLoad.now()
        chunk = self._measure_chunk(networks)
        chunk = replace(chunk, spent_s=time.process_time() - start, others=SystemLoad.now().others_since(before))
        self.chunks.append(chunk)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(chunk)) + "\n")

    @property
    def others(self) -> float | None:
        """Mean number of cores that other programs used during the selected chunks.

        See ``at_common_speed``; None if unknown.
        """
        loads = [chunk.others for chunk in self._selected_chunks() if chunk.others is not None]
        return float(np.mean(loads)) if loads else None

    def at_common_speed(self) -> tuple[list[Chunk], MachineSpeed]:
        """Selected chunks, scaled to the typical speed of the machine, and that speed.

        Chunks that other programs disturbed are left out where enough networks remain without them.
        """
        chunks = self._selected_chunks()
        speed = MachineSpeed.of(
            [ms for chunk in chunks for ms in chunk.probes_ms], [ms for chunk in self.chunks for ms in chunk.probes_ms]
        )
        return [chunk.at_speed(speed.typical_ms) for chunk in chunks], speed

    def discard(self) -> None:
        """Delete the saved measurements: the calibration is complete."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _selected_chunks(self) -> list[Chunk]:
        """Chunks without much load of other programs, or else those with about the least.

        The published networks are among them at least twice: they tell the noise of a measurement. Of a calibration on
        a machine with more programs than cores, the quieter half gave predictions within 5% for 86% of 42 published
        networks, all of it for 71%.
        """
        by_load = sorted(self.chunks, key=lambda chunk: chunk.others or 0.0)
        counts = np.cumsum([len(chunk.networks) for chunk in by_load])
        enough = by_load[: int(np.searchsorted(counts, _MIN_UNDISTURBED)) + 1]
        most = max((chunk.others or 0.0 for chunk in enough), default=0.0)
        # Beside equally busy programs all chunks are alike.
        limit = most + DISTURBING_CORES if is_busy(most) else DISTURBING_CORES
        published = [chunk for chunk in by_load if chunk.is_published][:2]
        return [chunk for chunk in self.chunks if (chunk.others or 0.0) <= limit or chunk in published]

    def _measure_chunk(self, networks: Sequence[str | int]) -> Chunk:
        """Chunk of ``networks``, without its CPU seconds and the load of other programs."""
        device, options = self.device, {"threads": self.device.threads, "batch": self.device.batch, "seed": self.seed}
        specs = [spec_of(network, self.seed) for network in networks]
        forms = [self.forms_of(network) for network in networks]
        whole = [row for row, network in enumerate(networks) if self.lane is None or _timed_whole(network)]
        profiled = (
            [] if self.lane is None else [row for row, network in enumerate(networks) if not is_held_out(network)]
        )
        runners = [
            runner(specs[row], backend=device.backend, precision=device.precision, forms=forms[row], **options)
            for row in whole
        ]
        profiles = [ProfiledNetwork(specs[row], forms=forms[row], **options) for row in profiled]
        times = time_runners(
            [*runners, *(profile.run for profile in profiles)],
            device,
            rounds=_ROUNDS,
            runs=_RUNS,
            target_error=_TARGET_ERROR if self.may_take_longer else math.inf,
        )
        probe_ms = times.probe_s * 1e3
        latencies = dict(zip(whole, (times.ratios()[: len(whole)] * probe_ms).tolist(), strict=True))
        slowdowns = times.slowdowns()[:, len(whole) :]
        kernels = {
            row: tuple(
                call_times_us(
                    profile.finish(_of_every_run(slowdowns[:, index])),
                    list(network_calls(specs[row], self.lane or 1, forms[row])),
                )
            )
            for index, (row, profile) in enumerate(zip(profiled, profiles, strict=True))
        }
        return Chunk(
            networks=tuple(networks),
            latencies_ms=tuple(latencies.get(row) for row in range(len(networks))),
            kernels_us=tuple(kernels.get(row) for row in range(len(networks))),
            probe_ms=probe_ms,
            probes_ms=tuple(np.round(times.turn_probes_s() * 1e3, 6).tolist()),
            spent_s=0.0,
        )

    def _load(self) -> list[Chunk]:
        """Saved chunks of an interrupted calibration of the same device and seed.

        An incomplete last line is dropped.
        """
        if self._path is None:
            return []
        header = json.dumps(
            {"format": CHUNK_FORMAT, "device": self.device.to_dict(), "seed": self.seed, "lane": self.lane}
        )
        lines = _text(self._path).splitlines() if self._path.is_file() else []
        chunks = list(_chunks(lines[1:])) if lines and lines[0] == header else []
        # Rewritten, because a chunk appended to an incomplete line would be lost too.
        write_text_atomically(self._path, "".join(line + "\n" for line in [header, *lines[1 : 1 + len(chunks)]]))
        return chunks


def _of_every_run(slowdowns: FloatArray) -> list[float]:
    """Slowdowns of all runs of a network in ``time_runners``.

    ``slowdowns``: of the timed runs, shape (rounds, runs). NaN for the others: the very first run and the cold ones of
    every turn.
    """
    cold = np.full((len(slowdowns), COLD_RUNS), np.nan)
    return [float("nan"), *np.hstack([cold, slowdowns]).ravel().tolist()]


def _can_time_kernels(device: Device) -> bool:
    """Whether kernels can be timed one by one on ``device``.

    They can in ONNX Runtime with float32, whose memory layouts are known.
    """
    return device.backend == "onnxruntime" and device.precision == "float32"


def _timed_whole(network: str | int) -> bool:
    """Whether a network is measured as a whole, rather than only profiled.

    These are the held-out networks and as many others, to which profiled times are fitted.
    """
    return isinstance(network, str) or network % HELD_OUT_EVERY < 2


def _lane(device: Device) -> int | None:
    """Channels of one block of ONNX Runtime's kernels on this machine.

    None where kernels that ``ort_lowering`` predicts take less than half of the time.
    """
    lane, match = sample_kernels(device)
    return lane if match.is_known else None


def unknown_kernels(device: Device) -> str:
    """Say which kernels ran on this machine that ``ort_lowering`` does not predict.

    Empty if there are none, or if kernels are not timed one by one on ``device``.
    """
    if not _can_time_kernels(device):
        return ""
    _, match = sample_kernels(device)
    if not match.unknown_us:
        return ""
    name, resolution_px = _KERNEL_SAMPLE
    shares = {kind: time_us / sum(match.times_us) for kind, time_us in match.unknown_us.items()}
    kinds = ", ".join(f"{kind} {shares[kind]:.1%}" for kind in sorted(shares, key=lambda kind: -shares[kind]))
    effect = (
        "the time of each counts to the operation it belongs to"
        if match.is_known
        else f"together {1 - match.known_share:.0%}, more than half: whole operations are priced instead of kernels"
    )
    return f"unknown kernels, in shares of the time of {name} at {resolution_px} px: {kinds}; {effect}."


@lru_cache(maxsize=1)
def sample_kernels(device: Device) -> tuple[int, KernelMatch]:
    """Block size in channels, and the match of kernels that run on this machine.

    They are those of one small network, in its first run. Cached: a calibration asks before and after.
    """
    name, resolution_px = _KERNEL_SAMPLE
    spec = replace(zoo.get(name), resolution_px=resolution_px)
    profile = ProfiledNetwork(spec, threads=device.threads, batch=device.batch, seed=0)
    profile.run()
    return best_match(profile.finish([1.0]), spec)


def _text(path: Path) -> str:
    """Text of a file of chunks; empty if it cannot be read.

    It is written anew then.
    """
    try:
        return read_text(path, max_characters=MAX_JSON_CHARACTERS)
    except (NasError, UnicodeDecodeError):
        return ""


def _chunks(lines: Iterable[str]) -> Iterable[Chunk]:
    """Chunks of saved lines, up to the first line that cannot be parsed."""
    for line in lines:
        try:
            data = parse_json(line)
            kernels = tuple(times if times is None else tuple(times) for times in data["kernels_us"])
            networks, latencies = tuple(data["networks"]), tuple(data["latencies_ms"])
            parsed = {"networks": networks, "latencies_ms": latencies, "kernels_us": kernels}
            chunk = Chunk(**{**data, **parsed, "probes_ms": tuple(data["probes_ms"])})
            _check_chunk(chunk)
        except (KeyError, TypeError, ValueError):
            return
        yield chunk


def _check_chunk(chunk: Chunk) -> None:
    """Check the figures of a saved chunk. Raises: NasError."""
    if not 0 < len(chunk.networks) == len(chunk.latencies_ms) == len(chunk.kernels_us):
        raise NasError("networks, latencies_ms, kernels_us: must have one item per network, and one network.")
    for network in chunk.networks:
        if network not in zoo.names():
            check_number("networks", network, low=0, whole=True)
    for latency_ms in chunk.latencies_ms:
        check_number("latencies_ms", latency_ms, low=MIN_MS, high=MAX_MS, optional=True)
    for times in chunk.kernels_us:
        for time_us in times or ():
            check_number("kernels_us", time_us, low=0)
    if not chunk.probes_ms:
        raise NasError("probes_ms: must have at least one duration.")
    for probe_ms in (chunk.probe_ms, *chunk.probes_ms):
        check_number("probes_ms", probe_ms, low=MIN_MS, high=MAX_MS)
    check_number("spent_s", chunk.spent_s, low=0)
    check_number("others", chunk.others, low=0, optional=True)
