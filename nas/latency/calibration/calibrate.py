"""Calibration of a latency predictor on this machine, within a CPU budget.

It is checked on networks that the fit does not see.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from nas.core.errors import NasError
from nas.core.progress import ProgressCallback
from nas.latency.calibration.collect import (
    CHUNK_SIZE,
    HELD_OUT_ZOO,
    Chunk,
    Collector,
    is_held_out,
    rewrites_blocks,
    spec_of,
)
from nas.latency.device import Device
from nas.latency.host import describe
from nas.latency.kernels.kernel import contextual_kernels
from nas.latency.measure.system_load import is_busy
from nas.latency.measure.timer import LONGEST
from nas.latency.predictors import kernel_times, op_fit
from nas.latency.predictors.held_out import HeldOutCheck
from nas.latency.predictors.kernel_sum import KernelPredictor, class_factors, class_sums
from nas.latency.predictors.op_regression import PricePredictor
from nas.latency.settings import LEAST_BUDGET_S

_MAX_NETWORKS: Final = 4000  # more than any budget allows; only for the progress bar
_MIN_NETWORKS: Final = 40  # random networks
_REPEAT_EVERY: Final = 200  # random networks, after which the published ones are measured once more
_PROFILED: Final = 2.0  # times as long as a published network, which is not profiled, takes a random one
_FIT_S_PER_NETWORK: Final = 0.004  # CPU seconds of fitting trees, reserved from the budget


def calibrate(
    device: Device,
    *,
    seed: int = 0,
    budget_s: float = 60.0,
    progress: ProgressCallback | None = None,
    networks: int | None = None,
    partial_path: Path | None = None,
    before_chunk: Callable[[bool], object] | None = None,
) -> KernelPredictor | PricePredictor:
    """Measure random networks on this machine and fit a predictor to them.

    As many are measured as fit into ``budget_s`` CPU seconds (at most ``networks``). A fifth of them, and published
    networks, are held out: the fit does not see them, and ``error`` of the predictor is theirs. The published ones are
    measured at the start, at the end, and in long calibrations in between; what differs is noise. ``seed``: of the
    random networks. ``progress(done, total)``: called with hundredths of the budget. ``partial_path``: file in which
    measurements are saved until the calibration is complete, so that an interrupted one resumes from it.
    ``before_chunk(disturbed)``: called before each chunk of networks, with whether other programs disturbed the one
    before it; it may wait until they are quiet.

    Raises: NasError if ``device`` is not this machine, if the budget is too small for the minimum number of networks,
    or if the clock jumps all the time.
    """
    here = describe(device.backend, device.threads, device.batch, device.precision)
    if here != device:
        raise NasError(f"calibrate: requested for {device}, but this machine is {here}; calibrate on that device.")
    collector = Collector(device, seed, partial_path)
    measure = _measurer(collector, before_chunk or (lambda disturbed: None))
    _collect(collector, measure, budget_s, networks or _MAX_NETWORKS, progress or (lambda done, total: None))
    if collector.lane is None:
        predictor: KernelPredictor | PricePredictor = _fit_price_predictor(collector)
    else:
        predictor = _fit_kernel_predictor(collector, collector.lane)
    collector.discard()
    return predictor


def _measurer(collector: Collector, before_chunk: Callable[[bool], object]) -> Callable[[Sequence[str | int]], None]:
    """Function that measures one more chunk, after ``before_chunk``."""

    def measure(networks: Sequence[str | int]) -> None:
        before_chunk(bool(collector.chunks) and is_busy(collector.chunks[-1].others))
        collector.measure(networks)

    return measure


def _collect(
    collector: Collector,
    measure: Callable[[Sequence[str | int]], None],
    budget_s: float,
    networks: int,
    progress: ProgressCallback,
) -> None:
    """Measure chunks until another one would exceed the budget.

    On an unsteady machine networks are measured longer, where that leaves enough for the minimum number of networks.
    The published ones are measured again at the end, unless the budget just suffices for that number.

    Raises: NasError if the budget is too small for that number.
    """
    if not collector.chunks:
        measure(HELD_OUT_ZOO)
    again_s = collector.chunks[0].spent_s  # of measuring the published networks at the end
    done, minimum = _random_networks(collector), min(_MIN_NETWORKS, networks)
    while done < networks:
        spent_s = collector.spent_s + _FIT_S_PER_NETWORK * done + (again_s if done >= minimum else 0.0)
        progress(min(99, int(100 * max(spent_s / budget_s, done / networks))), 100)
        pace_s, size = _pace_s(collector), min(CHUNK_SIZE, networks - done)
        if done and spent_s + pace_s * size > budget_s:
            break
        if done and done % _REPEAT_EVERY == 0 and not collector.chunks[-1].is_published:
            measure(HELD_OUT_ZOO)
            continue
        required = size * LONGEST + max(0, minimum - done - size)
        collector.may_take_longer = spent_s + again_s + pace_s * required <= budget_s
        measure(range(done, done + size))
        collector.may_take_longer = False
        done = _random_networks(collector)
    if done < minimum:
        # Margin: speeds vary.
        needed_s = (collector.spent_s + _pace_s(collector) * (minimum - done + CHUNK_SIZE)) * 1.25
        raise NasError(
            f"latency.budget_s {budget_s:g}: this machine needs about {needed_s:.0f} CPU seconds to measure the "
            f"minimum number of networks of a calibration ({minimum}); set it to at least "
            f"{max(LEAST_BUDGET_S, math.ceil(needed_s)):g}."
        )
    if not collector.chunks[-1].is_published and (collector.spent_s + again_s <= budget_s or done >= networks):
        measure(HELD_OUT_ZOO)
    progress(100, 100)


def _pace_s(collector: Collector) -> float:
    """CPU seconds per random network that is not measured longer, or somewhat more."""
    random = [chunk for chunk in collector.chunks if not chunk.is_published]
    pace_s = min(chunk.spent_s / len(chunk.networks) for chunk in random or collector.chunks)
    return pace_s if random else _PROFILED * pace_s


def _random_networks(collector: Collector) -> int:
    """The number of random networks that were measured."""
    return sum(isinstance(network, int) for network in collector.networks)


def _fit_kernel_predictor(collector: Collector, lane: int) -> KernelPredictor:
    """Kernel-sum predictor from profiled networks and latencies of whole ones.

    Kernel times are fitted to the profiles, class factors to the latencies of networks that are not held out; the
    held-out networks are the checks.
    """
    start, seed = time.process_time(), collector.seed
    chunks, speed = collector.at_common_speed()
    latencies_ms, profiled = _network_latencies(chunks), list(_profiled(chunks))
    overhead_us = _profiling_overhead_us(
        np.array(
            [
                (sum(us), np.count_nonzero(us), latencies_ms[network])
                for network, us in profiled
                if network in latencies_ms
            ]
        )
    )
    kernels = [
        kernel
        for network, _ in profiled
        for kernel in contextual_kernels(spec_of(network, seed), lane, collector.forms_of(network))
    ]
    times_us = [kernel_us - overhead_us if kernel_us else math.nan for _, us in profiled for kernel_us in us]
    times = kernel_times.fit_kernel_times(kernels, times_us, lane, seed)
    seen = [network for network in latencies_ms if not is_held_out(network)]
    specs, forms = [spec_of(network, seed) for network in seen], [collector.forms_of(network) for network in seen]
    sums = class_sums(specs, times, forms)
    factors = class_factors(sums, [latencies_ms[network] for network in seen])
    predictor = KernelPredictor(
        device=collector.device,
        times=times,
        factors=factors,
        checks=(),
        speed=speed,
        noise=measurement_noise(chunks),
        spent_s=collector.spent_s + time.process_time() - start,
        others=collector.others,
        rewrites=rewrites_blocks(collector.device),
    )
    return predictor.with_checks(
        [
            (spec_of(network, seed), collector.forms_of(network), all_ms)
            for network, all_ms in _measurements(chunks).items()
            if is_held_out(network)
        ]
    )


def _fit_price_predictor(collector: Collector) -> PricePredictor:
    """Operation-price predictor from latencies of whole networks.

    It is for backends whose kernels cannot be timed.
    """
    start = time.process_time()
    chunks, speed = collector.at_common_speed()
    latencies_ms, seed = _network_latencies(chunks), collector.seed
    seen = [network for network in latencies_ms if not is_held_out(network)]
    networks = [(spec_of(network, seed), collector.forms_of(network)) for network in seen]
    prices = op_fit.fit_prices(networks, [latencies_ms[network] for network in seen], collector.device.backend)
    unseen = {network: all_ms for network, all_ms in _measurements(chunks).items() if is_held_out(network)}
    checks = [
        HeldOutCheck.of(
            spec_of(network, seed).name,
            all_ms,
            prices.total_ms(op_fit.network_row(spec_of(network, seed), prices.vectors, collector.forms_of(network))),
        )
        for network, all_ms in unseen.items()
    ]
    return PricePredictor(
        device=collector.device,
        prices=prices,
        checks=checks,
        speed=speed,
        noise=measurement_noise(chunks),
        spent_s=collector.spent_s + time.process_time() - start,
        others=collector.others,
        rewrites=rewrites_blocks(collector.device),
    )


def _profiled(chunks: Sequence[Chunk]) -> Iterator[tuple[str | int, tuple[float, ...]]]:
    """Profiled networks with the times of their kernels in microseconds.

    0 for a kernel that did not run.
    """
    for chunk in chunks:
        for network, times in zip(chunk.networks, chunk.kernels_us, strict=True):
            if times is not None:
                yield network, times


def _network_latencies(chunks: Sequence[Chunk]) -> dict[str | int, float]:
    """Latencies in ms of networks that were measured as a whole, means if repeatedly."""
    return {network: statistics.fmean(latencies_ms) for network, latencies_ms in _measurements(chunks).items()}


def _measurements(chunks: Sequence[Chunk]) -> dict[str | int, list[float]]:
    """All latencies in ms of each network that was measured as a whole."""
    measured: dict[str | int, list[float]] = {}
    for chunk in chunks:
        for network, ms in zip(chunk.networks, chunk.latencies_ms, strict=True):
            if ms is not None:
                measured.setdefault(network, []).append(ms)
    return measured


def measurement_noise(chunks: Sequence[Chunk]) -> float | None:
    """Relative error of one measurement, root mean square, from repeated ones.

    Each at the speed of its chunk. None without any. Its own relative standard error is 1 / sqrt(2 n) for n
    repetitions, a fifth for ten networks that were measured twice; more where the speed of a chunk is told badly, an
    error that its networks share.
    """
    measured = _measurements([chunk.at_speed(1.0) for chunk in chunks]).values()
    logs = [np.log(all_ms) for all_ms in measured if len(all_ms) > 1]
    repetitions = sum(len(values) - 1 for values in logs)
    squares = sum(float(np.square(values - values.mean()).sum()) for values in logs)
    return float(np.sqrt(squares / repetitions)) if logs else None


def _profiling_overhead_us(profiles: npt.NDArray[np.float64]) -> float:
    """Profiling overhead per kernel in microseconds.

    ``profiles``: shape (networks, 3): sum of profiled times in microseconds, number of kernels, and latency in ms of
    the network without profiling.
    """
    latencies_us = profiles[:, 2] * 1e3
    sums, counts = profiles[:, 0] / latencies_us, profiles[:, 1] / latencies_us

    def residuals(parameters: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(parameters[0] * (sums - parameters[1] * counts) - 1)

    # The loss is linear for outliers, so that bursts of other work during a measurement do not dominate.
    solution = least_squares(residuals, [1.0, 1.0], loss="soft_l1", f_scale=0.03, bounds=([0.5, 0.0], [2.0, 10.0]))
    return float(solution.x[1])
