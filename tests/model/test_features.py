"""Arguments of timm's ``create_model`` against its models of the same networks."""

from __future__ import annotations

import copy
import io
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from nas.arch import zoo
from nas.arch.files import dump_spec
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.exporters.standalone import save_weights
from nas.model.build import build

NETWORKS = ("mixnet_s", "mobilenetv3_small_050", "efficientnet_b0", "mobilenetv2_100", "tf_mobilenetv3_small_075")
SMALL = "mobilenetv3_small_050"
# With exponential partition and dilated kernels, timm cannot build its MixConvs.
OURS = ArchSpec.from_strings(
    "ours",
    [
        ["ds_r1_k3_s1_e1_c8"],
        ["ir_r2_k3.5.7_s2_e3_c16"],
        ["ir_r2_k3.5_s2_e3_c24"],
        ["ir_r2_k3.5.7_s2_e3_c32_se0.25"],
    ],
    stem=StemSpec(channels=8),
    head=HeadSpec(channels=32),
    resolution_px=64,
    classes=5,
)


def exponential(*, dilated: bool = False) -> ArchSpec:
    stages = tuple(
        replace(
            stage,
            blocks=tuple(
                replace(block, partition="exponential", dilated=dilated) if len(block.kernels) > 1 else block
                for block in stage.blocks
            ),
        )
        for stage in OURS.stages
    )
    return replace(OURS, stages=stages)


def ours(spec: object, **arguments: object) -> nn.Module:
    model: nn.Module = timm.create_model("nas_arch", spec=spec, **arguments)
    return model.eval()


def images(channels: int = 3, side: int = 64) -> torch.Tensor:
    return torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(0))


