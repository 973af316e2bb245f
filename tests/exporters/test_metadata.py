"""Tests of class names and normalisation in everything that is exported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors import safe_open
from torch import nn

from nas.arch import zoo
from nas.arch.files import dump_spec, load_spec_file
from nas.core.errors import NasError
from nas.exporters.metadata import input_facts, input_metadata
from nas.exporters.onnx.graph import to_onnx
from nas.exporters.standalone import save_weights, standalone_source

SPEC = replace(zoo.get("mobilenetv3_small_050"), classes=3, in_channels=1)
FACTS: dict[str, Any] = {
    "class_names": ["cat", "it's", 'a "newt"\n'],
    "normalisation": {"mean": [0.25], "std": [0.5]},
}


def test_every_export_has_the_class_names_and_the_normalisation(tmp_path: Path) -> None:
    graph = to_onnx(SPEC, resolution_px=32, provenance={"study": "s", **FACTS})
    assert {one.key: json.loads(one.value) for one in graph.metadata_props} == FACTS
    names: dict[str, Any] = {"__name__": "winner"}
    exec(compile(standalone_source(SPEC, FACTS), "winner.py", "exec"), names)
    assert names["CLASS_NAMES"] == FACTS["class_names"] and (names["MEAN"], names["STD"]) == ([0.25], [0.5])
    save_weights(nn.Linear(1, 1), tmp_path / "w.safetensors", input_metadata(SPEC, FACTS))
    with safe_open(tmp_path / "w.safetensors", "pt") as stored:
        found = stored.metadata()
    assert found.pop("format") == "pt" and {name: json.loads(value) for name, value in found.items()} == FACTS


def test_exports_of_a_bare_spec_have_none() -> None:
    assert not to_onnx(SPEC, resolution_px=32).metadata_props
    assert "CLASS_NAMES" not in standalone_source(SPEC) and "MEAN" not in standalone_source(SPEC)


def test_timm_knows_the_class_names(tmp_path: Path) -> None:
    path = tmp_path / "winner.yaml"
    path.write_text(dump_spec(SPEC, FACTS), encoding="utf-8")
    assert timm.create_model("nas_arch", spec=path).default_cfg["label_names"] == tuple(FACTS["class_names"])
    assert timm.create_model("nas_arch", spec=path, num_classes=7).default_cfg.get("label_names") is None


def test_an_id_does_not_depend_on_class_names(tmp_path: Path) -> None:
    path = tmp_path / "winner.yaml"
    path.write_text(dump_spec(SPEC, FACTS), encoding="utf-8")
    file = load_spec_file(path)
    assert file.arch.arch_id == SPEC.arch_id and file.arch == SPEC
    assert input_facts(file.arch, file.provenance) == FACTS


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"class_names": ["a", "b"]}, r"provenance\.class_names: has 2 names, the network has 3 classes"),
        ({"class_names": "abc"}, r"provenance\.class_names 'abc': must be a list of names"),
        ({"class_names": [1, 2, 3]}, r"provenance\.class_names .*: must be a list of names"),
        ({"normalisation": 0.5}, r"provenance\.normalisation\.mean null: must be a list of numbers"),
        (
            {"normalisation": {"mean": ["__import__('os')"], "std": [1]}},
            r"normalisation\.mean .*: must be a list of nu",
        ),
        (
            {"normalisation": {"mean": [0.5], "std": [1, 1]}},
            r"normalisation\.std .* one number per input channel \(1\)",
        ),
    ],
)
def test_what_does_not_fit_never_becomes_source_code(facts: dict[str, Any], message: str) -> None:
    for export in (standalone_source, input_metadata):
        with pytest.raises(NasError, match=message):
            export(SPEC, facts)


def test_files_of_equal_content_have_equal_bytes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
    names = ["class_names", "normalisation", "source", "note", "größe"]
    for turn in range(8):
        save_weights(model, tmp_path / f"{turn}.safetensors", {name: f"{name} of it" for name in names})
        names = [*names[1:], names[0]]
    first, *others = ((tmp_path / f"{turn}.safetensors").read_bytes() for turn in range(8))
    assert all(content == first for content in others)
    with safe_open(tmp_path / "0.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", **{name: f"{name} of it" for name in names}}
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert all(found[name].equal(tensor) for name, tensor in model.state_dict().items())
    assert found.keys() == model.state_dict().keys()
