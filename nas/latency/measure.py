"""Measure networks on this machine so that another process beside them does not count as their latency."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from nas.arch.checks import check_number
from nas.arch.errors import NasError
from nas.arch.spec import ArchSpec
from nas.latency.device import Device, describe

Runner = Callable[[], object]

# Interference only ever adds time, so a low quantile is nearer to the truth than the median, and unlike the minimum
# it does not hang on a single lucky run.
QUANTILE: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Latency of one network: the 20% quantile of ``runs`` runs, and the distance of their quartiles, in ms."""

    latency_ms: float
    spread_ms: float
    runs: int
    device: Device

    def __str__(self) -> str:
        return f"{self.latency_ms:.2f} ms (spread {self.spread_ms:.2f} ms, {self.runs} runs; {self.device})"


def measure(
    spec: ArchSpec, *, backend: str = "onnxruntime", threads: int = 1, batch: int = 1, rounds: int = 10, runs: int = 4
) -> Measurement:
    """Latency of ``spec`` at its own resolution; see ``measure_many``."""
    return measure_many([spec], backend=backend, threads=threads, batch=batch, rounds=rounds, runs=runs)[0]


def measure_many(
    specs: Sequence[ArchSpec],
    *,
    backend: str = "onnxruntime",
    threads: int = 1,
    batch: int = 1,
    rounds: int = 10,
    runs: int = 4,
    seed: int = 0,
) -> list[Measurement]:
    """Latencies of ``specs``, in their order, all held in memory and measured in turns.

    ``rounds`` times over, every network runs once unseen (its weights return to the cache) and ``runs`` times under
    the clock, so that a slow minute of the machine meets all alike. With one thread the clock is the thread's CPU
    time: waiting for a busy core does not count. With more, other threads work too and only wall time sees them.

    Raises: NasError if the backend is missing or the numbers are not positive.
    """
    for name, value in (("rounds", rounds), ("runs", runs), ("threads", threads), ("batch", batch)):
        check_number(name, value, low=1, whole=True)
    device = describe(backend, threads, batch)
    runners = [runner(spec, backend=backend, threads=threads, batch=batch, seed=seed) for spec in specs]
    clock = time.thread_time if threads == 1 else time.perf_counter
    return [summary(times, device) for times in interleaved(runners, rounds=rounds, runs=runs, clock=clock)]


def interleaved(runners: Sequence[Runner], *, rounds: int, runs: int, clock: Callable[[], float]) -> list[list[float]]:
    """Durations by ``clock`` (in its unit) of every runner, ``rounds`` x ``runs`` of each, taken in turns."""
    times: list[list[float]] = [[] for _ in runners]
    for run in runners:  # the first run allocates
        run()
    for _ in range(rounds):
        for run, taken in zip(runners, times, strict=True):
            run()
            for _ in range(runs):
                start = clock()
                run()
                taken.append(clock() - start)
    return times


def summary(durations_s: Iterable[float], device: Device) -> Measurement:
    """What a list of run times in seconds says."""
    durations = np.asarray(list(durations_s)) * 1e3
    low, quarter, three_quarters = np.quantile(durations, [QUANTILE, 0.25, 0.75])
    return Measurement(
        latency_ms=float(low), spread_ms=float(three_quarters - quarter), runs=len(durations), device=device
    )


def runner(spec: ArchSpec, *, backend: str, threads: int = 1, batch: int = 1, seed: int = 0) -> Runner:
    """A function that runs ``spec`` once, on one seeded batch of normal noise (zeros can be unduly fast or slow).

    Raises: NasError if the backend is missing.
    """
    shape = (batch, spec.in_channels, spec.resolution_px, spec.resolution_px)
    images = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    if backend == "onnxruntime":
        return _onnxruntime(spec, images, threads, seed)
    if backend == "torch":
        return _torch(spec, images, threads)
    raise NasError(f"latency.backend: {backend!r} cannot be measured; use onnxruntime or torch.")


def _onnxruntime(spec: ArchSpec, images: Any, threads: int, seed: int) -> Runner:
    """One session; with one thread ONNX Runtime has no pool and works on the calling thread."""
    try:
        import onnxruntime

        from nas.model.onnx_graph import INPUT, to_onnx
    except ImportError as error:
        raise NasError(
            f"latency.backend: onnxruntime cannot be used: {error.msg}. pip install onnx onnxruntime."
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    model = to_onnx(spec, batch=len(images), seed=seed).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {INPUT: images}
    return lambda: session.run(None, feed)


def _torch(spec: ArchSpec, images: Any, threads: int) -> Runner:
    """Eager float32 in the default memory layout, in inference mode; torch's thread count is the caller's after it."""
    try:
        import torch

        from nas.model.build import build
    except ImportError as error:
        raise NasError(f"latency.backend: torch cannot be used: {error.msg}. pip install torch timm.") from None
    model, batch = build(spec).eval(), torch.from_numpy(images)

    def run() -> object:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                return model(batch)
        finally:
            torch.set_num_threads(before)

    return run