def assert_equal_maps(first: nn.Module, second: nn.Module, batch: torch.Tensor) -> None:
    with torch.inference_mode():
        for one, other in zip(first(batch), second(batch), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("output_stride", [None, 32, 16, 8])
def test_features_equal_those_of_timm(name: str, output_stride: int | None) -> None:
    arguments = {} if output_stride is None else {"output_stride": output_stride}
    theirs = timm.create_model(name, features_only=True, **arguments).eval()
    model = ours(name, features_only=True, **arguments)
    model.load_state_dict(theirs.state_dict(), strict=True)
    assert set(model.state_dict()) == set(theirs.state_dict())
    for key in ("num_chs", "reduction", "module", "index"):
        assert model.feature_info.get(key) == theirs.feature_info.get(key)
    assert model.feature_info.reduction()[-1] == (output_stride or 32)
    assert_equal_maps(model, theirs, images())


@pytest.mark.parametrize(
    ("out_indices", "levels"),
    [((1, 2, 4), [1, 2, 4]), ([-2, -1], [3, 4]), (3, [2, 3, 4]), ((0,), [0]), ((0, -1), [0, 4])],
)
def test_out_indices(out_indices: object, levels: list[int]) -> None:
    every = ours(SMALL, features_only=True)
    some = ours(SMALL, features_only=True, out_indices=out_indices)
    some.load_state_dict(every.state_dict())
    with torch.inference_mode():
        expected = every(images())
        found = some(images())
    assert some.feature_info.channels() == [expected[level].shape[1] for level in levels]
    assert some.feature_info.reduction() == [64 // expected[level].shape[-1] for level in levels]
    assert all(torch.equal(one, expected[level]) for one, level in zip(found, levels, strict=True))


@pytest.mark.parametrize("feature_cls", ["list", "dict", "hook", "fx", "getter"])
@pytest.mark.parametrize("name", ["mixnet_s", SMALL])
def test_feature_classes_of_timm(name: str, feature_cls: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(build(zoo.get(name)), path)
    plain = ours(name, features_only=True, checkpoint_path=path)
    overlay = {"file": str(path)}
    model = ours(name, features_only=True, feature_cls=feature_cls, pretrained=True, pretrained_cfg_overlay=overlay)
    with torch.inference_mode():
        found = model(images())
        found = list(found.values()) if isinstance(found, dict) else found
        for one, other in zip(found, plain(images()), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize(
    "spec", [OURS, exponential(), exponential(dilated=True)], ids=["equal", "exponential", "dilated"]
)
@pytest.mark.parametrize("stem_stride", [1, 2])
def test_features_are_the_outputs_of_the_stages(spec: ArchSpec, stem_stride: int, tmp_path: Path) -> None:
    spec = replace(spec, stem=replace(spec.stem, stride=stem_stride))
    full = build(spec).eval()
    path = tmp_path / "weights.safetensors"
    save_weights(full, path)
    model = ours(spec, features_only=True, checkpoint_path=path)
    stages: list[torch.Tensor] = []
    for stage in full.blocks:
        stage.register_forward_hook(lambda _module, _inputs, output: stages.append(output))
    with torch.inference_mode():
        full(images())
        found = model(images())
    assert len(found) == len(stages) == 4  # each stage ends at a resolution of its own
    assert all(torch.equal(one, other) for one, other in zip(found, stages, strict=True))
    assert model.feature_info.channels() == [8, 16, 24, 32]
    assert model.feature_info.reduction() == [stem_stride * 2**level for level in range(4)]


@pytest.mark.parametrize("dilated_kernels", [False, True])
@pytest.mark.parametrize("stem_stride", [1, 2])
def test_output_stride_of_an_exponential_mixconv(stem_stride: int, dilated_kernels: bool) -> None:
    """Every second sample of a dilated convolution is the strided one's."""
    spec = replace(exponential(dilated=dilated_kernels), stem=StemSpec(channels=8, stride=stem_stride))
    plain = ours(spec, features_only=True)
    dilated = ours(spec, features_only=True, output_stride=4 * stem_stride)
    dilated.load_state_dict(plain.state_dict(), strict=True)
    assert dilated.feature_info.reduction() == [stem_stride, 2 * stem_stride, 4 * stem_stride, 4 * stem_stride]
    for block, (strided, replaced) in enumerate(zip(plain.blocks[3], dilated.blocks[3], strict=True)):
        channels = strided.conv_dw.in_channels
        batch = torch.randn(1, channels, 16, 16, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            expected = strided.conv_dw(batch[:, :, ::2, ::2] if block else batch)
            found = replaced.conv_dw(batch)[:, :, ::2, ::2]
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["mixnet_s", "mobilenetv2_100"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"output_stride": 16},
        {"global_pool": "max"},
        {"global_pool": "catavgmax", "num_classes": 3},
        {"global_pool": "", "num_classes": 0},
        {"num_classes": 0},
        {"in_chans": 1},
    ],
    ids=str,
)
def test_whole_networks_equal_timms(name: str, arguments: dict[str, object]) -> None:
    theirs, model = timm.create_model(name, **arguments).eval(), ours(name, **arguments)
    model.load_state_dict(theirs.state_dict(), strict=True)
    assert (model.num_classes, model.head_hidden_size) == (theirs.num_classes, theirs.head_hidden_size)
    batch = images(theirs.in_chans)
    with torch.inference_mode():
        assert torch.equal(model(batch), theirs(batch))


@pytest.mark.parametrize("arguments", [{"global_pool": "", "num_classes": 0}, {"global_pool": "catavgmax"}], ids=str)
def test_pooling_before_the_head_equals_timms(arguments: dict[str, object]) -> None:
    theirs, model = timm.create_model(SMALL, **arguments).eval(), ours(SMALL, **arguments)
    model.load_state_dict(theirs.state_dict(), strict=True)
    with torch.inference_mode():
        assert torch.equal(model(images()), theirs(images()))


def test_output_stride_of_a_whole_mobilenetv3() -> None:
    """Last map equal to that of timm's features, for which alone timm has it."""
    model = ours(SMALL, output_stride=8, global_pool="", num_classes=0)
    theirs = timm.create_model(SMALL, features_only=True, output_stride=8).eval()
    theirs.load_state_dict({n: t for n, t in model.state_dict().items() if not n.startswith("conv_head")})
    with torch.inference_mode():
        assert torch.equal(model.forward_features(images()), theirs(images())[-1])


@pytest.mark.parametrize(
    "arguments", [{"in_chans": 1}, {"in_chans": 4}, {"num_classes": 7}, {"num_classes": 0}], ids=str
)
@pytest.mark.parametrize("features", [False, True])
def test_weights_are_converted_as_timm_does(arguments: dict[str, int], features: bool, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(timm.create_model(SMALL), path)
    overlay = {"file": str(path)}
    arguments = {**arguments, "features_only": features}
    theirs = timm.create_model(SMALL, pretrained=True, pretrained_cfg_overlay=overlay, **arguments).eval()
    for model in (
        ours(SMALL, checkpoint_path=path, **arguments),
        ours(SMALL, pretrained=True, pretrained_cfg_overlay=overlay, **arguments),
    ):
        expected, found = theirs.state_dict(), model.state_dict()
        assert expected.keys() == found.keys()
        random = ("classifier.weight", "classifier.bias") if arguments.get("num_classes") and not features else ()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items() if name not in random)
        assert [found[name].shape for name in random] == [expected[name].shape for name in random]


def test_own_checkpoints_load_unchanged(tmp_path: Path) -> None:
    """No conversion of weights that fit already."""
    trained = ours(SMALL, in_chans=1, num_classes=7)
    path = tmp_path / "weights.safetensors"
    save_weights(trained, path)
    again = ours(SMALL, in_chans=1, num_classes=7, checkpoint_path=path)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in trained.state_dict().items())
    with pytest.raises(RuntimeError, match="size mismatch"):
        ours(SMALL, in_chans=2, checkpoint_path=path)


def test_a_backbone_inside_another_module() -> None:
    """Removal of the head's weights under a prefix, and of no others."""
    whole = nn.ModuleDict({"backbone": build(zoo.get(SMALL)), "classifier": nn.Linear(2, 2)})
    detector = nn.ModuleDict({"backbone": ours(SMALL, features_only=True), "classifier": nn.Linear(2, 2)})
    detector.load_state_dict(whole.state_dict(), strict=True)
    assert torch.equal(detector["classifier"].weight, whole["classifier"].weight)
    stem = "backbone.conv_stem.weight"
    assert torch.equal(detector.state_dict()[stem], whole.state_dict()[stem])


def test_default_cfg_of_features(tmp_path: Path) -> None:
    path = tmp_path / "winner.yaml"
    statistics = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5]}
    path.write_text(dump_spec(OURS, {"normalisation": statistics}), encoding="utf-8")
    model = ours(path, features_only=True)
    assert (model.default_cfg["mean"], model.default_cfg["input_size"]) == ((0.1, 0.2, 0.3), (3, 64, 64))
    assert "classifier" not in model.pretrained_cfg
    theirs = timm.create_model(SMALL, features_only=True)
    assert not {"num_classes", "classifier"} & theirs.default_cfg.keys()
    changed = ours(path, pretrained_cfg_overlay={"mean": (0.0, 0.0, 0.0)})
    assert changed.default_cfg["mean"] == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("flag", ["scriptable", "exportable"])
