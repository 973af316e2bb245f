"""Measuring takes turns, reads the clock it is given, and reports low quantiles."""

from __future__ import annotations

import numpy as np
import pytest

from nas.arch.errors import NasError
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.latency.measure import interleaved, measure_many, runner, summary

from .law import DEVICE

TINY = ArchSpec.from_strings(
    "tiny", [["ir_r1_k3_s2_e2_c8"]], stem=StemSpec(channels=8), head=HeadSpec(channels=16), resolution_px=32, classes=3
)


def test_networks_take_turns_and_the_first_run_of_a_turn_is_not_timed() -> None:
    log: list[str] = []
    now = 0.0

    def fake(name: str, cost: float):
        def run() -> None:
            nonlocal now
            now += cost
            log.append(name)

        return run

    times = interleaved([fake("a", 1.0), fake("b", 5.0)], rounds=2, runs=3, clock=lambda: now)
    assert times == [[1.0] * 6, [5.0] * 6]
    assert "".join(log) == "ab" + 2 * ("aaaa" + "bbbb")


def test_summary_is_the_low_quantile_and_the_distance_of_the_quartiles() -> None:
    # 1, 2, ..., 101 ms: the q quantile of 101 equally spaced values is 1 + 100 q.
    measurement = summary(np.arange(1, 102) * 1e-3, DEVICE)
    assert measurement.latency_ms == pytest.approx(21.0)
    assert measurement.spread_ms == pytest.approx(50.0)
    assert measurement.runs == 101
    assert str(DEVICE) in str(measurement)


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_both_backends_run_a_network(backend: str) -> None:
    first, second = measure_many([TINY, TINY], backend=backend, rounds=2, runs=2, batch=2)
    assert first.latency_ms > 0
    assert second.runs == 4
    assert first.device.backend == backend
    assert first.device.batch == 2


def test_runners_give_the_output_of_the_batch() -> None:
    (outputs,) = runner(TINY, backend="onnxruntime", batch=2)()
    assert outputs.shape == (2, 3)
    assert np.ptp(outputs) > 0
    assert runner(TINY, backend="torch", batch=2)().shape == (2, 3)


def test_torch_keeps_the_thread_count_of_its_caller() -> None:
    import torch

    before = torch.get_num_threads()
    runner(TINY, backend="torch", threads=before + 1)()
    assert torch.get_num_threads() == before


def test_mistakes_are_named() -> None:
    with pytest.raises(NasError, match="rounds 0: must be a whole number of at least 1"):
        measure_many([TINY], rounds=0)
    with pytest.raises(NasError, match="'macs'"):
        measure_many([TINY], backend="macs")
