"""Tests of ``nas.calibrate``: calibration, reported error, bad settings."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.calibrate import command
from nas.cli import device_kits
from nas.core.errors import NasError
from nas.latency import store
from nas.latency.calibration import calibrate as calibration
from nas.latency.calibration import collect
from nas.latency.calibration.collect import Collector
from nas.latency.kits import writer
from nas.latency.kits.manifest import KitSettings
from nas.latency.kits.runtimes import KIT_RUNTIMES
from nas.latency.measure import timer
from nas.latency.measure.kernel_match import KernelMatch
from nas.latency.measure.system_load import SystemLoad
from nas.latency.settings import LatencySettings
from nas.latency.store import load_predictor, read_predictor
from nas.study import predictor
from tests.latency.kits.tiny_kit import REFERENCE, SPECS, install_stand_ins, install_tool, run_script
from tests.latency.synthetic_device import KERNEL_DEVICE, LANE, PROBE_MS, fake_chunk, true_kernel_sum_ms

HEADER = "# device: Pixel 6, big core\n# backend: tflite 2.16\nnetwork,latency_ms\n"


@pytest.fixture
def synthetic_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for room in (calibration, store):
        monkeypatch.setattr(room, "describe", lambda *_: KERNEL_DEVICE)
    shuffle = KernelMatch(times_us=(95.0, 5.0), unknown_us={"Shuffle": 5.0}, absent=0)
    monkeypatch.setattr(collect, "sample_kernels", lambda device: (LANE, shuffle))
    monkeypatch.setattr(Collector, "_measure_chunk", fake_chunk)
    monkeypatch.setattr(calibration, "_MAX_NETWORKS", 60)
    monkeypatch.setattr(predictor, "other_cores", lambda _: 0.0)


def test_a_calibration_is_stored_where_searches_find_it(
    synthetic_device: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(["device=cpu", "budget_s=10000"]) == 0
    output = capsys.readouterr()
    assert "test core" in output.err and "calibrating" in output.err
    assert "sum of kernel latencies: median error" in output.out
    assert "mixnet_s at 64 px: Shuffle 5.0%; the time of each counts to the operation it belongs to" in output.out
    assert "during the calibration the machine's speed moved so that networks took 1.00 to 1.00 times th" in output.out
    assert "held-out networks\nRMS error" in output.out and "by measuring (10 networks measured twice)" in output.out
    (path,) = Path("runs/latency").iterdir()
    assert str(path) in output.out
    spec = zoo.get("mobilenetv2_100")
    assert load_predictor(path, LatencySettings()).predict(spec).latency_ms == pytest.approx(
        true_kernel_sum_ms(spec), rel=0.1
    )
    assert command(["device=cpu", "budget_s=10000", "json=true"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["path"] == str(path)
    assert result["device"]["processor"] == "test core"
    assert result["error"]["within_10"] > 0.9
    assert result["error"]["sources"]["repeated"] == 10
    assert result["noise"] == 0.0 and result["speed"]["typical_ms"] == PROBE_MS


def test_on_a_busy_machine_it_says_so_or_waits(
    synthetic_device: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["device=cpu", "budget_s=10000", "wait_s=20"]
    monkeypatch.setattr(calibration, "_MAX_NETWORKS", 40)
    monkeypatch.setattr(timer, "has_counters", lambda: False)
    monkeypatch.setattr(predictor, "other_cores", lambda _: 1.9)
    monkeypatch.setattr(SystemLoad, "others_since", lambda *_: 1.9)
    assert command(arguments) == 0
    output = capsys.readouterr()
    assert "other programs use 1.9 of" in output.err and ": when_busy=wait waits until they are quiet" in output.err
    error = re.search(r"median error ([\d.]+%).* (\d+%) within 10%", output.out)
    assert error and f"its median error is {error[1]}, {error[2]} are within 10%" in output.out
    assert "python -m nas.calibrate device=cpu when_busy=wait calibrates again when the machine is quiet" in output.out
    (path,) = Path("runs/latency").iterdir()
    before = path.read_text()
    words = r"^when_busy wait: .* 1\.9 cores after 20 s; close them, raise wait_s, or set when_busy=warn"
    with pytest.raises(NasError, match=words):
        command([*arguments, "when_busy=wait"])
    assert path.read_text() == before
    loads = iter([1.9, 0.0])
    monkeypatch.setattr(predictor, "other_cores", lambda _: next(loads))
    monkeypatch.setattr(SystemLoad, "others_since", lambda *_: 0.0)
    assert command([*arguments, "when_busy=wait"]) == 0
    output = capsys.readouterr()
    assert "waited 5 of at most 20 s" in output.err and "the machine is quiet: calibrating" in output.err
    assert "Other programs" not in output.out and "counters" not in output.out


def test_measurements_of_a_phone_make_a_calibration_and_outliers_are_named(
    synthetic_device: None, few_starts: None, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [name for name in zoo.names() if name.startswith(("mixnet", "mnasnet", "mobilenet"))]
    rows = {name: 2.0 + 3e-8 * complexity(zoo.get(name)).macs for name in names}
    rows["mixnet_s"] *= 4
    Path("phone.csv").write_text(HEADER + "".join(f"{name},{ms:.3f}\n" for name, ms in rows.items()))
    assert command(["device=measurements", "path=phone.csv"]) == 0
    output = capsys.readouterr().out
    assert "Pixel 6, big core" in output
    assert "mixnet_s: measured" in output and "measure it again" in output
    (path,) = Path("runs/latency").iterdir()
    assert f"latency.calibration={path} latency.allow_other_device=true" in output
    predicted = read_predictor(path).predict(zoo.get("mobilenetv2_140")).latency_ms
    assert predicted == pytest.approx(rows["mobilenetv2_140"], rel=0.15)
    assert command(["device=measurements", "path=phone.csv", f"base={path}"]) == 0


@pytest.fixture
def tiny_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kits of ten tiny networks, measured for a moment each."""
    monkeypatch.setattr(writer, "kit_specs", lambda count, seed: list(SPECS)[:count])
    monkeypatch.setattr(writer, "SPEED_PROBE", REFERENCE)
    settings_of = device_kits.kit_settings

    def brief(config: Mapping[str, Any]) -> KitSettings:
        settings = settings_of(config)
        return replace(settings, protocol=replace(settings.protocol, passes=1, runs=1, warmup_runs=1, seconds=0.01))

    monkeypatch.setattr(device_kits, "kit_settings", brief)


