"""Tests of calibration end to end, on synthetic devices and on this machine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.arch import zoo
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.exporters.rewriting.forms import Forms
from nas.latency import store
from nas.latency.calibration import calibrate as module
from nas.latency.calibration import collect
from nas.latency.calibration.calibrate import calibrate
from nas.latency.calibration.collect import HELD_OUT_ZOO, Chunk, Collector
from nas.latency.host import describe
from nas.latency.measure.system_load import SystemLoad
from nas.latency.predictors import op_fit
from nas.latency.predictors.base import forms_of
from nas.latency.predictors.held_out import HeldOutCheck
from nas.latency.predictors.kernel_sum import KernelPredictor
from nas.latency.predictors.macs import MacsPredictor
from nas.latency.predictors.op_fit import Prices
from nas.latency.predictors.op_regression import PricePredictor
from nas.latency.settings import LatencySettings
from nas.latency.speed import MachineSpeed
from nas.latency.store import (
    calibration_command,
    device_of,
    disturbance_warning,
    load_or_calibrate,
    load_predictor,
    save_predictor,
)
from tests.latency.synthetic_device import (
    CHUNK_S,
    DEVICE,
    KERNEL_DEVICE,
    LANE,
    PROBE_MS,
    fake_chunk,
    true_kernel_sum_ms,
    true_ms,
    unknown_chunk,
    unknown_ms,
)


@pytest.fixture
def synthetic_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for room in (module, store):
        monkeypatch.setattr(room, "describe", lambda *_: DEVICE)
    monkeypatch.setattr(collect, "_lane", lambda device: LANE)
    monkeypatch.setattr(Collector, "_measure_chunk", fake_chunk)


NETWORKS = ("mobilenetv2_140", "mixnet_l", "mobilenetv3_small_075")


def assert_prices_plain_and_rewritten_blocks(
    predictor: KernelPredictor | PricePredictor,
    names: Sequence[str],
    latency_ms: Callable[[ArchSpec, Forms | None], float],
    *,
    error: float,
) -> None:
    """Predictions are those of the device, for blocks as they are and in the forms that the predictor chooses."""
    assert predictor.rewrites
    plain = predictor.with_rewrites(False)
    for name in names:
        spec = zoo.get(name)
        forms = forms_of(predictor, spec)
        assert plain.predict(spec).latency_ms == pytest.approx(latency_ms(spec, None), rel=error)
        assert predictor.predict(spec).latency_ms == pytest.approx(latency_ms(spec, forms), rel=error)
        assert latency_ms(spec, forms) <= latency_ms(spec, None)


def forbid_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(Collector, "_measure_chunk", refuse)


def test_price_calibration_on_a_synthetic_device(synthetic_device: None) -> None:
    calls: list[tuple[int, int]] = []
    predictor = calibrate(DEVICE, seed=5, networks=160, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (100, 100)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert isinstance(predictor, PricePredictor)
    assert predictor.device == DEVICE
    assert predictor.error.networks == 160 // 5 + len(HELD_OUT_ZOO)
    assert predictor.error.median < 0.02
    assert predictor.error.kendall_tau > 0.95
    assert_prices_plain_and_rewritten_blocks(predictor, ["mobilenetv2_140", "mixnet_l"], true_ms, error=0.1)


def test_kernel_calibration_excludes_profiling_overhead(
    synthetic_device: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "describe", lambda *_: KERNEL_DEVICE)
    predictor = calibrate(KERNEL_DEVICE, seed=5, networks=160)
    assert isinstance(predictor, KernelPredictor)
    assert predictor.speed == MachineSpeed(typical_ms=PROBE_MS, fast_ms=PROBE_MS, slow_ms=PROBE_MS)
    assert predictor.noise == 0.0
    assert predictor.error is not None
    assert predictor.error.networks == 160 // 5 + len(HELD_OUT_ZOO)
    assert predictor.error.median < 0.02
    assert_prices_plain_and_rewritten_blocks(predictor, NETWORKS, true_kernel_sum_ms, error=0.06)


def test_kernels_that_are_not_predicted_are_learned(synthetic_device: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "describe", lambda *_: KERNEL_DEVICE)
    monkeypatch.setattr(Collector, "_measure_chunk", unknown_chunk)
    predictor = calibrate(KERNEL_DEVICE, seed=5, networks=160)
    assert isinstance(predictor, KernelPredictor)
    assert predictor.error is not None
    assert predictor.error.median < 0.02
    assert_prices_plain_and_rewritten_blocks(predictor, NETWORKS, unknown_ms, error=0.06)


def test_unknown_kernels_fall_back_to_operation_prices(synthetic_device: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "describe", lambda *_: KERNEL_DEVICE)
    monkeypatch.setattr(collect, "_lane", lambda device: None)
    assert isinstance(calibrate(KERNEL_DEVICE, networks=60), PricePredictor)


def test_an_interrupted_calibration_resumes(
    synthetic_device: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial_path, seen = tmp_path / "device.measured", list[str | int]()

    def until_interrupted(collector: Collector, networks: Sequence[str | int]) -> Chunk:
        if len(seen) > 40:
            raise KeyboardInterrupt
        seen.extend(networks)
        return fake_chunk(collector, networks)

    monkeypatch.setattr(Collector, "_measure_chunk", until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        calibrate(DEVICE, networks=100, partial_path=partial_path)
    before = list(seen)
    monkeypatch.setattr(Collector, "_measure_chunk", lambda *given: (seen.extend(given[1]), fake_chunk(*given))[1])
    predictor = calibrate(DEVICE, networks=100, partial_path=partial_path)
    assert seen == [*HELD_OUT_ZOO, *range(100), *HELD_OUT_ZOO]
    assert 0 < len(before) < len(seen)
    assert not partial_path.exists()
    spec = zoo.get("mixnet_s")
    assert predictor.predict(spec) == calibrate(DEVICE, networks=100).predict(spec)


def test_published_networks_tell_the_noise_of_a_noisy_device(
    synthetic_device: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, seen = np.random.default_rng(0), list[str | int]()

    def noisy(collector: Collector, networks: Sequence[str | int]) -> Chunk:
        chunk = fake_chunk(collector, networks)
        seen.extend(networks)
        latencies_ms = tuple(ms and ms * float(np.exp(rng.normal(0, 0.05))) for ms in chunk.latencies_ms)
        return replace(chunk, latencies_ms=latencies_ms)

    monkeypatch.setattr(Collector, "_measure_chunk", noisy)
    monkeypatch.setattr(module, "_REPEAT_EVERY", 40)
    predictor = calibrate(DEVICE, networks=100)
    assert seen == [
        *HELD_OUT_ZOO,
        *range(40),
        *HELD_OUT_ZOO,
        *range(40, 80),
        *HELD_OUT_ZOO,
        *range(80, 100),
        *HELD_OUT_ZOO,
    ]
    repetitions = 3 * len(HELD_OUT_ZOO)
    assert predictor.noise == pytest.approx(0.05, rel=3 / (2 * repetitions) ** 0.5)
    assert predictor.error is not None and predictor.error.sources is not None
    assert predictor.error.sources.repetitions == repetitions
    # Of 30 networks held out, 10 are the mean of four measurements.
    expected = predictor.noise * ((20 + 10 / 4) / 30) ** 0.5
    assert predictor.error.sources.measuring == pytest.approx(expected)


@pytest.mark.parametrize(
    ("error", "noise", "words"),
    [
        (0.03, 0.01, ""),
        (0.03, 0.0, ""),
        (0.03, None, ""),
        (
            0.03,
            0.025,
            "Measuring causes most of the held-out error: 2.3% of an RMS of 3.0%; the predictor is better than that; a "
            "longer budget_s, or a quieter machine, would tell by how much.",
        ),
        (0.03, 0.05, "Measuring causes most .*: 4.7% of an RMS of 3.0%; the predictor is better than that; a .*"),
        (
            0.15,
            0.14,
            r"The machine did not settle during the calibration: one measurement of a network errs by 14% \(RMS, from "
            r"10 networks measured twice\); the calibration is kept, but predictions may be off by as much.",
        ),
    ],
)
def test_a_calibration_that_noise_limits_says_what_would_help(error: float, noise: float | None, words: str) -> None:
    checks = [
        HeldOutCheck.of(str(row), [10.0] * (2 if row < 10 else 1), 10 * (1 + error * (-1) ** row)) for row in range(42)
    ]
    prices = Prices(values={}, scale=1.0, vectors=LANE)
    predictor = PricePredictor(device=DEVICE, prices=prices, checks=checks, noise=noise, spent_s=58.0)
    assert re.fullmatch(words, disturbance_warning(predictor))


def test_json_and_back_predicts_the_same(synthetic_device: None, tmp_path: Path) -> None:
    predictor = calibrate(DEVICE, networks=60)
    save_predictor(predictor, tmp_path / "sub" / "latency.json")
    again = load_predictor(tmp_path / "sub" / "latency.json", LatencySettings())
    spec = zoo.get("mixnet_l")
    assert again.predict(spec) == predictor.predict(spec)
    assert forms_of(again, spec) == forms_of(predictor, spec) is not None
    assert again.error == predictor.error
    assert again.device == DEVICE
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["latency.json"]


def test_every_kind_of_calibration_knows_what_disturbed_it(synthetic_device: None, tmp_path: Path) -> None:
    specs = [zoo.get(name) for name in HELD_OUT_ZOO]
    prices = op_fit.fit_prices([(spec, None) for spec in specs], [true_ms(spec) for spec in specs], "torch")
    checks = [HeldOutCheck(name="check", measured_ms=10.0, predicted_ms=predicted_ms) for predicted_ms in (12.0, 10.0)]
    disturbed = PricePredictor(device=DEVICE, prices=prices, checks=checks, others=1.9)
    save_predictor(disturbed, tmp_path / "latency.json")
    loaded = load_predictor(tmp_path / "latency.json", LatencySettings())
    for predictor in (loaded, loaded.refined([(zoo.get("mixnet_s"), 5.0)])):
        warning = disturbance_warning(predictor)
        assert "used 1.9 cores" in warning and "on 2 held-out networks" in warning
    data = disturbed.to_dict()
    del data["others"]  # a file of an older version
    assert disturbance_warning(PricePredictor.from_dict(data)) == ""


@pytest.mark.parametrize(
    ("change", "command"),
    [
        ({"precision": "float32"}, "device=cpu"),
        ({}, "device=cpu precision=int8"),
        ({"backend": "torch", "precision": "float32", "threads": 2}, "device=cpu backend=torch threads=2"),
        ({"batch": 8}, "device=cpu precision=int8 batch=8"),
        ({"backend": "cuda_graph", "precision": "float16"}, "device=cuda backend=cuda_graph precision=float16"),
        ({"backend": "cuda", "precision": "float32"}, "device=cuda"),
    ],
)
def test_the_command_that_calibrates_again_is_that_of_the_device(change: dict[str, Any], command: str) -> None:
    device = replace(DEVICE, **change)
    assert calibration_command(device) == f"python -m nas.calibrate {command}"
    assert calibration_command(device, Path("my runs")) == f"python -m nas.calibrate {command} runs_dir='my runs'"


def test_before_each_chunk_it_is_told_whether_the_last_one_was_disturbed(
    synthetic_device: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads, told = iter([0.0, 1.9, 0.0, 0.0, 0.0]), list[bool]()
    monkeypatch.setattr(SystemLoad, "others_since", lambda *_: next(loads))
    calibrate(DEVICE, networks=60, before_chunk=told.append)
    assert told == [False, False, True, False, False]  # published networks, three times twenty random ones, and again


def test_the_second_search_on_a_device_does_not_measure(
    synthetic_device: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_NETWORKS", 60)
    settings = LatencySettings(budget_s=1000)
    first = load_or_calibrate(settings, tmp_path)
    assert (tmp_path / "latency" / f"{DEVICE.key}.json").is_file()
    forbid_measuring(monkeypatch)
    again = load_or_calibrate(settings, tmp_path)
    assert again.predict(zoo.get("mixnet_s")) == first.predict(zoo.get("mixnet_s"))
    with pytest.raises(AssertionError, match="measured again"):
        load_or_calibrate(replace(settings, recalibrate=True), tmp_path)


def test_a_calibration_of_another_device_is_refused_unless_meant(
    synthetic_device: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "other.json"
    save_predictor(calibrate(DEVICE, networks=60), path)
    for room in (module, store):
        monkeypatch.setattr(room, "describe", lambda *_: replace(DEVICE, processor="newer core"))
    settings = LatencySettings(calibration=str(path))
    with pytest.raises(NasError, match=r"test core.*newer core.*allow_other_device"):
        load_or_calibrate(settings, tmp_path)
    meant = load_or_calibrate(replace(settings, allow_other_device=True), tmp_path)
    assert meant.device == DEVICE
    with pytest.raises(NasError, match="calibrate on that device"):
        calibrate(DEVICE)


def test_unusable_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    with pytest.raises(NasError, match="does not exist"):
        load_predictor(path, LatencySettings())
    for text in ("{", "[]", "{}", json.dumps({"format": "nas.latency/1", "device": {}})):
        path.write_text(text)
        with pytest.raises(NasError, match=r"bad\.json|device"):
            load_predictor(path, LatencySettings())
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(NasError, match=r"bad\.json: not a valid calibration file"):
        load_predictor(path, LatencySettings())
    with pytest.raises(NasError, match=r"cannot be read: Is a directory"):
        load_predictor(tmp_path, LatencySettings())
    path.write_text(json.dumps({"format": "nas.latency/99"}))
    with pytest.raises(NasError, match=r"nas\.latency/99.*; set latency\.recalibrate=true"):
        load_predictor(path, LatencySettings())
    with pytest.raises(NasError, match=r"nas\.latency/99.*; leave latency\.calibration out to calibrate"):
        load_predictor(path, LatencySettings(calibration=str(path)))


def test_macs_need_no_calibration_and_survive_a_file(tmp_path: Path) -> None:
    settings = LatencySettings(backend="macs", ms_per_gmac=12.5)
    predictor = load_or_calibrate(settings, tmp_path)
    assert isinstance(predictor, MacsPredictor)
    assert list(tmp_path.iterdir()) == []
    save_predictor(predictor, tmp_path / "macs.json")
    again = load_predictor(tmp_path / "macs.json", settings)
    assert again.predict(zoo.get("mixnet_s")) == predictor.predict(zoo.get("mixnet_s"))
    assert again.device == device_of(settings)
    with pytest.raises(NasError, match="allow_other_device"):
        load_predictor(tmp_path / "macs.json", replace(settings, ms_per_gmac=20.0))


def test_a_budget_for_too_few_networks_is_refused_with_one_that_does(
    synthetic_device: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0

    def slow(collector: Collector, networks: Sequence[str | int]) -> Chunk:
        """Take 30 s of CPU time for the 10 published networks, twice, and the 40 required ones."""
        nonlocal now_s
        now_s += CHUNK_S * len(networks)
        return fake_chunk(collector, networks)

    monkeypatch.setattr(Collector, "_measure_chunk", slow)
    monkeypatch.setattr(collect.time, "process_time", lambda: now_s)
    with pytest.raises(
        NasError, match=r"budget_s 16: .* about \d+ CPU seconds .* \(40\); set it to at least \d+\."
    ) as raised:
        calibrate(DEVICE, budget_s=16)
    enough_s = float(str(raised.value).rsplit(" ", 1)[1].rstrip("."))
    now_s = 0.0
    assert calibrate(DEVICE, budget_s=enough_s).error.networks >= 40 // 5 + len(HELD_OUT_ZOO)
    assert now_s <= enough_s
    with pytest.raises(NasError, match=r"latency\.budget_s 3: must be a number of at least 15"):
        LatencySettings(budget_s=3)


@pytest.mark.parametrize(
    # The published networks take 3 s, twice; twenty random ones 6 s or 18 s. Forty of these are the minimum.
    ("budget_s", "may_take_longer"),
    [(15.5, [False] * 2), (25, [False] * 3), (45, [False, True, False, False]), (1e3, [True] * 4)],
)
def test_networks_are_measured_longer_only_if_the_budget_reaches(
    synthetic_device: None, monkeypatch: pytest.MonkeyPatch, budget_s: float, may_take_longer: list[bool]
) -> None:
    """On a machine that never settles: a network takes 0.3 s, and three times that where it may be measured longer."""
    now_s, longer = 0.0, list[bool]()

    def unsteady(collector: Collector, networks: Sequence[str | int]) -> Chunk:
        nonlocal now_s
        now_s += 0.3 * len(networks) * (3 if collector.may_take_longer else 1)
        if isinstance(networks[0], int):
            longer.append(collector.may_take_longer)
        return fake_chunk(collector, networks)

    monkeypatch.setattr(Collector, "_measure_chunk", unsteady)
    monkeypatch.setattr(collect.time, "process_time", lambda: now_s)
    monkeypatch.setattr(module, "_MAX_NETWORKS", 80)
    calibrate(DEVICE, budget_s=budget_s)
    assert longer == may_take_longer
    assert now_s <= budget_s


@pytest.mark.usefixtures("unsteady")
def test_this_machine_can_be_calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD_OUT_ZOO", ("mobilenetv3_small_050", "mobilenetv1_025"))
    predictor = calibrate(describe("onnxruntime"), networks=20)
    assert predictor.error is not None
    assert predictor.error.networks == 6
    assert predictor.predict(zoo.get("mixnet_s")).latency_ms > 0
