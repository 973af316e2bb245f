"""Weight files round-trip; standalone files build the same network without nas."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from torch import nn

from nas.arch import zoo
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.exporters.standalone import load_weights, save_weights, standalone_source
from nas.model.build import build, counted_stride
from tests.model.random_specs import specs

SMALL = zoo.get("mobilenetv3_small_050")


def standalone(spec: ArchSpec) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "winner"}
    exec(compile(standalone_source(spec), "winner.py", "exec"), names)
    return names


def assert_same_network(ours: nn.Module, theirs: nn.Module, spec: ArchSpec) -> None:
    """Assert equal keys and shapes, and bitwise equal outputs with equal weights."""
    theirs.load_state_dict(ours.state_dict())
    assert list(theirs.state_dict()) == list(ours.state_dict())
    images = torch.randn(2, spec.in_channels, 21, 21)
    with torch.inference_mode():
        assert torch.equal(theirs.eval()(images), ours.eval()(images))


def test_weights_round_trip(tmp_path: Path) -> None:
    trained = build(SMALL).to(memory_format=torch.channels_last)
    save_weights(trained, tmp_path / "weights.safetensors")
    (tmp_path / "any").touch()
    assert (tmp_path / "weights.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode
    loaded = build(SMALL)
    load_weights(loaded, tmp_path / "weights.safetensors")
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, trained.state_dict()[key])


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(build(replace(SMALL, classes=5)), path)
    with pytest.raises(NasError, match=r"2 tensors .*'classifier\.weight': the file has \(5, 1024\), the network"):
        load_weights(build(SMALL), path)
    with path.open("wb") as stream:
        stream.truncate(100_000_000)
    with pytest.raises(NasError, match=r"larger than the [\d,]+ bytes that the network's can have"):
        load_weights(build(SMALL), path)
    path.write_bytes(b"no tensors")
    with pytest.raises(NasError, match="not a readable safetensors file"):
        load_weights(build(SMALL), path)
    with pytest.raises(NasError, match="missing"):
        load_weights(build(SMALL), tmp_path / "missing.safetensors")


@pytest.mark.parametrize("name", ["mobilenetv1_100", "mobilenetv2_035", "mobilenetv3_small_050", "mixnet_s"])
def test_standalone_file_builds_a_published_network(name: str) -> None:
    spec = zoo.get(name)
    assert_same_network(build(spec), standalone(spec)["build"](), spec)


@settings(max_examples=25, deadline=None)
@given(spec=specs())
def test_standalone_file_builds_any_network(spec: ArchSpec) -> None:
    assume(spec.layer_scale is None if spec.head.kind == "conv_pool" else counted_stride(spec) <= 32)
    assert_same_network(build(spec), standalone(spec)["build"](), spec)


def test_standalone_file_is_short_and_imports_only_torch_and_timm() -> None:
    source = standalone_source(zoo.get("mixnet_s"))
    roots = set(re.findall(r"^\s*(?:from|import) (\w+)", source, flags=re.MULTILINE))
    assert roots == {"functools", "torch", "timm"}
    assert max(len(line) for line in source.splitlines()) <= 120
    assert len(source.splitlines()) < 60
    assert "MixConv2d" not in source
    narrow = standalone(SMALL)["build"](num_classes=3, in_chans=1)
    assert (narrow.classifier.out_features, narrow.conv_stem.weight.shape[1]) == (3, 1)


def test_name_of_a_network_cannot_become_code() -> None:
    name = 'a"""\nraise SystemExit("{{ 1 + 1 }}")\n"""\\'
    assert standalone(replace(SMALL, name=name))["__doc__"].startswith("a''' raise SystemExit('{{ 1 + 1 }}')")


def test_network_too_deep_for_timms_class_is_refused() -> None:
    stem, head = StemSpec(channels=8), HeadSpec(channels=8, kind="pool_conv")
    spec = ArchSpec.from_strings("deep", [["ir_r1_k3_s2_e2_c16"]] * 6, stem=stem, head=head)
    with pytest.raises(NasError, match=r"deep: .*32.*128"):
        standalone_source(spec)


def test_layer_scale_that_timms_class_does_not_pass_on_is_refused() -> None:
    stages, head = [["uir_r1_k3_s1_e2_c8"]], HeadSpec(channels=0)
    spec = ArchSpec.from_strings("scaled", stages, stem=StemSpec(channels=8), head=head, layer_scale=0.1)
    with pytest.raises(NasError, match="scaled: timm's EfficientNet class does not support layer scale"):
        standalone_source(spec)


def test_standalone_file_has_attention_and_groups() -> None:
    stages = [["er_r1_k3_gs16_s2_e4_c24"], ["mqa_r1_k3_h2_v2_d8_s1_c24", "uir_r1_a3_k5_s1_e4_c24"]]
    head = HeadSpec(channels=16, kind="pool_conv_norm")
    spec = ArchSpec.from_strings("hybrid", stages, stem=StemSpec(channels=16), head=head, layer_scale=0.1)
    assert_same_network(build(spec), standalone(spec)["build"](), spec)
