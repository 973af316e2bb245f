"""Measure random networks for a calibration, chunk by chunk, kept on disk so that an interrupted one goes on."""

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
from nas.latency.device import Device
from nas.latency.kernels.ort_lowering import network_calls
from nas.latency.measure.backends import runner
from nas.latency.measure.ort_profile import ProfiledNetwork, lane_of, matched
from nas.latency.measure.system_load import DISTURBING_CORES, SystemLoad
from nas.latency.measure.timer import COLD_RUNS, measure_runners
from nas.latency.random_networks import random_spec

CHUNK_FORMAT: Final = "nas.calibration/1"
CHUNK_SIZE: Final = 20  # networks in memory at a time
HELD_OUT_EVERY: Final = 5
# Many short rounds: a burst of work of another process then hits few runs of each network.
_ROUNDS, _RUNS = 3, 3
_ATTEMPTS: Final = 3
_ENOUGH: Final = 200  # undisturbed networks for the others to be left out
# Never fitted, in every check: networks that people use, where the fit sees random ones, usual and odd
# (``nas.latency.random_networks``).
HELD_OUT_ZOO: Final = (
    "mobilenetv1_050", "mobilenetv2_100", "mnasnet_100", "semnasnet_100", "mobilenetv3_large_100",
    "mobilenetv3_small_100", "mixnet_s", "mixnet_m", "efficientnet_b0", "efficientnet_lite0",
)  # fmt: skip
_PROBE: Final = ("mixnet_s", 64)  # has every kind of kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Networks that were measured in turns, in the CPU seconds ``spent_s``.

    ``networks``: zoo names, or indices of random networks. ``latencies_ms`` and ``kernels_us`` (of the calls of
    ``nas.latency.kernels.ort_lowering``, in their order): as far as they were measured. ``reference_ms``: of the
    reference network in the same rounds. ``others``: cores that other programs kept busy meanwhile, None where nothing
    says so.
    """

    networks: tuple[str | int, ...]
    latencies_ms: tuple[float | None, ...]
    kernels_us: tuple[tuple[float, ...] | None, ...]
    reference_ms: float
    spent_s: float
    others: float | None = None

    def at_speed(self, reference_ms: float) -> Chunk:
        """What would have been measured if the reference had taken ``reference_ms``."""
        factor = reference_ms / self.reference_ms
        return replace(
            self,
            latencies_ms=tuple(ms if ms is None else ms * factor for ms in self.latencies_ms),
            kernels_us=tuple(
                times if times is None else tuple(us * factor for us in times) for times in self.kernels_us
            ),
            reference_ms=reference_ms,
        )


def held_out(network: str | int) -> bool:
    """Whether a fit must not see this network."""
    return isinstance(network, str) or network % HELD_OUT_EVERY == 0


def spec_of(network: str | int, seed: int) -> ArchSpec:
    """The network that a chunk names."""
    return zoo.get(network) if isinstance(network, str) else random_spec(seed, network)


class Collector:
    """Measures chunks on ``device`` and keeps them in ``path`` (None: in memory alone).

    ``lane``: channels of one block of ONNX Runtime's kernels, None where kernels are not timed one by one.
    """

    def __init__(self, device: Device, seed: int, path: Path | None) -> None:
        self.device, self.seed, self._path = device, seed, path
        self.lane = _lane(device) if _times_kernels(device) else None
        self.chunks = self._kept()

    @property
    def spent_s(self) -> float:
        """CPU seconds spent on all chunks, of earlier, interrupted runs too."""
        return sum(chunk.spent_s for chunk in self.chunks)

    @property
    def networks(self) -> list[str | int]:
        """All that were measured."""
        return [network for chunk in self.chunks for network in chunk.networks]

    def measure(self, networks: Sequence[str | int]) -> None:
        """Measure one more chunk. Raises: NasError if the machine does not keep its speed."""
        start, before = time.process_time(), SystemLoad.now()
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                chunk = self._measured(networks)
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
        """Cores that other programs kept busy during the chunks that count, None where nothing says so."""
        known = [chunk.others for chunk in self._undisturbed() if chunk.others is not None]
        return float(np.mean(known)) if known else None

    def at_common_speed(self) -> tuple[list[Chunk], float]:
        """The chunks that count as if the machine had kept one speed, and the reference's latency in ms at that."""
        chunks = self._undisturbed()
        reference_ms = float(np.median([chunk.reference_ms for chunk in chunks]))
        return [chunk.at_speed(reference_ms) for chunk in chunks], reference_ms

    def discard(self) -> None:
        """Forget what was kept on disk: the calibration is complete."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _undisturbed(self) -> list[Chunk]:
        """The chunks beside which the machine had little else to do, if they are enough; otherwise all."""
        quiet = [chunk for chunk in self.chunks if chunk.others is None or chunk.others <= DISTURBING_CORES]
        return quiet if sum(len(chunk.networks) for chunk in quiet) >= _ENOUGH else self.chunks

    def _measured(self, networks: Sequence[str | int]) -> Chunk:
        device, options = self.device, {"threads": self.device.threads, "batch": self.device.batch, "seed": self.seed}
        specs = [spec_of(network, self.seed) for network in networks]
        whole = [row for row, network in enumerate(networks) if self.lane is None or _measured_whole(network)]
        profiled = [] if self.lane is None else [row for row, network in enumerate(networks) if not held_out(network)]
        runners = [runner(specs[row], backend=device.backend, precision=device.precision, **options) for row in whole]
        profiles = [ProfiledNetwork(specs[row], **options) for row in profiled]
        measured = measure_runners(
            [*runners, *(profile.run for profile in profiles)], device, rounds=_ROUNDS, runs=_RUNS
        )
        latencies = {row: measured[i].latency_ms for i, row in enumerate(whole)}
        kernels = {
            row: tuple(matched(profile.finish(counted=_COUNTED), list(network_calls(specs[row], self.lane or 1))))
            for row, profile in zip(profiled, profiles, strict=True)
        }
        return Chunk(
            networks=tuple(networks),
            latencies_ms=tuple(latencies.get(row) for row in range(len(networks))),
            kernels_us=tuple(kernels.get(row) for row in range(len(networks))),
            reference_ms=measured[0].reference_ms or 0.0,
            spent_s=0.0,
        )

    def _kept(self) -> list[Chunk]:
        """Chunks of an interrupted calibration of the same device and seed; a torn last line does not count."""
        if self._path is None:
            return []
        header = json.dumps(
            {"format": CHUNK_FORMAT, "device": self.device.to_dict(), "seed": self.seed, "lane": self.lane}
        )
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.is_file() else []
        chunks = list(_chunks(lines[1:])) if lines and lines[0] == header else []
        # Written anew, because what is appended to half a line is lost too.
        write_text_atomically(self._path, "".join(line + "\n" for line in [header, *lines[1 : 1 + len(chunks)]]))
        return chunks


# Of the runs that ``measure_runners`` makes: the first of all and the cold ones of every round are not timed.
_COUNTED: Final = (False, *((*(False,) * COLD_RUNS, *(True,) * _RUNS) * _ROUNDS))


def _times_kernels(device: Device) -> bool:
    """Whether kernels can be timed one by one on ``device``: by ONNX Runtime, whose layouts of float32 are known."""
    return device.backend == "onnxruntime" and device.precision == "float32"


def _measured_whole(network: str | int) -> bool:
    """The held-out networks, and as many others, by which profiled times are brought to the level of whole ones."""
    return isinstance(network, str) or network % HELD_OUT_EVERY < 2


def _lane(device: Device) -> int | None:
    """Channels of one block; None where ONNX Runtime runs kernels that ``ort_lowering`` does not know."""
    name, resolution_px = _PROBE
    spec = replace(zoo.get(name), resolution_px=resolution_px)
    profile = ProfiledNetwork(spec, threads=device.threads, batch=device.batch, seed=0)
    profile.run()
    return lane_of(profile.finish(counted=(True,)), spec)


def _chunks(lines: Iterable[str]) -> Iterable[Chunk]:
    for line in lines:
        try:
            data = json.loads(line)
        except ValueError:
            return
        kernels = tuple(times if times is None else tuple(times) for times in data["kernels_us"])
        networks, latencies = tuple(data["networks"]), tuple(data["latencies_ms"])
        yield Chunk(**{**data, "networks": networks, "latencies_ms": latencies, "kernels_us": kernels})