def test_layer_flags_leave_the_outputs(flag: str) -> None:
    spec = exponential()
    model, flagged = ours(spec, features_only=True), ours(spec, features_only=True, **{flag: True})
    flagged.load_state_dict(model.state_dict())
    assert_equal_maps(model, flagged, images())


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("spec", [exponential(), SMALL], ids=["exponential", "mobilenetv3"])
def test_scriptable(spec: object, features: bool) -> None:
    model = ours(spec, features_only=features, scriptable=True)
    scripted = torch.jit.script(model)
    expected, found = model(images()), scripted(images())
    for one, other in zip(*((x,) if isinstance(x, torch.Tensor) else x for x in (expected, found)), strict=True):
        torch.testing.assert_close(one, other)


def test_features_are_copied_saved_and_trained() -> None:
    model = ours(exponential(), features_only=True, drop_rate=0.2, drop_path_rate=0.3)
    copied = copy.deepcopy(model)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    assert_equal_maps(model, copied, images())
    assert_equal_maps(model, loaded, images())
    assert model.drop_rate == 0.2
    assert model.blocks[-1][-1].drop_path.drop_prob > 0
    model.train().set_grad_checkpointing()
    sum(level.mean() for level in model(images())).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out_indices": (0, 1)}, r"out_indices \(0, 1\): needs features_only=True"),
        ({"features_only": True, "out_indices": (4, 2)}, r"out_indices \(4, 2\): must ascend.* use \(2, 4\)"),
        ({"features_only": True, "out_indices": (0, 5)}, r"out_indices \(0, 5\): must be .*5 resolutions"),
        ({"features_only": True, "out_indices": 6}, r"out_indices 6: must be a number of levels \(1 to 5\)"),
        ({"features_only": True, "out_indices": "12"}, r"out_indices '12': must be"),
        ({"features_only": True, "out_indices": ()}, r"out_indices \(\): must be"),
        ({"features_only": True, "out_indices": (True,)}, r"out_indices \(True,\): must be"),
        ({"features_only": True, "feature_cls": "lst"}, r"unknown feature_cls 'lst': choose from list, .*'list'"),
        ({"output_stride": 12}, r"output_stride 12: choose from 2, 4, 8, 16, 32"),
        ({"output_stride": 1}, r"output_stride 1: .*the stem's stride is 2"),
        ({"output_stride": "8"}, r"output_stride '8': choose"),
        ({"output_stride": [8]}, r"output_stride \[8\]: choose"),
        ({"global_pool": "mean"}, r"unknown global_pool 'mean': choose from avg"),
        ({"global_pool": ""}, r"global_pool '': .*num_classes=0 \(is 1000\)"),
        ({"in_chans": 0}, r"in_chans 0: must be a whole number of at least 1"),
        ({"drop_rate": "0.2"}, r"drop_rate '0\.2': must be a number"),
        ({"drop_path_rate": 1}, r"drop_path_rate 1: must be a number .*below 1"),
        ({"features_only": "yes"}, r"features_only 'yes': must be True or False"),
        ({"num_classes": -1}, r"num_classes -1: must be a whole number"),
        ({"num_classes": "7"}, r"num_classes '7': must be a whole number"),
        ({"act_layer": "relu"}, r"act_layer: .*set activation in the spec"),
        ({"device": "cpu"}, r"device: .*\.to\(device\)"),
        ({"feature_location": "expansion"}, r"feature_location: .*out_indices"),
        ({"img_size": 64}, r"img_size: .*resolution_px"),
        ({"pretrained_cfg": "in1k"}, r"pretrained_cfg 'in1k': .*must be a mapping"),
        ({"pretrained_cfg_overlay": {"fil": "x"}}, r"pretrained_cfg_overlay entry 'fil': .*Did you mean 'file'"),
        ({"pretrained": True, "pretrained_cfg_overlay": {"mean": (0,)}}, r"pretrained: .*checkpoint_path=.*\"file\""),
    ],
)
def test_refusals_are_one_line(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(NasError, match=message) as caught:
        timm.create_model("nas_arch", spec=SMALL, **arguments)
    assert "\n" not in str(caught.value)
