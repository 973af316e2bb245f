"""Feature maps of detectors by timm's ``create_model``, against torchvision's and timm's."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from nas.arch import zoo
from nas.arch.files import save_spec
from nas.arch.heads import detector, segmenter
from nas.core.errors import NasError
from nas.exporters.standalone import save_weights
from nas.model.build import build
from tests.model.test_features import OURS, images, ours
from tests.model.torchvision_dense import SSD_NORM, DetectorMaps, randomise

SIZES = {"large": "mobilenetv3_large_100", "small": "mobilenetv3_small_100"}


def features(spec: object, **arguments: object) -> Any:
    return ours(spec, features_only=True, feature_maps="detection", **arguments)


@pytest.mark.parametrize("halved", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_c4_and_c5_are_torchvisions(size: str, halved: bool) -> None:
    theirs = DetectorMaps(size, 4, halved=halved)
    randomise(theirs)
    arch = replace(zoo.get(SIZES[size]), norm=SSD_NORM)
    model = features(arch, out_indices=2, halve=halved)
    state = [tensor for name, tensor in theirs.state_dict().items() if name.startswith("backbone.features.")]
    model.load_state_dict(dict(zip(model.state_dict(), state, strict=True)), strict=True)
    with torch.inference_mode():
        found = model.double()(images().double())
        expected = list(theirs.double().eval().backbone(images().double()).values())[:2]
    assert [level.shape[1] for level in found] == model.feature_info.channels()
    assert model.feature_info.reduction() == [16, 32]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("output_stride", [None, 32, 16, 8])
@pytest.mark.parametrize("name", ["mixnet_s", "mobilenetv3_small_050", "mobilenetv1_025", "mnasnet_small"])
def test_other_maps_are_those_of_the_stages(name: str, output_stride: int | None) -> None:
    arguments: dict[str, object] = {} if output_stride is None else {"output_stride": output_stride}
    stages: Any = ours(name, features_only=True, **arguments)
    model = features(name, **arguments)
    model.load_state_dict(stages.state_dict(), strict=False)
    with torch.inference_mode():
        found, expected = model(images()), stages(images())
    assert model.feature_info.reduction() == stages.feature_info.reduction()
    assert model.feature_info.channels() == [level.shape[1] for level in found]
    assert all(torch.equal(one, other) for one, other in zip(found[:3], expected[:3], strict=True))
    assert [level.shape[2:] for level in found] == [level.shape[2:] for level in expected]


@pytest.mark.parametrize("name", ["mixnet_s", "mobilenetv3_small_050", "efficientnet_b0"])
def test_modules_of_feature_info_compute_the_maps(name: str, tmp_path: Path) -> None:
    """In timm's own network with trained weights."""
    theirs = timm.create_model(name).eval()
    path = tmp_path / "weights.safetensors"
    save_weights(theirs, path)
    model = features(name, checkpoint_path=path)
    seen: dict[str, torch.Tensor] = {}

    def keep(module_name: str, _module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        seen[module_name] = output

    modules = model.feature_info.module_name()
    for module_name in modules:
        theirs.get_submodule(module_name).register_forward_hook(partial(keep, module_name))
    with torch.inference_mode():
        theirs(images())
        found = model(images())
    for one, module_name in zip(found, modules, strict=True):
        assert torch.equal(one, seen[module_name]), module_name


def test_a_detectors_spec_gives_the_maps_of_its_head(tmp_path: Path) -> None:
    spec = detector(OURS, 3)
    whole: Any = build(spec).eval()
    save_spec(spec, tmp_path / "detector.yaml")
    save_weights(whole, tmp_path / "detector.safetensors")
    model = ours(
        tmp_path / "detector.yaml", features_only=True, out_indices=2, checkpoint_path=tmp_path / "detector.safetensors"
    )
    with torch.inference_mode():
        for one, other in zip(model(images()), whole.maps(images()), strict=True):
            assert torch.equal(one, other)


def test_a_segmenters_spec_gives_the_maps_of_its_trunk(tmp_path: Path) -> None:
    spec = segmenter(OURS, 3, output_stride=8, low_stride=8)
    whole: Any = build(spec).eval()
    save_weights(whole, tmp_path / "x.safetensors")
    model: Any = ours(spec, features_only=True, checkpoint_path=tmp_path / "x.safetensors")
    assert model.feature_info.reduction() == [2, 4, 8, 8]
    with torch.inference_mode():
        assert torch.equal(model(images())[-1], whole.maps(images())[1])


def test_detection_features_are_trained() -> None:
    model = features(OURS).train()
    model.set_grad_checkpointing()
    sum(level.mean() for level in model(images())).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"feature_maps": "detection"}, r"feature_maps 'detection': needs features_only=True"),
        ({"halve": True}, r"halve True: needs features_only=True"),
        ({"features_only": True, "halve": 2}, r"halve 2: must be True or False"),
        ({"features_only": True, "feature_maps": "ssd"}, r"unknown feature_maps 'ssd': choose from stages, detection"),
        (
            {"features_only": True, "feature_maps": "detection", "feature_cls": "fx"},
            r"feature_cls 'fx': leave it out with feature_maps='detection'",
        ),
    ],
)
def test_refusals_are_one_line(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(NasError, match=message) as caught:
        timm.create_model("nas_arch", spec="mobilenetv3_small_050", **arguments)
    assert "\n" not in str(caught.value)
