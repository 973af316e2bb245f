"""Tests of nas.bench: forms, rows, files, resume, mistakes."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

import nas
from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.files import dump_spec, save_spec
from nas.bench import command, make_plan
from nas.core.errors import NasError
from nas.data.images import load_images
from nas.data.sources import DataSettings
from nas.latency.bench import session
from nas.latency.calibration.external import read_measurements
from nas.latency.host import describe
from nas.model.weights import random_state_dict
from nas.training.augmentation import normalise
from tests.json_output import json_answer
from tests.latency.tiny import TINY

QUICK = ("rounds=2",)


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run in a folder with one spec file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(dump_spec(TINY), encoding="utf-8")
    return tmp_path


def test_forms_of_networks_side_by_side(capsys: pytest.CaptureFixture[str], working_folder: Path) -> None:
    words = ["arch=tiny.yaml,mobilenetv3_small_050", "resolution_px=32", "precision=float32,int8", *QUICK]
    data = json_answer(command, capsys, words)
    rows: list[dict[str, Any]] = data["rows"]
    assert [(row["network"], row["precision"]) for row in rows] == [
        ("tiny", "float32"), ("tiny", "int8"), ("mobilenetv3_small_050", "float32"), ("mobilenetv3_small_050", "int8"),
    ]  # fmt: skip
    for float_row, int8_row in zip(rows[::2], rows[1::2], strict=True):
        assert float_row["ratio"] == 1 and float_row["ratio_to_float32"] is None
        ratio = int8_row["latency_ms"] / float_row["latency_ms"]
        assert int8_row["ratio_to_float32"] == pytest.approx(ratio) == pytest.approx(int8_row["ratio"])
        assert int8_row["ratio_error"] > 0 and float_row["latency_error_ms"] > 0
        assert float_row["runtime_version"] == onnxruntime.__version__
    # Four bytes for each weight of the network, and the file's structure; one for int8, with a scale for each channel.
    params = complexity(zoo.get("mobilenetv3_small_050")).params
    assert 4 * params * 0.95 < rows[2]["size_bytes"] < 4 * params * 1.1
    assert params < rows[3]["size_bytes"] < 4 * params * 0.6
    # The files for nas.calibrate: one device header each, networks by name or as spec files.
    folder = working_folder / "runs/benchmarks/bench"
    for precision, found in (("float32", rows[::2]), ("int8", rows[1::2])):
        measured = read_measurements(folder / "measurements" / f"onnxruntime-{precision}.csv")
        assert (measured.device.backend, measured.device.precision) == ("onnxruntime", precision)
        # A calibration by these few networks does not replace this machine's own.
        assert measured.device.key != describe("onnxruntime", 1, 1, precision).key
        assert [spec.arch_id for spec, _ in measured.networks] == [row["arch_id"] for row in found]
        assert [ms for _, ms in measured.networks] == pytest.approx([row["latency_ms"] for row in found], rel=1e-5)
    with (folder / "bench.csv").open(encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    assert [float(line["latency_ms"]) for line in table] == [row["latency_ms"] for row in rows]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Networks in int8" in page and page.count("mobilenetv3_small_050") > 4
    assert all(re.search(rf"<li>{re.escape(line)[:30]}", page) for line in data["verdicts"])


def test_measured_networks_are_kept(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = json_answer(command, capsys, ["tiny.yaml", "precision=float32", *QUICK])
    monkeypatch.setattr(session, "_measure", lambda *_: pytest.fail("measured again"))
    again = json_answer(command, capsys, ["tiny.yaml", "precision=float32", *QUICK])
    assert again == first
    with pytest.raises(pytest.fail.Exception):  # another setting is another measurement
        command(["tiny.yaml", "precision=float32", "rounds=3"])


def test_a_run_that_stops_goes_on_with_the_next_network(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, working_folder: Path
) -> None:
    words, measure, names = ["tiny.yaml", "mobilenetv2_035", "resolution_px=32", "precision=float32", *QUICK], None, []
    measure = session._measure

    def interrupted(plan: Any, network: Any, *rest: Any) -> Any:
        names.append(network.given)
        if len(names) == 2:
            raise KeyboardInterrupt
        return measure(plan, network, *rest)

    monkeypatch.setattr(session, "_measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        command(list(words))
    stored = json.loads((working_folder / "runs/benchmarks/bench/results.json").read_text(encoding="utf-8"))
    assert [one["given"] for one in stored["networks"]] == ["tiny.yaml"]
    assert command(list(words)) == 0
    assert names == ["tiny.yaml", "mobilenetv2_035", "mobilenetv2_035"]
    assert "1 of 2 networks measured already" in capsys.readouterr().out


def test_networks_of_one_name_are_told_apart(capsys: pytest.CaptureFixture[str], working_folder: Path) -> None:
    save_spec(replace(TINY, classes=4), working_folder / "other.yaml")
    rows = json_answer(command, capsys, ["tiny.yaml", "other.yaml", "precision=float32", *QUICK])["rows"]
    assert [row["network"] for row in rows] == ["tiny.yaml", "other.yaml"]


def test_words_lists_and_brackets_mean_the_same() -> None:
    plans = [
        make_plan(words)
        for words in (
            ["tiny.yaml", "mixnet_s", "precision=int8"],
            ["arch=tiny.yaml,mixnet_s", "precision=[int8]"],
            ["arch=[tiny.yaml,mixnet_s]", "precision=int8"],
        )
    ]
    assert all((plan.networks, plan.forms) == (plans[0].networks, plans[0].forms) for plan in plans)
    assert [network.given for network in plans[0].networks] == ["tiny.yaml", "mixnet_s"]


def test_accuracy_through_the_files(capsys: pytest.CaptureFixture[str], working_folder: Path) -> None:
    """Weights beside a spec file, on the digits of scikit-learn; torch is the oracle."""
    spec = replace(TINY, name="digits", resolution_px=16, in_channels=1, classes=10)
    state = random_state_dict(spec, 0)
    facts = {"class_names": list(map(str, range(10))), "normalisation": {"mean": [0.3], "std": [0.4]}}
    save_spec(spec, working_folder / "digits.yaml", facts)
    save_file(state, working_folder / "digits.safetensors")
    words = ["digits.yaml", "data=digits", "precision=float32,int8,mixed", "tolerance=0.5", "batch=8", *QUICK]
    rows = json_answer(command, capsys, words)["rows"]
    data = load_images(DataSettings(name="digits")).resized(16)
    images = normalise(data.val_images, torch.full((1, 1, 1, 1), 0.3), torch.full((1, 1, 1, 1), 0.4))
    model = nas.build(spec)
    model.load_state_dict(state)
    with torch.inference_mode():
        correct = int((model.eval()(images).argmax(1) == data.val_labels).sum())
    assert [row["precision"] for row in rows] == ["float32", "int8", "mixed"]
    assert rows[0]["accuracy"] * rows[0]["accuracy_images"] == pytest.approx(correct)
    assert rows[0]["accuracy_images"] == len(data.val_labels)
    share = correct / len(data.val_labels)
    assert rows[0]["accuracy_error"] == pytest.approx((share * (1 - share) / len(data.val_labels)) ** 0.5)
    for row in rows[1:]:
        assert row["accuracy_change"] == pytest.approx(row["accuracy"] - rows[0]["accuracy"])
        assert row["accuracy_change_error"] > 0
    assert rows[2]["float_layers"] == "" and rows[2]["size_bytes"] == rows[1]["size_bytes"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([], "which networks?"),
        (["mixnet_x"], "arch 'mixnet_x': neither a published network"),
        (["mixnet_s", "runtime=onnx"], "unknown runtime 'onnx': choose from onnxruntime"),
        (["mixnet_s", "runtime=torch"], "unknown runtime 'torch'"),
        (["mixnet_s", "precision=int4"], "unknown precision 'int4': choose from float32, int8, mixed"),
        (["mixnet_s", "precision=int8,int8"], "precision .*: must name one or more of"),
        (["mixnet_s", "precision=[]"], "precision .*: must name one or more of"),
        (["mixnet_s", "arch=mixnet_s"], "arch 'mixnet_s' and 'mixnet_s': are the same network"),
        (["mixnet_s", "rounds=1"], "rounds 1: must be a whole number of at least 2"),
        (["mixnet_s", "name=../x"], "name '../x': must be the name of a folder"),
        (["mixnet_s", "resolution_px=0"], "resolution_px 0: must be"),
        (["mixnet_s", "rewrite=all"], "unknown rewrite 'all'"),
        (["mixnet_s", "tolerance=0"], "tolerance 0: must be a number above 0"),
        (["mixnet_s", "precision=mixed"], "precision mixed: .* mixnet_s has no weights; add weights="),
        (["mixnet_s", "precision=mixed", "weights=pretrained"], "precision mixed: .* mixnet_s has no data; add data="),
        (["mixnet_s", "weights=x.pth"], "weights 'x.pth': must be pretrained"),
        (["mixnet_s", "data=imagefolder"], "data.root: missing"),
        (["mixnet_s", "data.root=photos"], "data: no choice is selected, .* add data=NAME"),
        (["mixnet_s", "data=nothing"], "unknown data 'nothing'"),
        (["mixnet_s", "typo=1"], "unknown key 'typo'"),
    ],
)
def test_mistakes_are_one_line(words: list[str], error: str) -> None:
    with pytest.raises(NasError, match=error) as found:
        command(words)
    assert "\n" not in str(found.value)
    assert not Path("runs").exists()
