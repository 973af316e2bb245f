"""Latency measurement that is robust against other processes on the machine.

Findings, with ONNX Runtime on one thread of two cores:

- A network that runs after others has cold caches for four runs, small networks most of all: mobilenetv3_small_100
  took 2.36, 2.22, 1.78, 1.74, 1.70, 1.68 ms, then 1.69 throughout, efficientnet_b0 11.9, 11.0, 10.5, 10.3, 10.2, 10.1,
  then 10.0. So these runs are not timed. Timing the second and third run gives a mixture that no two measurements
  share: it was most of what looked like noise.
- Low quantiles beat the median beside another busy process (standard deviation between processes 0.6 to 0.9% against
  2.0), and many short rounds beat few long ones. The lowest quantiles are worse: shared cores have rare fast moments.
- Dividing each round by its reference makes results worse: disturbances are shorter than a round and affect networks
  unequally, and a low quantile then selects the rounds that were divided by too much. So a round is either used as it
  is or dropped.
- Between measurements the reference helps: scaled to a common speed, latencies of a busy machine agree with those of a
  quiet one twice as well (2.9% against 6.0). It must be about as large as the networks that it represents: one that
  fits into the cache, mobilenetv3_small_050 at 128 px, was as good as none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nas.arch import zoo
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.core.validation import check_number
from nas.latency.arrays import FloatArray
from nas.latency.device import Device
from nas.latency.host import describe
from nas.latency.measure.backends import Runner, runner
from nas.latency.settings import GPU_BACKENDS

Timer = Callable[[Runner], float]

# Interference only adds time, so a low quantile is nearer to the true latency than the median, and unlike the minimum
# it does not depend on a single fast run.
QUANTILE: Final = 0.25
# Reference network, run in every round at its own resolution to detect changes of the machine's speed.
REFERENCE: Final = "mobilenetv3_small_100"
COLD_RUNS: Final = 4  # runs of a turn until caches are warm
LARGEST_DRIFT: Final = 1.5  # of the reference between a round and the fast rounds; beyond it, the round is dropped
_FAST: Final = 0.2  # quantile of the rounds' durations that defines the speed of the machine
_ATTEMPTS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Measured latency of one network.

    ``latency_ms``: 25% quantile of ``runs`` runs. ``spread_ms``: their interquartile range. ``reference_ms``: latency
    of the reference network in the same rounds, by which two measurements can be scaled to a common speed; None if
    there was none.
    """

    latency_ms: float
    spread_ms: float
    runs: int
    device: Device
    reference_ms: float | None = None

    def __str__(self) -> str:
        return f"{self.latency_ms:.2f} ms (spread {self.spread_ms:.2f} ms, {self.runs} runs; {self.device})"


def measure(
    spec: ArchSpec,
    *,
    backend: str = "onnxruntime",
    precision: str = "float32",
    threads: int = 1,
    batch: int = 1,
    rounds: int = 10,
    runs: int = 4,
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
    rounds: int = 10,
    runs: int = 4,
    seed: int = 0,
) -> list[Measurement]:
    """Measure the latencies of ``specs``, interleaved, and return them in order.

    All networks are in memory at once. In each of ``rounds`` rounds, a reference and every network run ``COLD_RUNS``
    times untimed (caches fill again) and ``runs`` times timed, so that a slow minute of the machine affects all alike.
    Rounds in which the reference runs at a very different speed are dropped; if fewer than half of the rounds are left,
    the same number is measured once more.

    With one thread the clock is the thread's CPU time, which excludes waiting for a busy core. With more threads only
    wall time covers all of them: measure on an idle machine. GPUs are timed by their own events.

    Raises: NasError if the backend is missing, a number is not positive, or the speed of the machine is unstable.
    """
    for name, value in (("rounds", rounds), ("runs", runs), ("threads", threads), ("batch", batch)):
        check_number(name, value, low=1, whole=True)
    device = describe(backend, threads, batch, precision)
    runners = [
        runner(spec, backend=backend, precision=precision, threads=threads, batch=batch, seed=seed) for spec in specs
    ]
    return measure_runners(runners, device, rounds=rounds, runs=runs)


