"""Tests of chunks of measurements, their storage and resumption."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nas.arch import zoo
from nas.core.errors import NasError
from nas.latency.arrays import FloatArray
from nas.latency.calibration import collect as module
from nas.latency.calibration.collect import Chunk, Collector, is_held_out, spec_of, unknown_kernels
from nas.latency.host import describe
from nas.latency.measure.kernel_match import KernelMatch
from nas.latency.measure.paired_timing import COLD_RUNS
from nas.latency.measure.system_load import SystemLoad
from nas.latency.measure.timer import LONGEST
from nas.latency.random_networks import random_network
from nas.latency.speed import MachineSpeed
from tests.deadline import DEADLINE_S
from tests.latency.synthetic_device import DEVICE, KERNEL_DEVICE, fake_chunk


@pytest.fixture
def synthetic_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_lane", lambda device: 16)
    monkeypatch.setattr(Collector, "_measure_chunk", fake_chunk)


def test_chunks_survive_a_kill_and_a_torn_line(synthetic_device: None, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "device.measured"
    first = Collector(KERNEL_DEVICE, 0, path)
    first.measure(["mobilenetv1_025"])
    first.measure([0, 1, 2])
    with path.open("a") as file:
        file.write('{"networks": [3, 4], "laten')
    again = Collector(KERNEL_DEVICE, 0, path)
    assert again.chunks == first.chunks
    assert again.networks == ["mobilenetv1_025", 0, 1, 2]
    again.measure([3, 4])
    assert Collector(KERNEL_DEVICE, 0, path).networks == ["mobilenetv1_025", 0, 1, 2, 3, 4]
    again.discard()
    assert not path.exists()


def test_measurements_of_another_device_or_seed_are_not_resumed(synthetic_device: None, tmp_path: Path) -> None:
    path = tmp_path / "device.measured"
    Collector(DEVICE, 0, path).measure([0])
    assert Collector(DEVICE, 0, path).networks == [0]
    assert Collector(DEVICE, 1, path).networks == []
    Collector(DEVICE, 0, path).measure([0])
    assert Collector(replace(DEVICE, batch=2), 0, path).networks == []


def test_a_slow_chunk_is_scaled_to_the_common_speed() -> None:
    def chunk(probe_ms: float) -> Chunk:
        return Chunk(
            networks=(0, 1),
            latencies_ms=(10.0 * probe_ms, None),
            kernels_us=(None, (4.0 * probe_ms,)),
            probe_ms=probe_ms,
            probes_ms=(probe_ms,) * 10,
            spent_s=1.0,
        )

    collector = Collector(DEVICE, 0, None)
    collector.chunks = [chunk(2.0), chunk(2.0), chunk(3.0)]
    steady, speed = collector.at_common_speed()
    assert speed == MachineSpeed(typical_ms=2.0, fast_ms=2.0, slow_ms=3.0)
    assert [one.latencies_ms[0] for one in steady] == pytest.approx([20.0] * 3)
    assert [one.kernels_us[1] for one in steady] == [pytest.approx((8.0,))] * 3
    assert collector.spent_s == 3.0


def test_disturbed_chunks_do_not_count_where_there_are_enough_others() -> None:
    def chunk(others: float | None, probe_ms: float, networks: int = 100) -> Chunk:
        return Chunk(
            networks=tuple(range(networks)),
            latencies_ms=(1.0,) * networks,
            kernels_us=(None,) * networks,
            probe_ms=probe_ms,
            probes_ms=(probe_ms,),
            spent_s=1.0,
            others=others,
        )

    collector = Collector(DEVICE, 0, None)
    collector.chunks = [chunk(0.0, 2.0), chunk(0.1, 2.0), chunk(0.9, 3.0), chunk(1.0, 3.0), chunk(1.4, 3.0)]
    assert len(collector.at_common_speed()[0]) == 2
    assert collector.others == pytest.approx(0.05)
    collector.chunks = collector.chunks[1:]
    assert [one.others for one in collector.at_common_speed()[0]] == [0.1, 0.9, 1.0]  # 0.9 and 1.0 are alike
    assert collector.others == pytest.approx((0.1 + 0.9 + 1.0) / 3)


def test_the_noise_is_told_however_disturbed_the_published_networks_are() -> None:
    def chunk(network: str | int, others: float) -> Chunk:
        return Chunk(
            networks=(network,) * 200,
            latencies_ms=(1.0,) * 200,
            kernels_us=(None,) * 200,
            probe_ms=2.0,
            probes_ms=(2.0,),
            spent_s=1.0,
            others=others,
        )

    collector = Collector(DEVICE, 0, None)
    collector.chunks = [
        chunk("mixnet_s", 1.5),
        chunk(0, 0.3),
        chunk(1, 0.9),
        chunk("mixnet_s", 1.7),
        chunk("mixnet_s", 1.6),
    ]
    assert [one.others for one in collector.at_common_speed()[0]] == [1.5, 0.3, 1.6]


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux reports the load of other programs")
def test_the_work_of_another_program_is_seen_and_our_own_is_not() -> None:
    code = "import time; start = time.process_time()\nwhile time.process_time() < start + 0.6: pass"
    before = SystemLoad.now()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=DEADLINE_S)
    after = SystemLoad.now()
    others = after.others_since(before)
    assert others is not None and others * (after.wall_s - before.wall_s) >= 0.5
    mine = SystemLoad(all_s=before.all_s and before.all_s + 7.0, own_s=before.own_s + 5.0, wall_s=before.wall_s + 10.0)
    assert mine.others_since(before) == pytest.approx(0.2)
    assert SystemLoad(all_s=None, own_s=0.0, wall_s=1.0).others_since(before) is None


def test_slowdowns_belong_to_the_runs_of_a_profile_also_in_more_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The speed changes every 50 ms, and every seventh run is disturbed."""
    now_s, runs = 0.0, 0

    def slowdown() -> float:
        return 1.3 if int(now_s / 0.05) % 2 else 1.0

    def passes(cost_s: float, *, is_disturbed: bool = False) -> None:
        nonlocal now_s
        now_s += cost_s * slowdown() * (1.5 if is_disturbed else 1.0)

    def timed(run: Callable[[], object]) -> float:
        start_s = now_s
        run()
        return now_s - start_s

    class Profiled:
        """A network of 3 ms that knows how slow the machine was in each of its runs."""

        def __init__(self, *_: object, **__: object) -> None:
            self.slowdowns: list[float] = []

        def run(self) -> None:
            nonlocal runs
            runs += 1
            self.slowdowns.append(slowdown())
            passes(3e-3, is_disturbed=runs % 7 == 0)

        def finish(self, stated: Sequence[float]) -> list[object]:
            finished.append(np.array(stated) / self.slowdowns)
            return []

    finished: list[FloatArray] = []
    monkeypatch.setattr(module, "_lane", lambda device: 16)
    monkeypatch.setattr(module, "ProfiledNetwork", Profiled)
    monkeypatch.setattr(module, "call_times_us", lambda events, calls: [1.0] * len(calls))
    monkeypatch.setattr(module, "runner", lambda *_, **__: Profiled().run)
    monkeypatch.setattr("nas.latency.measure.timer.speed_probe", lambda device: lambda: passes(0.15e-3))
    monkeypatch.setattr("nas.latency.measure.timer.stopwatch", lambda *_: timed)
    for target_error, rounds in ((1.0, module._ROUNDS), (-1.0, LONGEST * module._ROUNDS)):
        monkeypatch.setattr(module, "_TARGET_ERROR", target_error)
        collector = Collector(KERNEL_DEVICE, 0, None)
        collector.may_take_longer = True
        finished.clear()
        collector.measure(range(6))
        assert len(finished) == 4  # two of six are held out
        for ratios in finished:
            assert len(ratios) == 1 + rounds * (COLD_RUNS + module._RUNS)
            counted = ratios[~np.isnan(ratios)]
            assert len(counted) == rounds * module._RUNS
            # All by the same factor, the machine's typical slowdown, but for runs in which the speed changed.
            assert np.mean(np.isclose(counted, np.median(counted))) > 0.8


