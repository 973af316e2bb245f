"""Side by side: networks of several runtimes and precisions, interleaved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from nas.latency.device import Device
from nas.latency.host import describe
from nas.latency.measure.backends import Runner
from nas.latency.measure.timer import Measurement, stopwatch, summarize, time_runners

_PROBE_BACKEND: Final = "onnxruntime"  # of the speed probe; the base installation has it


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBySide:
    """Measurements of networks that took turns, and how far their ratios are known.

    ``ratio_errors[i][j]``: relative standard error of the latency of i divided by that of j.
    """

    measurements: tuple[Measurement, ...]
    ratio_errors: tuple[tuple[float, ...], ...]


def measure_side_by_side(runners: Sequence[Runner], devices: Sequence[Device], *, rounds: int, runs: int) -> SideBySide:
    """Time ``runners``, each of its own one of ``devices``, in turns.

    All are this machine, with the same number of threads; runtimes and precisions may differ. Every run counts
    relative to one speed probe in ONNX Runtime, and is timed by the clock of its own backend.

    ``rounds``, ``runs``: as of ``time_runners``. Raises: NasError if a clock jumps all the time.
    """
    threads, batch = devices[0].threads, devices[0].batch
    probe_device = describe(_PROBE_BACKEND, threads, batch)
    clocks = {run: stopwatch(device.backend, threads) for run, device in zip(runners, devices, strict=True)}
    probe_clock = stopwatch(_PROBE_BACKEND, threads)

    def timed(run: Runner) -> float:
        return clocks.get(run, probe_clock)(run)

    times = time_runners(runners, probe_device, rounds=rounds, runs=runs, timer=timed)
    same_device = summarize(times, probe_device)
    measured = [replace(one, device=device) for one, device in zip(same_device, devices, strict=True)]
    errors = tuple(tuple(row) for row in times.ratio_errors().tolist())
    return SideBySide(measurements=tuple(measured), ratio_errors=errors)
