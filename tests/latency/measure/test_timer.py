"""Tests of measurements: networks timed on a machine that changes its speed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.core.errors import NasError
from nas.latency.measure import timer as module
from nas.latency.measure.backends import runner
from nas.latency.measure.paired_timing import COLD_RUNS, PROBE_COLD_RUNS
from nas.latency.measure.timer import at_common_speed, measure, measure_many, speed_probe, stopwatch
from tests.latency.synthetic_device import DEVICE
from tests.latency.tiny import TINY

NETWORK_S, PROBE_S = 3e-3, 0.2e-3


class Machine:
    """Synthetic machine: a run takes its cost times the slowdown of the moment, and time passes by nothing else.

    ``slowdown``: by time in s.
    """

    def __init__(self, slowdown: Callable[[float], float]) -> None:
        self.slowdown, self.now_s = slowdown, 0.0

    def runs(self, cost_s: float) -> Callable[[], None]:
        def run() -> None:
            self.now_s += cost_s * self.slowdown(self.now_s)

        return run

    def timed(self, run: Callable[[], object]) -> float:
        start_s = self.now_s
        run()
        return self.now_s - start_s


def fake(monkeypatch: pytest.MonkeyPatch, slowdown: Callable[[float], float]) -> Machine:
    """Let ``measure_many`` measure a network of ``NETWORK_S`` and a probe of ``PROBE_S`` on ``Machine``."""
    machine = Machine(slowdown)
    monkeypatch.setattr(module, "speed_probe", lambda _: machine.runs(PROBE_S))
    monkeypatch.setattr(module, "runner", lambda *_, **__: machine.runs(NETWORK_S))
    monkeypatch.setattr(module, "stopwatch", lambda *_: machine.timed)
    return machine


def test_networks_are_interleaved_and_cold_runs_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    monkeypatch.setattr(module, "speed_probe", lambda _: lambda: log.append("p"))
    runners = iter([partial(log.append, "a"), partial(log.append, "b")])
    monkeypatch.setattr(module, "runner", lambda *_, **__: next(runners))

    def timed(run: Callable[[], object]) -> float:
        run()
        log[-1] = log[-1].upper()
        return 1.0

    monkeypatch.setattr(module, "stopwatch", lambda *_: timed)
    measure_many([TINY, TINY], rounds=2, runs=2)
    probed = PROBE_COLD_RUNS * "p" + "P"
    turn = [COLD_RUNS * name + probed + 2 * (name.upper() + probed) for name in "ab"]
    assert "".join(log) == "ab" + 2 * (turn[0] + turn[1])


@given(st.lists(st.floats(0.5, 4.0), min_size=5, max_size=40), st.floats(0.05, 3.0))
def test_changes_of_speed_do_not_change_the_ratio(slowdowns: list[float], length_s: float) -> None:
    """Speeds last for 50 ms or longer, so that most runs have the speed of their probes."""

    def slowdown(now_s: float) -> float:
        return slowdowns[int(now_s / length_s) % len(slowdowns)]

    with pytest.MonkeyPatch.context() as patch:
        fake(patch, slowdown)
        measurement = measure(TINY)
    assert measurement.at_speed(PROBE_S * 1e3).latency_ms == pytest.approx(NETWORK_S * 1e3, rel=1e-6)


def test_figures_of_a_steady_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, lambda _: 1.25)
    measurement = measure(TINY, rounds=4, runs=3)
    assert measurement.latency_ms == pytest.approx(1.25 * 3.0)
    assert measurement.probe_ms == pytest.approx(1.25 * 0.2)
    assert (measurement.spread_ms, measurement.error_ms) == (pytest.approx(0.0), pytest.approx(0.0))
    assert measurement.runs == 12
    assert str(measurement.device) in str(measurement) and "3.75 ± 0.00 ms" in str(measurement)


def test_measurements_of_several_calls_are_scaled_to_the_median_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    for slow in (1.0, 1.1, 1.6):  # each call meets the machine at another speed
        fake(monkeypatch, lambda _, slow=slow: slow)
        calls.append(measure(TINY))
    assert [one.latency_ms for one in at_common_speed(calls)] == pytest.approx([3.3] * 3)
    assert [one.probe_ms for one in at_common_speed(calls)] == pytest.approx([0.22] * 3)
    assert [one.latency_ms for one in at_common_speed(calls, 0.2)] == pytest.approx([3.0] * 3)


def test_an_unsteady_machine_is_measured_in_more_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some neighbour's work slows the network, but not the probe, in every other round."""
    for share, rounds in ((0.0, 6), (0.5, 18)):
        machine = fake(monkeypatch, lambda _: 1.0)
        calls = 0

        def disturbed(machine: Machine = machine, share: float = share) -> None:
            nonlocal calls
            calls += 1
            machine.now_s += NETWORK_S * (1 + share * (calls // (COLD_RUNS + 2) % 2))

        monkeypatch.setattr(module, "runner", lambda *_, run=disturbed, **__: run)
        measurement = measure(TINY, rounds=6)
        assert measurement.runs == rounds * module.RUNS
        assert (measurement.error_ms > 0.03 * measurement.latency_ms) == (share > 0)


def test_a_probe_that_does_not_run_is_an_error_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object, **__: object) -> Callable[[], object]:
        raise RuntimeError("illegal instruction")

    monkeypatch.setattr(module, "runner", crash)
    speed_probe.cache_clear()
    with pytest.raises(NasError, match=r"speed of test core.* does not run there \(illegal instruction\)\.$"):
        speed_probe(DEVICE)
    speed_probe.cache_clear()


@pytest.mark.usefixtures("unsteady")
@pytest.mark.parametrize(
    ("backend", "precision"), [("onnxruntime", "float32"), ("onnxruntime", "int8"), ("torch", "float32")]
)
def test_cpu_backends_run_a_network(backend: str, precision: str) -> None:
    first, second = measure_many([TINY, TINY], backend=backend, precision=precision, rounds=2, runs=2, batch=2)
    assert first.latency_ms > 0
    assert second.runs == 4
    assert (first.device.backend, first.device.precision, first.device.batch) == (backend, precision, 2)
    assert first.probe_ms > 0


def test_a_stopwatch_counts_the_work_of_its_own_thread() -> None:
    run, timed = runner(TINY, backend="onnxruntime"), stopwatch("onnxruntime", 1)
    assert timed(run) > 0
    assert timed(lambda: None) >= 0


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(NasError, match="rounds 0: must be a whole number of at least 1"):
        measure_many([TINY], rounds=0)
    with pytest.raises(NasError, match="'macs'"):
        measure_many([TINY], backend="macs")
    with pytest.raises(NasError, match=r"precision 'int8': torch runs float32"):
        measure_many([TINY], backend="torch", precision="int8")
