"""Tests of kits as files: networks, manifest, and mistakes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.arch.complexity import complexity
from nas.core.errors import NasError
from nas.core.files import file_sha256
from nas.exporters.formats import format_of
from nas.latency.kits import writer
from nas.latency.kits.manifest import KitSettings, Protocol, load_kit
from nas.latency.kits.runtimes import KIT_RUNTIMES
from nas.latency.kits.writer import write_kit
from tests.latency.kits.tiny_kit import REFERENCE, SPECS, write_tiny_kit


def test_a_kit_has_the_networks_as_files_and_says_so(tmp_path: Path) -> None:
    kit = write_tiny_kit(tmp_path, batch=2)
    assert load_kit(tmp_path) == kit
    assert [network.spec for network in kit.networks] == list(SPECS) and kit.reference.spec == REFERENCE
    for network in (kit.reference, *kit.networks):
        path = tmp_path / network.file
        assert network.files == {network.file: file_sha256(path)}
        images = np.zeros((2, 3, network.spec.resolution_px, network.spec.resolution_px), np.float32)
        assert format_of("onnx").module().open_model(path)(images).shape == (2, network.spec.classes)
    rows = (tmp_path / "networks.txt").read_text().splitlines()
    assert rows[0] == f"# kit {kit.kit_id}" and rows[12] == "012 networks/012.onnx 32" and len(rows) == 13
    for name in ("run.sh", "README.md"):
        text = (tmp_path / name).read_text()
        assert kit.kit_id in text and "@" not in text.replace("$@", "").replace("user@box", "")


def test_the_networks_are_those_of_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def chosen(count: int, seed: int) -> list[Any]:
        asked.append((count, seed))
        return list(SPECS)[:count]

    monkeypatch.setattr(writer, "kit_specs", chosen)
    write_kit(KitSettings(runtime="onnxruntime", accelerator="cpu", precision="float32", n=11, seed=5), tmp_path)
    assert asked == [(11, 5)]


def test_an_interrupted_kit_is_completed_and_a_whole_one_is_left_alone(tmp_path: Path) -> None:
    kit = write_tiny_kit(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "networks").iterdir()}
    assert write_tiny_kit(tmp_path) == kit
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "networks").iterdir()} == times
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "networks/007.onnx").unlink()
    assert write_tiny_kit(tmp_path) == kit and load_kit(tmp_path) == kit


def test_another_kit_is_not_overwritten(tmp_path: Path) -> None:
    kit = write_tiny_kit(tmp_path)
    with pytest.raises(NasError, match="holds another kit; choose another folder, or delete it"):
        write_tiny_kit(tmp_path, threads=2)
    assert load_kit(tmp_path) == kit


def test_a_changed_manifest_is_an_error_of_one_line(tmp_path: Path) -> None:
    write_tiny_kit(tmp_path)
    path = tmp_path / "manifest.json"
    data = json.loads(path.read_text())

    def refused(change: Any) -> str:
        path.write_text(json.dumps(change))
        with pytest.raises(NasError) as raised:
            load_kit(tmp_path)
        assert "\n" not in str(raised.value) and str(path) in str(raised.value)
        return str(raised.value)

    assert "format 'nas.kit/9' is not nas.kit/1" in refused({**data, "format": "nas.kit/9"})
    assert "it was changed" in refused({**data, "networks": data["networks"][:-1]})
    assert "unknown runtime 'tflite'" in refused({**data, "settings": {**data["settings"], "runtime": "tflite"}})
    swapped = [{**data["networks"][0], "spec": data["networks"][1]["spec"]}, *data["networks"][1:]]
    assert "networks[0].spec: is network" in refused({**data, "networks": swapped})
    rng = random.Random(0)
    for _ in range(60):  # a value anywhere of another type
        other = json.loads(json.dumps(data))
        node: Any = other
        while isinstance(node, dict | list) and node:
            key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
            if not isinstance(node[key], dict | list) or rng.random() < 0.3:
                node[key] = rng.choice([None, -1, [], {"a": 1}, "text"])
                break
            node = node[key]
        if other != data:
            refused(other)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"runtime": "tflite"}, "unknown runtime 'tflite': choose from litert, onnxruntime, ncnn, tensorrt"),
        ({"n": 9}, "n 9: must be a whole number of at least 10"),
        ({"seed": -1}, "seed -1: must be a whole number of at least 0"),
        ({"runtime": "ncnn", "precision": "float16", "protocol": Protocol(batch=2)}, "ncnn runs one image at a time"),
        (
            {"runtime": "ncnn"},
            "precision=float32: runtime=ncnn runs accelerator=cpu precision=float16: benchncnn stores",
        ),
        ({"runtime": "litert", "accelerator": "gpu"}, "LiteRT computes in float16 on a GPU"),
    ],
)
def test_settings_that_no_tool_runs_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(NasError, match=words):
        KitSettings(**{"runtime": "onnxruntime", "accelerator": "cpu", "precision": "float32", **settings})


def test_a_missing_package_of_a_format_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.exporters.formats.is_installed", lambda package: False)
    with pytest.raises(NasError, match="the package onnx is not installed"):
        write_tiny_kit(tmp_path)


def test_every_runtime_says_what_to_install_in_words_that_a_shell_can_quote() -> None:
    for runtime in KIT_RUNTIMES.values():
        assert runtime.install.endswith(".") and not set("'\"`$\\") & set(runtime.install)
        assert runtime.mode(None, None) == runtime.modes[0]


def test_the_networks_of_a_kit_are_large_enough_to_be_measured() -> None:
    specs = writer.kit_specs(40, 3)
    assert specs == writer.kit_specs(40, 3) and len({spec.arch_id for spec in specs}) == 40
    assert specs[:7] == writer.kit_specs(7, 3) and specs != writer.kit_specs(40, 4)
    assert min(complexity(spec).macs for spec in specs) >= 15e6
