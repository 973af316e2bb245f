"""Calibration end to end: on a made-up device for its figures, on this one for its plumbing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas.arch import zoo
from nas.arch.errors import NasError
from nas.arch.spec import ArchSpec
from nas.latency import calibrate as module
from nas.latency import store
from nas.latency.calibrate import calibrate
from nas.latency.device import describe
from nas.latency.macs import MacsPredictor
from nas.latency.measure import Measurement
from nas.latency.settings import LatencySettings
from nas.latency.store import device_of, load, load_or_calibrate, save

from .law import DEVICE, fake_measurements, law_ms


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "describe", lambda *_: DEVICE)
    monkeypatch.setattr(store, "describe", lambda *_: DEVICE)
    monkeypatch.setattr(module, "measure_many", fake_measurements)


def forbid_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(module, "measure_many", refuse)


def test_a_known_law_is_learnt_and_checked_on_unseen_networks(made_up: None) -> None:
    told: list[tuple[int, int]] = []
    predictor = calibrate(DEVICE, seed=5, networks=150, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (160, 160)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert predictor.device == DEVICE
    assert predictor.error.networks == 150 // 5 + len(module.HELD_OUT_ZOO)
    assert predictor.error.median < 0.02
    assert predictor.error.kendall_tau > 0.95
    spec = zoo.get("mobilenetv2_140")
    assert predictor.predict(spec).latency_ms == pytest.approx(law_ms(spec), rel=0.1)


def test_json_and_back_predicts_the_same(made_up: None, tmp_path: Path) -> None:
    predictor = calibrate(DEVICE, networks=60)
    save(predictor, tmp_path / "sub" / "latency.json")
    again = load(tmp_path / "sub" / "latency.json", LatencySettings())
    spec = zoo.get("mixnet_l")
    assert again.predict(spec) == predictor.predict(spec)
    assert again.error == predictor.error
    assert again.device == DEVICE
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["latency.json"]


def test_the_second_search_on_a_device_does_not_measure(
    made_up: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_NETWORKS", 60)
    settings = LatencySettings(budget_s=1000)
    first = load_or_calibrate(settings, tmp_path)
    assert (tmp_path / "latency" / f"{DEVICE.key}.json").is_file()
    forbid_measuring(monkeypatch)
    again = load_or_calibrate(settings, tmp_path)
    assert again.predict(zoo.get("mixnet_s")) == first.predict(zoo.get("mixnet_s"))
    with pytest.raises(AssertionError, match="measured again"):
        load_or_calibrate(replace(settings, recalibrate=True), tmp_path)


def test_a_calibration_of_another_device_is_refused_unless_meant(
    made_up: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "other.json"
    save(calibrate(DEVICE, networks=60), path)
    for room in (module, store):
        monkeypatch.setattr(room, "describe", lambda *_: replace(DEVICE, processor="newer core"))
    settings = LatencySettings(calibration=str(path))
    with pytest.raises(NasError, match=r"test core.*newer core.*allow_other_device"):
        load_or_calibrate(settings, tmp_path)
    meant = load_or_calibrate(replace(settings, allow_other_device=True), tmp_path)
    assert meant.device == DEVICE
    with pytest.raises(NasError, match="calibrate there"):
        calibrate(DEVICE)


def test_unusable_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    with pytest.raises(NasError, match="does not exist"):
        load(path, LatencySettings())
    for text in ("{", "[]", "{}", json.dumps({"format": "nas.latency/1", "device": {}})):
        path.write_text(text)
        with pytest.raises(NasError, match=r"bad\.json|device"):
            load(path, LatencySettings())
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(NasError, match=r"bad\.json: is no calibration"):
        load(path, LatencySettings())
    with pytest.raises(NasError, match=r"cannot be read: Is a directory"):
        load(tmp_path, LatencySettings())
    path.write_text(json.dumps({"format": "nas.latency/99"}))
    with pytest.raises(NasError, match=r"nas\.latency/99.*; set latency\.recalibrate=true"):
        load(path, LatencySettings())
    with pytest.raises(NasError, match=r"nas\.latency/99.*; leave latency\.calibration out to calibrate"):
        load(path, LatencySettings(calibration=str(path)))


def test_macs_need_no_calibration_and_survive_a_file(tmp_path: Path) -> None:
    settings = LatencySettings(backend="macs", ms_per_gmac=12.5)
    predictor = load_or_calibrate(settings, tmp_path)
    assert isinstance(predictor, MacsPredictor)
    assert list(tmp_path.iterdir()) == []
    save(predictor, tmp_path / "macs.json")
    again = load(tmp_path / "macs.json", settings)
    assert again.predict(zoo.get("mixnet_s")) == predictor.predict(zoo.get("mixnet_s"))
    assert again.device == device_of(settings)
    with pytest.raises(NasError, match="allow_other_device"):
        load(tmp_path / "macs.json", replace(settings, ms_per_gmac=20.0))


def test_a_budget_for_too_few_networks_is_refused_with_one_that_does(
    made_up: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0

    def slow(specs: Sequence[ArchSpec], **_: Any) -> list[Measurement]:
        """Half a second of CPU time per network: the 10 published ones and the 50 that are needed take 30."""
        nonlocal now_s
        now_s += 0.5 * len(specs)
        return fake_measurements(specs)

    monkeypatch.setattr(module, "measure_many", slow)
    monkeypatch.setattr(module.time, "process_time", lambda: now_s)
    words = r"budget_s 12: this machine needs about 30 CPU seconds for the fewest .* \(60\); give at least 38\."
    with pytest.raises(NasError, match=words):
        calibrate(DEVICE, budget_s=12)
    now_s = 0.0
    assert calibrate(DEVICE, budget_s=38).error.networks == 10 + 10
    assert now_s <= 38
    with pytest.raises(NasError, match=r"latency\.budget_s 3: must be a number of at least 15"):
        LatencySettings(budget_s=3)


def test_this_machine_can_be_calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD_OUT_ZOO", ("mobilenetv3_small_050", "mobilenetv1_025"))
    monkeypatch.setattr(module, "_ROUNDS", {"rounds": 1, "runs": 2})
    predictor = calibrate(describe("onnxruntime"), networks=20)
    assert predictor.error.networks == 6
    assert predictor.predict(zoo.get("mixnet_s")).latency_ms > 0