def test_a_kit_is_written_run_and_fitted(
    synthetic_device: None, tiny_networks: None, few_starts: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["device=bundle", "runtime=onnxruntime", "n=10", "pause_s=0", "out=kit"]) == 0
    output = capsys.readouterr().out
    assert "kit: kit " in output and "10 networks for onnxruntime (cpu, float32)" in output
    assert "python -m nas.calibrate device=measurements path=kit" in output
    install_tool(Path("kit"))
    run_script(Path("kit"))
    assert command(["device=measurements", "path=kit", "json=true"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (
        result["device"]["backend_version"] == "(onnxruntime_perf_test)"
        and "10 networks measured" in result["notes"][0]
    )
    assert read_predictor(Path(result["path"])).device.backend == "onnxruntime"


def test_a_phone_is_calibrated_in_one_command_with_the_real_runtime(
    synthetic_device: None,
    tiny_networks: None,
    few_starts: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    install_stand_ins(tmp_path, monkeypatch)
    monkeypatch.setattr(device_kits, "_ANDROID", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHON", sys.executable)
    one_pass = replace(KIT_RUNTIMES["onnxruntime"], passes=1)  # each pass starts Python for each network
    monkeypatch.setitem(KIT_RUNTIMES, "onnxruntime", one_pass)
    arguments = ["device=adb", "runtime=onnxruntime", "n=10", "pause_s=0"]
    assert command(arguments) == 0
    output = capsys.readouterr()
    assert "measuring on R58M" in output.err and "10 networks measured (median of the runs)" in output.out
    (path,) = Path("runs/latency").iterdir()
    device = read_predictor(path).device
    assert device.backend == "onnxruntime" and device.backend_version.endswith("(bench.py)")
    assert f"latency.calibration={path} latency.allow_other_device=true" in output.out
    (results,) = Path("runs/kits").glob("*/results-R58M")
    before = {one: one.read_text() for one in results.glob("0*.txt")}
    assert len(before) == 10
    assert command(arguments) == 0  # nothing is measured twice
    assert {one: one.read_text() for one in results.glob("0*.txt")} == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], r"which device\? Add device= with one of cpu, cuda, measurements, bundle, adb, ssh"),
        (["device=gpu"], r"unknown device 'gpu'.*cpu, cuda, measurements, bundle, adb, ssh"),
        (["device=cpu", "host=box"], r"host 'box': belongs to device=bundle, adb and ssh; leave it out"),
        (["device=measurements", "runtime=ncnn"], r"runtime 'ncnn': belongs to device=bundle, adb and ssh"),
        (["device=bundle", "out=kit"], r"which runtime\? Add runtime= with one of litert, onnxruntime, ncnn, tensorrt"),
        (["device=bundle", "runtime=onnxruntime"], r"out null: add out= with the folder"),
        (
            ["device=bundle", "runtime=onnx", "out=kit"],
            r"unknown runtime 'onnx': choose from litert, onnxruntime, ncnn",
        ),
        (["device=bundle", "runtime=onnxruntime", "out=kit", "n=3"], r"^n 3: must be a whole number of at least 10"),
        (
            ["device=bundle", "runtime=onnxruntime", "out=kit", "serial=R5"],
            r"serial 'R5': is not needed to write a kit",
        ),
        (["device=bundle", "runtime=onnxruntime", "out=kit", "backend=torch"], r"backend 'torch': runtime= says it"),
        (
            ["device=bundle", "runtime=onnxruntime", "out=kit", "pause_s=-1"],
            r"pause_s -1: must be a whole number of at",
        ),
        (["device=ssh", "runtime=onnxruntime"], r"which host\? Add host=user@box"),
        (["device=ssh", "host=3", "runtime=onnxruntime"], r"host 3: must be a host as ssh takes it"),
        (
            ["device=ssh", "host=box", "ssh_port=0", "runtime=onnxruntime"],
            r"ssh_port 0: must be a whole number of at l",
        ),
        (["device=ssh", "host=box", "serial=R5", "runtime=onnxruntime"], r"serial 'R5': belongs to another device="),
        (["device=adb", "host=box", "runtime=onnxruntime"], r"host 'box': belongs to another device="),
        (
            ["device=measurements", "path=."],
            r"path '\.': no kit \(manifest\.json is missing\); device=bundle writes one",
        ),
        (
            ["device=measurements", "path=phone.csv", "precision=int8"],
            r"precision 'int8': is given by the header of the f",
        ),
        (
            ["device=cpu", "backend=cuda"],
            r"unknown backend of device=cpu 'cuda': choose from onnxruntime, litert, openvino, ncnn, torch",
        ),
        (["device=cpu", "path=phone.csv"], r"path 'phone\.csv': belongs to device=measurements"),
        (["device=cpu", "budget_s=3"], r"^budget_s 3: must be a number of at least 15"),
        (["device=cpu", "when_busy=later"], r"^unknown when_busy 'later': choose from wait, warn"),
        (["device=cpu", "wait_s=-1"], r"^wait_s -1: must be a number of at least 0"),
        (["device=cpu", "precision=int4"], r"^precision 'int4': onnxruntime runs float32, int8"),
        (["device=cpu", "json=maybe"], r"json 'maybe': must be true or false"),
        (["device=measurements"], r"path null: add path="),
        (["device=measurements", "path=none.csv"], r"'none\.csv': No such file"),
        (["device=measurements", "path=phone.csv", "threads=2"], r"threads 2: is given by the header of the file"),
        (["device=measurements", "path=phone.csv", "base=none.json"], r"none\.json: does not exist"),
        (["device=measurements", "path=phone.csv", "base=3"], r"base 3: must be the path of a calibration"),
    ],
)
def test_user_errors_are_one_line_and_leave_no_files(synthetic_device: None, arguments: list[str], words: str) -> None:
    with pytest.raises(NasError, match=words) as raised:
        command(arguments)
    assert "\n" not in str(raised.value)
    assert not Path("runs").exists()
