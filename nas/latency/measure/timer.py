"""Latency measurement that is robust against a machine that changes its speed.

What is timed, and how, is in `paired_timing.py`. Runs use the CPU time of the thread where one thread runs the network,
which excludes waiting for a busy core.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np

from nas.arch import zoo
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.core.validation import check_number
from nas.exporters.rewriting.forms import Forms
from nas.latency.device import Device
from nas.latency.host import describe
from nas.latency.measure.backends import Runner, runner, runtime_errors_as
from nas.latency.measure.hardware_counters import CountingTimer, has_counters, open_counters
from nas.latency.measure.paired_timing import PairedTimes, Timer, time_in_turns
from nas.latency.settings import GPU_BACKENDS

ROUNDS: Final = 10
RUNS: Final = 2  # timed runs of a turn
# The speed probe on CPUs: eight small 1x1 convolutions, 0.15 ms in ONNX Runtime on a server core.
SPEED_PROBE: Final = ArchSpec.from_strings(
    "speed_probe",
    [["cn_r8_k1_s1_c64"]],
    stem=StemSpec(channels=64),
    head=HeadSpec(channels=64),
    resolution_px=28,
    classes=10,
)
# On a GPU: one that is timed by its events, not by what launching it costs.
_GPU_PROBE: Final = "mobilenetv3_small_100"
_TARGET_ERROR: Final = 0.02  # relative standard error, of the median network; beyond it, more rounds are measured
LONGEST: Final = 3  # times the rounds that were asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Measured latency of one network.

    ``latency_ms``: lower quartile over ``runs`` runs of their durations relative to the speed probe's around them,
    times ``probe_ms``. ``spread_ms``: interquartile range of the same. ``error_ms``: its standard error, NaN if
    there was one round only. ``probe_ms``: median duration of the probe in the same call, which tells the machine's
    speed: by it, measurements are scaled to a common one. ``instructions``, ``cycles``: medians over the runs,
    at whatever speed; None where the machine counts none (``hardware_counters.py``), or not in this thread alone.
    """

    latency_ms: float
    spread_ms: float
    error_ms: float
    runs: int
    device: Device
    probe_ms: float
    instructions: int | None = None
    cycles: int | None = None

    def __str__(self) -> str:
        return (
            f"{self.latency_ms:.2f} ± {self.error_ms:.2f} ms (spread {self.spread_ms:.2f} ms, {self.runs} runs; "
            f"{self.device})"
        )

    def at_speed(self, probe_ms: float) -> Measurement:
        """Measurement scaled to a speed at which the probe takes ``probe_ms``."""
        factor = probe_ms / self.probe_ms
        return replace(
            self,
            latency_ms=self.latency_ms * factor,
            spread_ms=self.spread_ms * factor,
            error_ms=self.error_ms * factor,
            probe_ms=probe_ms,
        )


def measure(
    spec: ArchSpec,
    *,
    backend: str = "onnxruntime",
    precision: str = "float32",
    threads: int = 1,
    batch: int = 1,
    rounds: int = ROUNDS,
    runs: int = RUNS,
) -> Measurement:
    """Measure the latency of ``spec`` at its own resolution; see ``measure_many``."""
    return measure_many(
        [spec], backend=backend, precision=precision, threads=threads, batch=batch, rounds=rounds, runs=runs
    )[0]


def measure_many(
    specs: Sequence[ArchSpec],
    *,
    backend: str = "onnxruntime",
    precision: str = "float32",
    threads: int = 1,
    batch: int = 1,
    rounds: int = ROUNDS,
    runs: int = RUNS,
    seed: int = 0,
    forms: Sequence[Forms | None] | None = None,
) -> list[Measurement]:
    """Measure the latencies of ``specs``, interleaved, and return them in order.

    ``forms``: of the blocks of each, None for plain ones.

    All networks are in memory at once. In each of ``rounds`` rounds every network runs ``COLD_RUNS`` times untimed
    (caches fill again) and ``runs`` times between runs of the speed probe. Where the machine is so unsteady that the
    standard error of the median network exceeds 2%, up to three times as many rounds are measured.

    With one thread the clock is the thread's CPU time, which excludes waiting for a busy core. With more threads only
    wall time covers all of them: measure on an idle machine. GPUs are timed by their own events.

    Raises: NasError if the backend is missing, a number is not positive, or the clock jumps all the time.
    """
    for name, value in (("rounds", rounds), ("runs", runs), ("threads", threads), ("batch", batch)):
        check_number(name, value, low=1, whole=True)
    device = describe(backend, threads, batch, precision)
    options: dict[str, Any] = {
        "backend": backend,
        "precision": precision,
        "threads": threads,
        "batch": batch,
        "seed": seed,
    }
    runners = [
        runner(spec, **options, forms=own) for spec, own in zip(specs, forms or [None] * len(specs), strict=True)
    ]
    return measure_runners(runners, device, rounds=rounds, runs=runs)


