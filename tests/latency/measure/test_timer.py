"""Tests of the timer: interleaving, low quantiles, changes of the machine's speed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.core.errors import NasError
from nas.latency.measure import timer as module
from nas.latency.measure.timer import (
    COLD_RUNS,
    LARGEST_DRIFT,
    at_common_speed,
    drifts,
    interleaved,
    measure_many,
    steady_measurements,
    summarize,
)
from tests.latency.synthetic_device import DEVICE
from tests.latency.tiny import TINY

ROUNDS, RUNS = 10, 4


class Machine:
    """Synthetic machine whose speed changes with every round.

    Every network runs ``RUNS`` times per round.
    """

    def __init__(self, slowdowns: list[float]) -> None:
        self.slowdowns = slowdowns
        self.timed: Counter[float] = Counter()

    def network(self, cost_s: float) -> Callable[[], float]:
        return lambda: cost_s

    def timer(self, run: Callable[[], float]) -> float:
        cost_s = run()
        turn, self.timed[cost_s] = self.timed[cost_s] // RUNS, self.timed[cost_s] + 1
        return cost_s * self.slowdowns[turn]


def test_networks_are_interleaved_and_cold_runs_are_not_timed() -> None:
    log, now = "", 0.0

    def network(name: str, cost: float) -> Callable[[], None]:
        def run() -> None:
            nonlocal log, now
            log, now = log + name, now + cost

        return run

    def timer(run: Callable[[], object]) -> float:
        start = now
        run()
        return now - start

    times = interleaved([network("a", 1.0), network("b", 5.0)], rounds=2, runs=3, timer=timer)
    assert times.tolist() == [[[1.0] * 3, [5.0] * 3]] * 2
    assert log == "ab" + 2 * ((COLD_RUNS + 3) * "a" + (COLD_RUNS + 3) * "b")


def test_summary_is_the_low_quantile_and_the_distance_of_the_quartiles() -> None:
    # 1, 2, ..., 101 ms: the q quantile of 101 equally spaced values is 1 + 100 q.
    times_s = np.arange(1, 102) * 1e-3
    measurement = summarize(times_s, DEVICE, reference=2 * times_s)
    assert measurement.latency_ms == pytest.approx(26.0)
    assert measurement.spread_ms == pytest.approx(50.0)
    assert measurement.reference_ms == pytest.approx(52.0)
    assert measurement.runs == 101
    assert str(DEVICE) in str(measurement)


def test_a_drift_is_measured_against_the_fast_rounds() -> None:
    slowdowns = np.array([1.0, 1.0, 1.0, 1.3, 1.3, 2.0])
    np.testing.assert_allclose(drifts(np.outer(slowdowns, np.ones(RUNS)) * 7.0), slowdowns)


def test_a_round_far_faster_than_the_others_is_as_odd_as_a_slower_one() -> None:
    speeds = np.array([0.5] + [1.0] * 9)
    np.testing.assert_allclose(drifts(np.outer(speeds, np.ones(RUNS))), [2.0] + [1.0] * 9)


def test_rounds_at_another_speed_are_left_out_and_the_others_untouched() -> None:
    durations = np.random.default_rng(0).uniform(1e-3, 5e-3, (5, 3, RUNS))
    drift = np.array([1.0, LARGEST_DRIFT, LARGEST_DRIFT + 0.01, 1.2, 4.0])
    np.testing.assert_array_equal(steady_measurements(durations, drift), durations[[0, 1, 3]])
    with pytest.raises(NasError, match=r"by up to 4\.0 times .* in 2 of 5 rounds"):
        steady_measurements(durations, drift, least=4)


def fake(monkeypatch: pytest.MonkeyPatch, slowdowns: list[float]) -> None:
    """Let ``measure_many`` measure a 3 ms network and a 2 ms reference on ``Machine``."""
    machine = Machine(slowdowns)
    monkeypatch.setattr(module, "reference_runner", lambda _: machine.network(2e-3))
    monkeypatch.setattr(module, "runner", lambda *_, **__: machine.network(3e-3))
    monkeypatch.setattr(module, "stopwatch", lambda *_: machine.timer)


@given(st.lists(st.floats(1.0, 4.0), min_size=ROUNDS - 3, max_size=ROUNDS - 3), st.integers(0, 5))
def test_injected_slowdowns_do_not_change_the_latency(slow: list[float], at: int) -> None:
    """Latency is exact if three of ten rounds are at full speed."""
    slowdowns = [*slow[:at], *[1.0] * 3, *slow[at:]]
    with pytest.MonkeyPatch.context() as patch:
        fake(patch, slowdowns + [1.0] * ROUNDS)  # as many rounds again, if too few of these could be used
        (measurement,) = measure_many([TINY], rounds=ROUNDS, runs=RUNS)
    assert measurement.latency_ms == pytest.approx(3.0)
    assert measurement.reference_ms == pytest.approx(2.0)


def test_disturbed_rounds_are_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, [1.0, 2.0, 2.0, 1.0, 1.3, 1.0])
    (measurement,) = measure_many([TINY], rounds=3, runs=RUNS)
    assert measurement.latency_ms == pytest.approx(3.0)
    assert measurement.runs == 4 * RUNS  # of the six rounds, the two at half speed are left out


def test_an_unstable_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # The machine's speed is the second of ten: 1, 1, 2, 4, ..., 256. Two rounds keep it, fewer than half of five.
    fake(monkeypatch, [1.0, *[2.0**index for index in range(9)]])
    with pytest.raises(NasError, match=r"changed speed by up to 256\.0 times .* in 8 of 10 rounds; close other"):
        measure_many([TINY], rounds=5, runs=RUNS)


def test_measurements_of_several_calls_are_scaled_to_the_median_speed() -> None:
    calls = [
        summarize([10e-3 * slow], DEVICE, reference=[2e-3 * slow])
        for slow in (1.0, 1.1, 1.6)  # each call met the machine at another speed
    ]
    assert [one.latency_ms for one in at_common_speed(calls)] == pytest.approx([11.0] * 3)
    assert [one.reference_ms for one in at_common_speed(calls)] == pytest.approx([2.2] * 3)
    assert [one.latency_ms for one in at_common_speed(calls, 2.0)] == pytest.approx([10.0] * 3)
    lone = replace(calls[0], reference_ms=None)
    assert at_common_speed([lone]) == [lone]
    assert at_common_speed([lone, calls[2]])[0] == lone


@pytest.mark.usefixtures("unsteady")
@pytest.mark.parametrize(
    ("backend", "precision"), [("onnxruntime", "float32"), ("onnxruntime", "int8"), ("torch", "float32")]
)
def test_cpu_backends_run_a_network(backend: str, precision: str) -> None:
    first, second = measure_many([TINY, TINY], backend=backend, precision=precision, rounds=2, runs=2, batch=2)
    assert first.latency_ms > 0
    assert second.runs == 4
    assert (first.device.backend, first.device.precision, first.device.batch) == (backend, precision, 2)
    assert first.reference_ms is not None
    assert first.reference_ms > first.latency_ms  # a network of 60 million multiply-adds beside one of half a million


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(NasError, match="rounds 0: must be a whole number of at least 1"):
        measure_many([TINY], rounds=0)
    with pytest.raises(NasError, match="'macs'"):
        measure_many([TINY], backend="macs")
    with pytest.raises(NasError, match=r"precision 'int8': torch runs float32"):
        measure_many([TINY], backend="torch", precision="int8")
