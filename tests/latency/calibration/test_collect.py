"""Tests of chunks of measurements, their storage and resumption."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nas.arch import zoo
from nas.core.errors import NasError
from nas.latency.calibration import collect as module
from nas.latency.calibration.collect import Chunk, Collector, is_held_out, spec_of
from nas.latency.host import describe
from nas.latency.measure.system_load import SystemLoad
from nas.latency.random_networks import random_spec
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
    def chunk(reference_ms: float) -> Chunk:
        return Chunk(
            networks=(0, 1),
            latencies_ms=(10.0 * reference_ms, None),
            kernels_us=(None, (4.0 * reference_ms,)),
            reference_ms=reference_ms,
            spent_s=1.0,
        )

    collector = Collector(DEVICE, 0, None)
    collector.chunks = [chunk(2.0), chunk(2.0), chunk(3.0)]
    steady, reference_ms = collector.at_common_speed()
    assert reference_ms == 2.0
    assert [one.latencies_ms[0] for one in steady] == pytest.approx([20.0] * 3)
    assert [one.kernels_us[1] for one in steady] == [pytest.approx((8.0,))] * 3
    assert collector.spent_s == 3.0


def test_disturbed_chunks_do_not_count_where_there_are_enough_others() -> None:
    def chunk(others: float | None, reference_ms: float, networks: int = 100) -> Chunk:
        return Chunk(
            networks=tuple(range(networks)),
            latencies_ms=(1.0,) * networks,
            kernels_us=(None,) * networks,
            reference_ms=reference_ms,
            spent_s=1.0,
            others=others,
        )

    collector = Collector(DEVICE, 0, None)
    collector.chunks = [chunk(0.0, 2.0), chunk(0.1, 2.0), chunk(0.9, 3.0), chunk(1.0, 3.0), chunk(1.1, 3.0)]
    assert len(collector.at_common_speed()[0]) == 2
    assert collector.others == pytest.approx(0.05)
    collector.chunks = collector.chunks[1:]
    assert len(collector.at_common_speed()[0]) == 4
    assert collector.others == pytest.approx((0.1 + 0.9 + 1.0 + 1.1) / 4)


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


def test_names_of_networks_are_stable() -> None:
    assert spec_of("mixnet_s", 5) == zoo.get("mixnet_s")
    assert spec_of(17, 5) == random_spec(5, 17)
    assert spec_of(17, 5) != spec_of(17, 6)
    assert [is_held_out(network) for network in ("mixnet_s", 0, 1, 4, 5)] == [True, True, False, False, True]


def test_an_unstable_machine_is_refused_after_three_attempts(
    synthetic_device: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def unstable(*_: object) -> Chunk:
        nonlocal tries
        tries += 1
        raise NasError("the machine changed speed")

    monkeypatch.setattr(Collector, "_measure_chunk", unstable)
    with pytest.raises(NasError, match="changed speed"):
        Collector(DEVICE, 0, None).measure([0])
    assert tries == 3


@pytest.mark.usefixtures("unsteady")
def test_kernels_and_whole_networks_are_measured_on_this_machine() -> None:
    collector = Collector(describe("onnxruntime"), 0, None)
    collector.measure(["mobilenetv3_small_050", 5, 6, 7])
    (chunk,) = collector.chunks
    assert [ms is not None for ms in chunk.latencies_ms] == [True, True, True, False]
    assert [times is not None for times in chunk.kernels_us] == [False, False, True, True]
    assert all(us > 0 for times in chunk.kernels_us if times for us in times)
