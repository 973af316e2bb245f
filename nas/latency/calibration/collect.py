"""Measurement of calibration networks, in chunks that are saved for resumption."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from nas.arch import zoo
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.core.files import write_text_atomically
from nas.core.parsing import MAX_JSON_CHARACTERS, parse_json, read_text
from nas.core.validation import check_number
from nas.latency.device import Device
from nas.latency.kernels.ort_lowering import network_calls
from nas.latency.measure.backends import runner
from nas.latency.measure.ort_profile import ProfiledNetwork, call_times_us, detect_lane
from nas.latency.measure.system_load import SystemLoad, is_busy
from nas.latency.measure.timer import COLD_RUNS, measure_runners
from nas.latency.random_networks import random_spec

CHUNK_FORMAT: Final = "nas.calibration/1"
CHUNK_SIZE: Final = 20  # networks in memory at a time
HELD_OUT_EVERY: Final = 5
# Short rounds: a burst of work of another process then affects few runs of each network.
_ROUNDS, _RUNS = 3, 3
_ATTEMPTS: Final = 3
_MIN_UNDISTURBED: Final = 200  # networks; with fewer, disturbed chunks are used too
# Published networks, which are always held out; the fit sees random ones (``nas.latency.random_networks``).
HELD_OUT_ZOO: Final = (
    "mobilenetv1_050", "mobilenetv2_100", "mnasnet_100", "semnasnet_100", "mobilenetv3_large_100",
    "mobilenetv3_small_100", "mixnet_s", "mixnet_m", "efficientnet_b0", "efficientnet_lite0",
)  # fmt: skip
_PROBE: Final = ("mixnet_s", 64)  # has every kind of kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Measurements of networks that were interleaved, one tuple item per network.

    ``networks``: zoo names, or indices of random networks. ``latencies_ms``: None where the network was not measured as
    a whole. ``kernels_us``: times of the calls of ``nas.latency.kernels.ort_lowering``, in their order; None where the
    network was not profiled. ``reference_ms``: latency of the reference network in the same rounds. ``spent_s``: CPU
    seconds of the chunk. ``others``: mean number of cores that other programs used during it, None if unknown.
    """

    networks: tuple[str | int, ...]
    latencies_ms: tuple[float | None, ...]
    kernels_us: tuple[tuple[float, ...] | None, ...]
    reference_ms: float
    spent_s: float
    others: float | None = None

    def at_speed(self, reference_ms: float) -> Chunk:
        """Chunk scaled to a speed at which the reference takes ``reference_ms``."""
        factor = reference_ms / self.reference_ms
        return replace(
            self,
            latencies_ms=tuple(ms if ms is None else ms * factor for ms in self.latencies_ms),
            kernels_us=tuple(
                times if times is None else tuple(us * factor for us in times) for times in self.kernels_us
            ),
            reference_ms=reference_ms,
        )


def is_held_out(network: str | int) -> bool:
    """Whether a network is held out from the fit."""
    return isinstance(network, str) or network % HELD_OUT_EVERY == 0


def spec_of(network: str | int, seed: int) -> ArchSpec:
    """Spec of a network of a chunk: a zoo name, or an index of random networks."""
    return zoo.get(network) if isinstance(network, str) else random_spec(seed, network)