def measure_runners(runners: Sequence[Runner], device: Device, *, rounds: int, runs: int) -> list[Measurement]:
    """Measure functions that run something on ``device``; see ``measure_many``.

    Raises: NasError if the speed of the machine is unstable.
    """
    all_runners = [reference_runner(device), *runners]
    timer = stopwatch(device.backend, device.threads)
    durations = np.empty((0, len(all_runners), runs))
    for _ in range(_ATTEMPTS):
        durations = np.concatenate([durations, interleaved(all_runners, rounds=rounds, runs=runs, timer=timer)])
        drift = drifts(durations[:, 0])
        if 2 * np.count_nonzero(drift <= LARGEST_DRIFT) >= rounds:
            break
    steady = steady_measurements(durations, drift, least=-(-rounds // 2))
    return [summarize(steady[:, index], device, reference=steady[:, 0]) for index in range(1, len(all_runners))]


def interleaved(runners: Sequence[Runner], *, rounds: int, runs: int, timer: Timer) -> FloatArray:
    """Durations of interleaved runs, float64 of shape (rounds, runners, runs).

    In the unit of ``timer``. The first ``COLD_RUNS`` runs of a turn are not timed.
    """
    times = np.empty((rounds, len(runners), runs))
    for run in runners:  # the first run allocates
        run()
    for turn in times:  # (runners, runs)
        for run, durations in zip(runners, turn, strict=True):
            for _ in range(COLD_RUNS):
                run()
            durations[:] = [timer(run) for _ in range(runs)]
    return times


def drifts(reference: FloatArray) -> FloatArray:
    """Speed ratio of each round and the fast rounds, at least 1, shape (rounds,).

    ``reference``: durations of the reference network, shape (rounds, runs), of any unit. A round that is faster than
    the fast rounds counts like one that is slower by the same factor; 1 is no drift.
    """
    speeds = np.median(reference, axis=1)
    slower = speeds / np.quantile(speeds, _FAST, method="lower")
    return np.asarray(np.maximum(slower, 1 / slower))


def steady_measurements(durations: FloatArray, drift: FloatArray, *, least: int = 1) -> FloatArray:
    """Rounds of ``durations`` in which the machine kept its speed.

    ``durations``: shape (rounds, networks, runs); ``drift``: shape (rounds,), see ``drifts``. The result has shape
    (steady rounds, networks, runs).

    Raises: NasError if fewer than ``least`` rounds are steady.
    """
    steady = drift <= LARGEST_DRIFT
    if np.count_nonzero(steady) < least:
        raise NasError(
            f"latency: the machine changed speed by up to {drift.max():.1f} times during the measurement, by more than "
            f"{LARGEST_DRIFT:g} times in {np.count_nonzero(~steady)} of {len(drift)} rounds; close other programs, set "
            f"latency.threads to 1 if it is higher, and try again."
        )
    return durations[steady]


def summarize(durations_s: npt.ArrayLike, device: Device, reference: npt.ArrayLike | None = None) -> Measurement:
    """Measurement from run times in seconds, of any shape.

    ``durations_s``: of the network; ``reference``: of the reference network in the same rounds.
    """
    durations = np.ravel(durations_s) * 1e3
    low, quarter, three_quarters = np.quantile(durations, [QUANTILE, 0.25, 0.75]).tolist()
    reference_ms = None if reference is None else float(np.quantile(np.ravel(reference) * 1e3, QUANTILE))
    return Measurement(
        latency_ms=low,
        spread_ms=three_quarters - quarter,
        runs=len(durations),
        device=device,
        reference_ms=reference_ms,
    )


def at_common_speed(measurements: Sequence[Measurement], reference_ms: float | None = None) -> list[Measurement]:
    """Scale measurements of several calls to one speed of the machine.

    That speed is the one at which the reference network takes ``reference_ms`` (default: the median over the
    measurements). Measurements without a reference are returned unchanged.
    """
    references = [measurement.reference_ms for measurement in measurements if measurement.reference_ms is not None]
    if not references:
        return list(measurements)
    common_ms = float(np.median(references)) if reference_ms is None else reference_ms
    return [_at_speed(measurement, common_ms) for measurement in measurements]


def _at_speed(measurement: Measurement, reference_ms: float) -> Measurement:
    if measurement.reference_ms is None:
        return measurement
    factor = reference_ms / measurement.reference_ms
    return replace(
        measurement,
        latency_ms=measurement.latency_ms * factor,
        spread_ms=measurement.spread_ms * factor,
        reference_ms=reference_ms,
    )


@lru_cache(maxsize=2)
def reference_runner(device: Device) -> Runner:
    """Runner of the reference network on ``device``.

    Cached, because building it for every call can take longer than measuring.
    """
    return runner(
        zoo.get(REFERENCE),
        backend=device.backend,
        precision=device.precision,
        threads=device.threads,
        batch=device.batch,
    )


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
