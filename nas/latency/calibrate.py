"""Learn what kernels cost on this machine in about a minute, and check it on unseen networks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from nas.arch import zoo
from nas.arch.errors import NasError
from nas.arch.spec import ArchSpec
from nas.latency.device import Device, describe
from nas.latency.fit import Prices, fit, network_row
from nas.latency.kernel_sum import KernelSumPredictor
from nas.latency.measure import measure_many
from nas.latency.predictor import Check
from nas.latency.samples import random_specs
from nas.latency.settings import LEAST_BUDGET_S

Progress = Callable[[int, int], None]

# Never fitted: deep networks as people use them, where the fit sees shallow random ones.
HELD_OUT_ZOO: Final = (
    "mobilenetv1_050", "mobilenetv2_100", "mnasnet_100", "semnasnet_100", "mobilenetv3_large_100",
    "mobilenetv3_small_100", "mixnet_s", "mixnet_m", "efficientnet_b0", "efficientnet_lite0",
)  # fmt: skip
_NETWORKS: Final = 400  # on a machine where they fit into the budget
_FEWEST: Final = 50  # for some 70 prices; the priors carry the rest
_CHUNK: Final = 25  # networks in memory at a time
_HELD_OUT_EVERY: Final = 5
_ROUNDS: Final[dict[str, Any]] = {"rounds": 3, "runs": 4}


def calibrate(
    device: Device,
    *,
    seed: int = 0,
    budget_s: float = 60.0,
    progress: Progress | None = None,
    networks: int | None = None,
) -> KernelSumPredictor:
    """Measure up to ``networks`` (default 400) random networks within ``budget_s`` CPU seconds and fit a predictor.

    A fifth of them, and published networks, are held out; the fit never sees them and ``error`` is theirs.
    ``progress`` is told networks done and all.

    Raises: NasError if ``device`` is not this machine, or the budget does not reach for the fewest networks needed.
    """
    here = describe(device.backend, device.threads, device.batch, device.precision)
    if here != device:
        raise NasError(f"calibrate: asked for {device}, but this machine is {here}; calibrate there.")
    start = time.process_time()
    zoo_specs = [zoo.get(name) for name in HELD_OUT_ZOO]
    specs = random_specs(networks or _NETWORKS, seed)
    total = len(zoo_specs) + len(specs)
    zoo_ms = _latencies(zoo_specs, device, seed)
    latencies: list[float] = []
    while len(latencies) < len(specs):
        if progress:
            progress(len(zoo_specs) + len(latencies), total)
        spent, begun = time.process_time() - start, time.process_time()
        chunk = specs[len(latencies) : len(latencies) + _CHUNK]
        latencies += _latencies(chunk, device, seed)
        if spent + 2 * (time.process_time() - begun) > budget_s:  # another chunk would overrun
            break
    fewest = min(_FEWEST, len(specs))
    if len(latencies) < fewest:
        # What came before the last chunk and, for what is missing, its rate; a quarter more because machines waver.
        rate_s = (time.process_time() - begun) / len(chunk)
        needed_s = spent + rate_s * (fewest - len(latencies) + len(chunk))
        raise NasError(
            f"latency.budget_s {budget_s:g}: this machine needs about {needed_s:.0f} CPU seconds for the fewest "
            f"networks that a calibration can rest on ({total - len(specs) + fewest}); give at least "
            f"{max(LEAST_BUDGET_S, math.ceil(needed_s * 1.25)):g}."
        )
    if progress:
        progress(total, total)
    return _fitted(device, specs[: len(latencies)], latencies, zoo_specs, zoo_ms)


def _latencies(specs: Sequence[ArchSpec], device: Device, seed: int) -> list[float]:
    measured = measure_many(
        specs,
        backend=device.backend,
        precision=device.precision,
        threads=device.threads,
        batch=device.batch,
        seed=seed,
        **_ROUNDS,
    )
    return [measurement.latency_ms for measurement in measured]


def _fitted(
    device: Device,
    specs: Sequence[ArchSpec],
    latencies: Sequence[float],
    extra: Sequence[ArchSpec],
    extra_ms: Sequence[float],
) -> KernelSumPredictor:
    """A predictor fitted to four fifths of ``specs`` and checked on the rest and on ``extra``."""
    pairs = list(zip(specs, latencies, strict=True))
    seen = [pair for index, pair in enumerate(pairs) if index % _HELD_OUT_EVERY]
    unseen = [*pairs[::_HELD_OUT_EVERY], *zip(extra, extra_ms, strict=True)]
    return checked(device, fit([spec for spec, _ in seen], [ms for _, ms in seen]), unseen)


def checked(device: Device, prices: Prices, unseen: Sequence[tuple[ArchSpec, float]]) -> KernelSumPredictor:
    """A predictor of ``prices`` with its error on ``unseen`` networks and their measured ms."""
    checks = [
        Check(name=spec.name, measured_ms=ms, predicted_ms=prices.total_ms(network_row(spec, prices.lane)))
        for spec, ms in unseen
    ]
    return KernelSumPredictor(device=device, prices=prices, checks=checks)