class Collector:
    """Measures chunks on ``device`` and saves them in ``path`` (None: in memory only).

    ``lane``: channels of one block of ONNX Runtime's kernels, None where kernels are not timed one by one. ``seed``: of
    the random networks.
    """

    def __init__(self, device: Device, seed: int, path: Path | None) -> None:
        self.device, self.seed, self._path = device, seed, path
        self.lane = _lane(device) if _can_time_kernels(device) else None
        self.chunks = self._load()

    @property
    def spent_s(self) -> float:
        """CPU seconds spent on all chunks, including those of interrupted runs."""
        return sum(chunk.spent_s for chunk in self.chunks)

    @property
    def networks(self) -> list[str | int]:
        """All networks that were measured."""
        return [network for chunk in self.chunks for network in chunk.networks]

    def measure(self, networks: Sequence[str | int]) -> None:
        """Measure one more chunk, and save it.

        Raises: NasError if the speed of the machine is unstable in each of ``_ATTEMPTS`` attempts.
        """
        start, before = time.process_time(), SystemLoad.now()
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                chunk = self._measure_chunk(networks)
                break
            except NasError:
                if attempt == _ATTEMPTS:
                    raise
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

    def at_common_speed(self) -> tuple[list[Chunk], float]:
        """Selected chunks, scaled to one speed, and the reference's latency in ms at that.

        Chunks that other programs disturbed are left out if enough networks remain without them.
        """
        chunks = self._selected_chunks()
        reference_ms = float(np.median([chunk.reference_ms for chunk in chunks]))
        return [chunk.at_speed(reference_ms) for chunk in chunks], reference_ms

    def discard(self) -> None:
        """Delete the saved measurements: the calibration is complete."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _selected_chunks(self) -> list[Chunk]:
        """Chunks without much load of other programs, or all if these are too few."""
        quiet = [chunk for chunk in self.chunks if not is_busy(chunk.others)]
        return quiet if sum(len(chunk.networks) for chunk in quiet) >= _MIN_UNDISTURBED else self.chunks

    def _measure_chunk(self, networks: Sequence[str | int]) -> Chunk:
        """Chunk of ``networks``, without its CPU seconds and the load of other programs."""
        device, options = self.device, {"threads": self.device.threads, "batch": self.device.batch, "seed": self.seed}
        specs = [spec_of(network, self.seed) for network in networks]
        whole = [row for row, network in enumerate(networks) if self.lane is None or _timed_whole(network)]
        profiled = (
            [] if self.lane is None else [row for row, network in enumerate(networks) if not is_held_out(network)]
        )
        runners = [runner(specs[row], backend=device.backend, precision=device.precision, **options) for row in whole]
        profiles = [ProfiledNetwork(specs[row], **options) for row in profiled]
        measured = measure_runners(
            [*runners, *(profile.run for profile in profiles)], device, rounds=_ROUNDS, runs=_RUNS
        )
        latencies = {row: measured[i].latency_ms for i, row in enumerate(whole)}
        kernels = {
            row: tuple(call_times_us(profile.finish(counted=_COUNTED), list(network_calls(specs[row], self.lane or 1))))
            for row, profile in zip(profiled, profiles, strict=True)
        }
        return Chunk(
            networks=tuple(networks),
            latencies_ms=tuple(latencies.get(row) for row in range(len(networks))),
            kernels_us=tuple(kernels.get(row) for row in range(len(networks))),
            reference_ms=measured[0].reference_ms or 0.0,
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


# Which runs of ``measure_runners`` count: neither the very first one nor the cold ones of every round.
_COUNTED: Final = (False, *((*(False,) * COLD_RUNS, *(True,) * _RUNS) * _ROUNDS))


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

    None where it runs kernels that ``ort_lowering`` does not predict.
    """
    name, resolution_px = _PROBE
    spec = replace(zoo.get(name), resolution_px=resolution_px)
    profile = ProfiledNetwork(spec, threads=device.threads, batch=device.batch, seed=0)
    profile.run()
    return detect_lane(profile.finish(counted=(True,)), spec)


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
            chunk = Chunk(**{**data, "networks": networks, "latencies_ms": latencies, "kernels_us": kernels})
            _check_chunk(chunk)
        except (KeyError, TypeError, ValueError):
            return
        yield chunk


def _check_chunk(chunk: Chunk) -> None:
    """Check the figures of a saved chunk. Raises: NasError."""
    if not len(chunk.networks) == len(chunk.latencies_ms) == len(chunk.kernels_us):
        raise NasError("networks, latencies_ms, kernels_us: must have one item per network.")
    for network in chunk.networks:
        if network not in zoo.names():
            check_number("networks", network, low=0, whole=True)
    for latency_ms in chunk.latencies_ms:
        check_number("latencies_ms", latency_ms, low=0, open_low=True, optional=True)
    for times in chunk.kernels_us:
        for time_us in times or ():
            check_number("kernels_us", time_us, low=0)
    check_number("reference_ms", chunk.reference_ms, low=0, open_low=True)
    check_number("spent_s", chunk.spent_s, low=0)
    check_number("others", chunk.others, low=0, optional=True)