def test_names_of_networks_are_stable() -> None:
    assert spec_of("mixnet_s", 5) == zoo.get("mixnet_s")
    assert spec_of(17, 5) == random_network(5, 17)
    assert spec_of(17, 5) != spec_of(17, 6)
    assert [is_held_out(network) for network in ("mixnet_s", 0, 1, 4, 5)] == [True, True, False, False, True]


@pytest.mark.parametrize(
    ("unknown_us", "lane", "said"),
    [
        ({}, 8, ""),
        ({"Stitch": 1.0, "Pad": 9.0}, 8, r"mixnet_s at 64 px: Pad 9\.0%, Stitch 1\.0%; the time of each counts to"),
        ({"NewConv": 60.0}, None, r"NewConv 60\.0%; together 60%, more than half: whole operations are priced"),
    ],
)
def test_kernels_are_timed_unless_most_of_the_time_is_in_unknown_ones(
    unknown_us: dict[str, float], lane: int | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    match = KernelMatch(times_us=(70.0, 30.0), unknown_us=unknown_us, absent=0)
    monkeypatch.setattr(module, "sample_kernels", lambda device: (8, match))
    assert Collector(KERNEL_DEVICE, 0, None).lane == lane
    assert re.search(said or "^$", unknown_kernels(KERNEL_DEVICE))
    assert unknown_kernels(DEVICE) == ""  # int8: kernels are not timed one by one


def test_what_was_measured_before_a_failure_is_kept(
    synthetic_device: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "device.measured"
    collector = Collector(DEVICE, 0, path)
    collector.measure([0, 1])

    def suspended(*_: object) -> Chunk:
        raise NasError("the clock jumped")

    monkeypatch.setattr(Collector, "_measure_chunk", suspended)
    with pytest.raises(NasError, match="jumped"):
        collector.measure([2])
    assert Collector(DEVICE, 0, path).networks == [0, 1]


@pytest.mark.usefixtures("unsteady")
def test_kernels_and_whole_networks_are_measured_on_this_machine() -> None:
    collector = Collector(describe("onnxruntime"), 0, None)
    collector.measure(["mobilenetv3_small_050", 5, 6, 7])
    (chunk,) = collector.chunks
    assert [ms is not None for ms in chunk.latencies_ms] == [True, True, True, False]
    assert [times is not None for times in chunk.kernels_us] == [False, False, True, True]
    assert all(us > 0 for times in chunk.kernels_us if times for us in times)
