"""Present speed of the machine, as the duration of the speed probe."""

from __future__ import annotations

import time
from typing import Final

from nas.arch import zoo
from nas.latency.device import Device
from nas.latency.measure.backends import runner, runtime_errors_as
from nas.latency.measure.paired_timing import time_in_turns
from nas.latency.measure.timer import speed_probe, stopwatch

_NETWORK: Final = "mobilenetv3_large_100"
_DURATION_S: Final = 0.5
_ROUNDS: Final = 4  # between two looks at the clock


def present_probe_ms(device: Device) -> float:
    """Median duration in ms of the speed probe over half a second on ``device``.

    That is this machine. The probe runs between runs of a network, as it does in measurements: alone it
    finds warm caches, and takes 1 to 4% less.

    Raises: NasError if the probe does not run, or the clock jumps.
    """
    probe, timer = speed_probe(device), stopwatch(device.backend, device.threads)
    with runtime_errors_as(f"{_NETWORK}, beside which the present speed is measured, does not run on {device}"):
        run = runner(
            zoo.get(_NETWORK),
            backend=device.backend,
            precision=device.precision,
            threads=device.threads,
            batch=device.batch,
        )
        run()  # the first run allocates
        start = time.perf_counter()
        times = time_in_turns([run], probe, rounds=_ROUNDS, runs=1, timer=timer)
        while time.perf_counter() - start < _DURATION_S:
            times += time_in_turns([run], probe, rounds=_ROUNDS, runs=1, timer=timer)
    return times.probe_s * 1e3
