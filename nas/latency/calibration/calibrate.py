"""Learn what networks cost on this machine within a budget, and check it on networks that the fit never saw."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from nas.core.errors import NasError
from nas.core.progress import ProgressCallback
from nas.latency.calibration.collect import CHUNK_SIZE, HELD_OUT_ZOO, Chunk, Collector, held_out, spec_of
from nas.latency.device import Device, describe
from nas.latency.kernels.kernel import placed_kernels
from nas.latency.predictors import kernel_times
from nas.latency.predictors import op_fit as prices_fit
from nas.latency.predictors.base import HeldOutCheck
from nas.latency.predictors.kernel_sum import KernelPredictor, class_factors, class_sums
from nas.latency.predictors.op_regression import PricePredictor
from nas.latency.settings import LEAST_BUDGET_S

_NETWORKS: Final = 4000  # more than any budget reaches for; they are for the progress bar alone
_FEWEST: Final = 40  # random networks that a calibration can rest on
_FIT_S_PER_NETWORK: Final = 0.004  # of fitting trees, to be left over in the budget


def calibrate(
    device: Device,
    *,
    seed: int = 0,
    budget_s: float = 60.0,
    progress: ProgressCallback | None = None,
    networks: int | None = None,
    kept: Path | None = None,
) -> KernelPredictor | PricePredictor:
    """Measure random networks, as many as fit into ``budget_s`` CPU seconds (at most ``networks``), and fit them.

    A fifth of them, and published networks, are held out; the fit never sees them and ``error`` is theirs.
    ``progress`` is told hundredths of the budget. ``kept``: file in which measurements are kept until the end, so
    that an interrupted calibration goes on where it was.

    Raises: NasError if ``device`` is not this machine, the budget does not reach for the fewest networks needed, or
    the machine does not keep its speed.
    """
    here = describe(device.backend, device.threads, device.batch, device.precision)
    if here != device:
        raise NasError(f"calibrate: asked for {device}, but this machine is {here}; calibrate there.")
    collector = Collector(device, seed, kept)
    _collect(collector, budget_s, networks or _NETWORKS, progress or (lambda done, total: None))
    predictor = _priced(collector) if collector.lane is None else _by_kernels(collector, collector.lane)
    collector.discard()
    return predictor


def _collect(collector: Collector, budget_s: float, networks: int, progress: ProgressCallback) -> None:
    """Measure chunks until another one would overrun the budget."""
    if not collector.chunks:
        collector.measure(HELD_OUT_ZOO)
    done = len(collector.networks) - len(HELD_OUT_ZOO)
    while done < networks:
        spent_s = collector.spent_s + _FIT_S_PER_NETWORK * done
        progress(min(99, int(100 * max(spent_s / budget_s, done / networks))), 100)
        last_s = collector.chunks[-1].spent_s if done else 0.0
        if done and spent_s + last_s > budget_s:
            break
        collector.measure(range(done, min(done + CHUNK_SIZE, networks)))
        done = len(collector.networks) - len(HELD_OUT_ZOO)
    fewest = min(_FEWEST, networks)
    if done < fewest:
        rate_s = collector.chunks[-1].spent_s / len(collector.chunks[-1].networks)
        needed_s = (collector.spent_s + rate_s * (fewest - done + CHUNK_SIZE)) * 1.25  # machines waver
        raise NasError(
            f"latency.budget_s {budget_s:g}: this machine needs about {needed_s:.0f} CPU seconds for the fewest "
            f"networks that a calibration can rest on ({fewest}); give at least "
            f"{max(LEAST_BUDGET_S, math.ceil(needed_s)):g}."
        )
    progress(100, 100)


def _by_kernels(collector: Collector, lane: int) -> KernelPredictor:
    """Kernel times from the profiles, their factors from networks measured whole, checks from the held-out ones."""
    start, seed = time.process_time(), collector.seed
    chunks, reference_ms = collector.at_common_speed()
    whole, profiled = _whole(chunks), list(_profiled(chunks))
    cost_us = _recording_us(np.array([(sum(us), len(us), whole[one]) for one, us in profiled if one in whole]))
    placed = [kernel for network, _ in profiled for kernel in placed_kernels(spec_of(network, seed), lane)]
    times = kernel_times.fit_kernel_times(placed, [one - cost_us for _, us in profiled for one in us], lane, seed)
    seen = [network for network in whole if not held_out(network)]
    sums = class_sums([spec_of(network, seed) for network in seen], times)
    factors = class_factors(sums, [whole[network] for network in seen])
    predictor = KernelPredictor(
        device=collector.device,
        times=times,
        factors=factors,
        checks=(),
        reference_ms=reference_ms,
        spent_s=collector.spent_s + time.process_time() - start,
        others=collector.others,
    )
    return predictor.checked([(spec_of(network, seed), ms) for network, ms in whole.items() if held_out(network)])


def _priced(collector: Collector) -> PricePredictor:
    """Prices that explain networks measured whole, where kernels cannot be timed."""
    chunks, _ = collector.at_common_speed()
    whole = [(spec_of(network, collector.seed), ms, held_out(network)) for network, ms in _whole(chunks).items()]
    prices = prices_fit.fit_prices(
        [spec for spec, _, held in whole if not held], [ms for _, ms, held in whole if not held]
    )
    checks = [
        HeldOutCheck(
            name=spec.name, measured_ms=ms, predicted_ms=prices.total_ms(prices_fit.network_row(spec, prices.lane))
        )
        for spec, ms, held in whole
        if held
    ]
    return PricePredictor(device=collector.device, prices=prices, checks=checks)


def _profiled(chunks: Sequence[Chunk]) -> Iterator[tuple[str | int, tuple[float, ...]]]:
    """Networks whose kernels were all found in their profile, and the times of these in microseconds."""
    for chunk in chunks:
        for network, times in zip(chunk.networks, chunk.kernels_us, strict=True):
            if times is not None and not any(map(math.isnan, times)):
                yield network, times


def _whole(chunks: Sequence[Chunk]) -> dict[str | int, float]:
    """Latencies in ms of all networks that were measured whole."""
    return {
        network: ms
        for chunk in chunks
        for network, ms in zip(chunk.networks, chunk.latencies_ms, strict=True)
        if ms is not None
    }


def _recording_us(both: npt.NDArray[np.float64]) -> float:
    """Microseconds by which recording makes every kernel look longer.

    ``both`` [networks, 3]: sum of profiled times in microseconds, kernels, and latency in ms of the network unrecorded.
    """
    latencies_us = both[:, 2] * 1e3
    sums, counts = both[:, 0] / latencies_us, both[:, 1] / latencies_us

    def off(parameters: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(parameters[0] * (sums - parameters[1] * counts) - 1)

    # Linear far out: a burst of other work during a measurement must not count for more than it is.
    solution = least_squares(off, [1.0, 1.0], loss="soft_l1", f_scale=0.03, bounds=([0.5, 0.0], [2.0, 10.0]))
    return float(solution.x[1])
