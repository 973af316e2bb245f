"""Measure networks on this machine so that another process beside them does not count as their latency.

What was learned, with ONNX Runtime on one thread of two cores:

- A network that others ran before is cold for four runs, and small ones the most: mobilenetv3_small_100 took 2.36,
  2.22, 1.78, 1.74, 1.70, 1.68 ms, then 1.69 for good, efficientnet_b0 11.9, 11.0, 10.5, 10.3, 10.2, 10.1, then 10.0. So
  these runs are not timed. Whoever times the second and third gets a mixture that no two measurements share: it was
  most of what looked like noise.
- Low quantiles win over the median beside another busy process (standard deviation between processes 0.6 to 0.9%
  against 2.0), many short rounds over few long ones. The lowest lose: shared cores have rare fast moments of their own.
- To divide each round by its reference makes things worse: what disturbs is shorter than a round and meets networks
  unequally, and a low quantile then picks the rounds that were divided by too much. So rounds are kept or left out.
- Between measurements the reference pays: at a common speed, figures of a machine with much else to do agree with those
  of a quiet one twice as well (2.9% against 6.0). It must be of the size of what it stands for: one that fits into the
  cache, mobilenetv3_small_050 at 128 px, was as good as none.
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
from nas.latency.device import Device, describe
from nas.latency.measure.backends import Runner, runner
from nas.latency.settings import GPU_BACKENDS

Timer = Callable[[Runner], float]

# Interference only ever adds time, so a low quantile is nearer to the truth than the median, and unlike the minimum
# it does not hang on a single lucky run.
QUANTILE: Final = 0.25
# Run in every round to see whether the machine keeps its speed; at its own resolution.
REFERENCE: Final = "mobilenetv3_small_100"
COLD_RUNS: Final = 4  # runs of a turn until a network is as fast as it gets
LARGEST_DRIFT: Final = 1.5  # between the reference in a round and in the fast rounds; beyond, a round is left out
_FAST: Final = 0.2  # quantile of the rounds whose speed counts as the machine's
_ATTEMPTS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Latency of one network: the 25% quantile of ``runs`` runs, and the distance of their quartiles, in ms.

    ``reference_ms``: of the reference network in the same rounds, by which two measurements can be brought to a common
    speed; None if there was none.
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
    """Latency of ``spec`` at its own resolution; see ``measure_many``."""
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
    """Latencies of ``specs``, in their order, all held in memory and measured in turns.

    ``rounds`` times over, a reference and every network run ``COLD_RUNS`` times unseen (caches fill again) and ``runs``
    times under the clock, so that a slow minute of the machine meets all alike. Rounds in which the reference shows
    quite another speed are left out; if that leaves fewer than half, there are as many rounds once more.

    With one thread the clock is the thread's CPU time: waiting for a busy core does not count. With more, other
    threads work too and only wall time sees them: measure on an idle machine. GPUs time themselves.

    Raises: NasError if the backend is missing, the numbers are not positive or the machine does not keep its speed.
    """
    for name, value in (("rounds", rounds), ("runs", runs), ("threads", threads), ("batch", batch)):
        check_number(name, value, low=1, whole=True)
    device = describe(backend, threads, batch, precision)
    runners = [
        runner(spec, backend=backend, precision=precision, threads=threads, batch=batch, seed=seed) for spec in specs
    ]
    return measure_runners(runners, device, rounds=rounds, runs=runs)


def measure_runners(runners: Sequence[Runner], device: Device, *, rounds: int, runs: int) -> list[Measurement]:
    """What ``measure_many`` says, of functions that run something on ``device``."""
    turns = [reference_runner(device), *runners]
    timer = stopwatch(device.backend, device.threads)
    durations = np.empty((0, len(turns), runs))
    for _ in range(_ATTEMPTS):
        durations = np.concatenate([durations, interleaved(turns, rounds=rounds, runs=runs, timer=timer)])
        drift = drifts(durations[:, 0])
        if 2 * np.count_nonzero(drift <= LARGEST_DRIFT) >= rounds:
            break
    kept = steady_measurements(durations, drift, least=-(-rounds // 2))
    return [summarize(kept[:, index], device, reference=kept[:, 0]) for index in range(1, len(turns))]


def interleaved(runners: Sequence[Runner], *, rounds: int, runs: int, timer: Timer) -> FloatArray:
    """Durations [rounds, runners, runs] by ``timer`` (in its unit), taken in turns.

    The first ``COLD_RUNS`` runs of a turn are not timed.
    """
    times = np.empty((rounds, len(runners), runs))
    for run in runners:  # the first run allocates
        run()
    for turn in times:
        for run, taken in zip(runners, turn, strict=True):
            for _ in range(COLD_RUNS):
                run()
            taken[:] = [timer(run) for _ in range(runs)]
    return times


def drifts(reference: FloatArray) -> FloatArray:
    """How far each round was from the speed of the fast rounds, by its reference runs [rounds, runs]; 1 is as fast."""
    speeds = np.median(reference, axis=1)
    slower = speeds / np.quantile(speeds, _FAST, method="lower")
    return np.asarray(np.maximum(slower, 1 / slower))


def steady_measurements(durations: FloatArray, drift: FloatArray, *, least: int = 1) -> FloatArray:
    """``durations`` [rounds, networks, runs] of the rounds in which the machine kept its speed; ``drift`` [rounds].

    Raises: NasError if they are fewer than ``least``.
    """
    steady = drift <= LARGEST_DRIFT
    if np.count_nonzero(steady) < least:
        raise NasError(
            f"latency: the machine changed speed by up to {drift.max():.1f} times while it was measured, by more than "
            f"{LARGEST_DRIFT:g} times in {np.count_nonzero(~steady)} of {len(drift)} rounds; close other programs, set "
            f"latency.threads to 1 if it is more, and try again."
        )
    return durations[steady]


def summarize(durations_s: npt.ArrayLike, device: Device, reference: npt.ArrayLike | None = None) -> Measurement:
    """What run times in seconds, of a network and of the reference beside it, say."""
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
    """Measurements of several calls as if the machine had kept one speed throughout.

    That at which the reference takes ``reference_ms`` (default: the median of theirs). Those without a reference stay
    as they are.
    """
    references = [one.reference_ms for one in measurements if one.reference_ms is not None]
    if not references:
        return list(measurements)
    common_ms = float(np.median(references)) if reference_ms is None else reference_ms
    return [_at_speed(one, common_ms) for one in measurements]


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
    """Runs the reference on ``device``; kept: to make it anew for every call can take longer than to measure."""
    return runner(
        zoo.get(REFERENCE),
        backend=device.backend,
        precision=device.precision,
        threads=device.threads,
        batch=device.batch,
    )


def stopwatch(backend: str, threads: int) -> Timer:
    """What times one run on ``backend``, in seconds."""
    if backend in GPU_BACKENDS:
        return _gpu_stopwatch()
    clock = time.thread_time if threads == 1 else time.perf_counter

    def timed(run: Runner) -> float:
        start = clock()
        run()
        return clock() - start

    return timed


def _gpu_stopwatch() -> Timer:
    """The GPU's own clock, between two events around a run on an idle stream: launching counts where it holds up."""
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