def measure_runners(runners: Sequence[Runner], device: Device, *, rounds: int, runs: int) -> list[Measurement]:
    """Measure functions that run something on ``device``; see ``measure_many``.

    Raises: NasError if the clock jumps all the time.
    """
    group = open_counters() if is_counted(device) else None
    if group is None:
        return summarize(time_runners(runners, device, rounds=rounds, runs=runs), device)
    with group:
        timer = CountingTimer(stopwatch(device.backend, device.threads), group)
        measurements = summarize(time_runners(runners, device, rounds=rounds, runs=runs, timer=timer), device)
    counts = [timer.medians(run) or (None, None) for run in runners]
    return [
        replace(measurement, instructions=instructions, cycles=cycles)
        for measurement, (instructions, cycles) in zip(measurements, counts, strict=True)
    ]


def is_counted(device: Device) -> bool:
    """Whether instructions and cycles of networks on ``device`` are counted.

    They are where these run in one thread of a CPU, and the system allows it.
    """
    return device.threads == 1 and device.backend not in GPU_BACKENDS and has_counters()


def time_runners(
    runners: Sequence[Runner],
    device: Device,
    *,
    rounds: int,
    runs: int,
    target_error: float = _TARGET_ERROR,
    timer: Timer | None = None,
) -> PairedTimes:
    """Durations of ``runners`` and of the probe around them; see ``measure_many``.

    ``timer``: default is the ``stopwatch`` of ``device``.

    Raises: NasError if the clock jumps all the time.
    """
    probe, timer = speed_probe(device), timer or stopwatch(device.backend, device.threads)
    for run in runners:  # the first run allocates
        run()
    times = time_in_turns(runners, probe, rounds=rounds, runs=runs, timer=timer)
    while len(times.runs_s) < LONGEST * rounds and np.median(times.relative_errors()) > target_error:
        try:
            times += time_in_turns(runners, probe, rounds=rounds, runs=runs, timer=timer)
        except NasError:  # the clock jumps now; what was measured before holds
            break
    return times


def summarize(times: PairedTimes, device: Device) -> list[Measurement]:
    """Measurements of networks on ``device``, from durations in s."""
    probe_ms = times.probe_s * 1e3
    return [
        Measurement(
            latency_ms=float(ratio) * probe_ms,
            spread_ms=float(spread) * probe_ms,
            error_ms=float(ratio * error) * probe_ms,
            runs=int(times.runs_s[:, 0].size),
            device=device,
            probe_ms=probe_ms,
        )
        for ratio, error, spread in zip(times.ratios(), times.relative_errors(), times.spreads(), strict=True)
    ]


def at_common_speed(measurements: Sequence[Measurement], probe_ms: float | None = None) -> list[Measurement]:
    """Scale measurements of several calls to one speed of the machine.

    That speed is the one at which the speed probe takes ``probe_ms`` (default: the median over the measurements).
    """
    if probe_ms is None:
        probe_ms = float(np.median([measurement.probe_ms for measurement in measurements]))
    return [measurement.at_speed(probe_ms) for measurement in measurements]


@lru_cache(maxsize=2)
def speed_probe(device: Device) -> Runner:
    """Runner of the speed probe on ``device``.

    Cached, because building it for every call can take longer than measuring.

    Raises: NasError if it does not run there.
    """
    spec = zoo.get(_GPU_PROBE) if device.backend in GPU_BACKENDS else SPEED_PROBE
    with runtime_errors_as(f"the network by which the speed of {device} is told does not run there"):
        probe = runner(
            spec, backend=device.backend, precision=device.precision, threads=device.threads, batch=device.batch
        )
        probe()
    return probe


def stopwatch(backend: str, threads: int) -> Timer:
    """Function that times one run on ``backend``, in seconds."""
    if backend in GPU_BACKENDS:
        return _gpu_stopwatch()
    clock = time.thread_time if threads == 1 else time.perf_counter

    def timed(run: Runner) -> float:
        start = clock()
        run()
        return clock() - start

    return timed


def _gpu_stopwatch() -> Timer:
    """Timer by GPU events around a run on an idle stream.

    Launch overhead counts only where it delays the GPU.
    """
    import torch

    cuda: Any = torch.cuda  # Event has no types
    begin, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)

    def timed(run: Runner) -> float:
        cuda.synchronize()
        begin.record()
        run()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) * 1e-3  # ms

    return timed
