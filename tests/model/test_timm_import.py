"""Import of timm networks as specs: equal modules, cost, outputs; errors."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import timm
import torch
from hypothesis import assume, given, settings
from torch import nn

from nas.arch import zoo
from nas.arch.blocks import BlockSpec, format_block
from nas.arch.complexity import complexity
from nas.arch.files import dump_spec, parse_spec
from nas.arch.notation import parse_block
from nas.arch.ops.network import network_ops
from nas.arch.parts import SqueezeExcite, StemSpec
from nas.arch.spec import ArchSpec, StageSpec
from nas.core.errors import NasError
from nas.model.build import build
from nas.model.timm_import.network import from_timm, timm_arch
from tests.model.random_specs import specs
from tests.model.torch_counts import counts, without_storage

# All block types, heads, activations, norm settings, paddings and kinds of squeeze-excite that timm's names have.
NAMES = (
    *("mnasnet_050", "semnasnet_075", "mnasnet_small", "mobilenetv1_100h", "mobilenetv2_050", "fbnetc_100"),
    *("spnasnet_100", "efficientnet_b0", "tf_efficientnet_b0", "efficientnet_b0_g16_evos", "tf_efficientnet_lite0"),
    *("efficientnet_es", "efficientnet_es_pruned", "efficientnetv2_rw_t", "tf_efficientnetv2_b0", "test_efficientnet"),
    *("mixnet_s", "tf_mixnet_m", "tinynet_e", "mobilenet_edgetpu_100", "mobilenet_edgetpu_v2_xs"),
    *("mobilenet_edgetpu_v2_l", "mobilenetv3_rw", "mobilenetv3_small_075", "tf_mobilenetv3_large_minimal_100"),
    *("fbnetv3_b", "lcnet_050", "hardcorenas_a", "mobilenetv4_conv_small_050", "mobilenetv4_conv_large"),
    *("mobilenetv4_hybrid_medium", "mobilenetv4_hybrid_large_075"),
)
RUN_NAMES = (
    *("efficientnet_b0_g16_evos", "mobilenet_edgetpu_v2_xs", "lcnet_050", "mobilenetv4_conv_small_050"),
    *("mobilenetv4_hybrid_medium", "tf_efficientnetv2_b0"),
)
ZOO_NAMES = (
    *("mobilenetv1_100", "mobilenetv2_110d", "mnasnet_100", "semnasnet_140", "mixnet_l", "efficientnet_b4"),
    *("efficientnet_lite2", "mobilenetv3_small_050", "mobilenetv3_large_075", "tf_mobilenetv3_small_minimal_100"),
)


@cache
def on_meta(name: str) -> nn.Module:
    with without_storage():
        return timm.create_model(name)


@cache
def read(name: str) -> ArchSpec:
    with without_storage():
        return from_timm(on_meta(name))


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", NAMES)
def test_cost_and_tensors_match_timm(name: str) -> None:
    model, spec = on_meta(name), read(name)
    cost = complexity(spec)
    assert (cost.params, cost.macs, cost.activations) == counts(model, 3, spec.resolution_px)
    with without_storage():
        ours = build(spec)
    assert shapes(ours) == shapes(model)
    assert ours.feature_info == model.feature_info
    assert (spec.name, spec.resolution_px) == (name, model.default_cfg["input_size"][-1])


@pytest.mark.parametrize("name", NAMES)
def test_imported_specs_round_trip(name: str) -> None:
    spec = read(name)
    assert parse_spec(dump_spec(spec)).arch == spec
    blocks = [block for stage in spec.stages for block in stage.blocks]
    assert [parse_block(format_block(block)) for block in blocks] == blocks


@pytest.mark.parametrize("name", RUN_NAMES)
def test_outputs_match_timm(name: str) -> None:
    torch.manual_seed(1)
    reference = timm.create_model(name).eval()
    for key, value in reference.state_dict().items():  # initial norms and layer scales are the identity
        if key.endswith(("running_mean", "gamma")):
            value.uniform_(-0.5, 0.5)
        elif key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    with without_storage():
        ours = build(read(name)).eval()
    ours.load_state_dict(reference.state_dict(), assign=True)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = reference(images)
        assert expected.std() > 0
        assert torch.equal(ours(images), expected)


@pytest.mark.parametrize("name", ZOO_NAMES)
def test_imported_networks_equal_the_zoo(name: str) -> None:
    """Specs equal those of the zoo, except norm settings and resolution.

    timm leaves norm settings to training scripts, and some of its weights are evaluated at other resolutions.
    """
    published = zoo.get(name)
    spec = replace(read(name), norm=published.norm, resolution_px=published.resolution_px)
    assert spec.arch_id == published.arch_id
    assert spec.strings == published.strings


def test_block_strings_are_in_canonical_notation() -> None:
    assert read("mobilenetv4_conv_small_050").strings[3] == (
        *("uir_r1_k3_a3_s2_e6_c64", "uir_r1_k5_a5_s1_e4_c64", "uir_r1_k5_s1_e4_c64", "uir_r1_k5_s1_e3_c64"),
        "uir_r2_k3_s1_e4_c64",
    )
    assert read("mobilenet_edgetpu_v2_xs").strings[1] == ("er_r1_k3_s2_e8_c32", "er_r1_k3_gs64_s1_e4_c32")
    assert read("tf_efficientnetv2_b0").strings[3:5] == (
        ("ir_r3_k3_s2_e4_c96_se0.25",),
        ("ir_r5_k3_s1_e6_c112_se0.25",),
    )
    assert read("efficientnet_es").strings[0] == ("er_r1_k3_s1_e4_c24_fc24_noskip",)
    assert read("mobilenetv4_hybrid_medium").strings[2][4] == "mqa_r1_k3_h4_v2_d64_s1_c160"


@settings(max_examples=25, deadline=None)
@given(spec=specs())
def test_built_models_round_trip(spec: ArchSpec) -> None:
    plain = [
        StageSpec(tuple(replace(block, partition="equal", dilated=False) for block in stage.blocks))
        for stage in spec.stages  # without partition and dilation, which timm lacks
    ]
    spec = replace(spec, stages=tuple(plain))
    assume(spec.total_stride > 1 or spec.padding == "symmetric")  # at stride 1 both paddings are equal
    with without_storage():
        imported = from_timm(build(spec))
    # Different ratios may give the same squeeze channels, so operations are compared.
    assert list(network_ops(imported, spec.resolution_px)) == list(network_ops(spec))
    assert (imported.norm, imported.padding, imported.classes) == (spec.norm, spec.padding, spec.classes)


def test_squeeze_channels_of_a_stricter_rounding_are_read() -> None:
    se = SqueezeExcite(divisor=8, round_limit=0.95)
    block = BlockSpec(type="ds", channels=16, se_ratio=1.0, skip=False)
    stages = (StageSpec((block,)),)
    spec = replace(zoo.get("mixnet_s"), stem=StemSpec(channels=17), stages=stages, squeeze_excite=se)
    with without_storage():
        imported = from_timm(build(spec))
    assert se.squeeze_channels(block, 17) == 24  # 16 would be less than 95% of 17
    assert list(network_ops(imported, 32)) == list(network_ops(spec, 32))


def test_model_arguments_are_imported() -> None:
    with without_storage():
        model = timm.create_model(
            "lcnet_035", num_classes=7, in_chans=1, drop_rate=0.25, drop_path_rate=0.1, bn_eps=0.01, bn_momentum=0.2
        )
        spec = from_timm(model)
    assert (spec.classes, spec.in_channels, spec.dropout, spec.drop_path) == (7, 1, 0.25, 0.1)
    assert (spec.norm.eps, spec.norm.momentum) == (0.01, 0.2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("efficientnet_cc_b0_4e", r"convolutions mixed from experts \(CondConv2d at blocks\.4\.0\.conv_pw\)"),
        ("efficientnet_blur_b0", r"blur pooling in place of strides"),
        ("mobilenetv4_conv_aa_medium", r"average pooling in place of strides"),
        ("efficientnet_b0_gn", "group norms"),
        ("test_efficientnet_ln", "layer norms"),
        ("test_efficientnet_evos", "evolved norms"),
        ("efficientnet_x_b3", r"space-to-depth convolution \(at blocks\.0\.0\)"),
        ("gc_efficientnetv2_rw_t", "global context in place of squeeze-excite"),
        ("efficientnet_b1_pruned", r"blocks\.1\.1: 62 hidden channels: a spec needs a multiple of 8"),
    ],
)
def test_inexpressible_networks_are_refused(name: str, message: str) -> None:
    with pytest.raises(NasError, match=f"{name} cannot be read exactly: .*{message}") as caught:
        read(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output_stride": 8}, "it has dilation in place of strides"),
        ({"num_classes": 0}, "it has no classifier"),
        ({"global_pool": "max"}, r"it has .*max.* where its spec would have .*avg"),
        ({"act_layer": "elu"}, "activation ELU: a spec supports relu"),
        ({"features_only": True}, "EfficientNetFeatures: only timm's EfficientNet and MobileNetV3 classes can be read"),
    ],
)
def test_inexpressible_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with without_storage(), pytest.raises(NasError, match=message):
        from_timm(timm.create_model("mobilenetv2_035", **arguments))


def test_manually_modified_networks_are_refused() -> None:
    with without_storage():
        model = timm.create_model("mobilenetv2_035")
        model.blocks[2][0].bn2.eps = 0.5
        with pytest.raises(NasError, match=r"eps=0\.5.* where its spec would have .*eps=1e-05"):
            from_timm(model)
        shortcut = timm.create_model("mobilenetv2_035")
        shortcut.blocks[1][0].has_skip = True  # across a stride
        with pytest.raises(NasError, match=r"a shortcut at blocks\.1\.0 where its spec would have"):
            from_timm(shortcut)
        foreign = timm.create_model("mobilenetv2_035")
        foreign.bn1 = nn.BatchNorm2d(16)
        with pytest.raises(NasError, match=r"its modules differ from those that timm builds .*'act'"):
            from_timm(foreign)
    with pytest.raises(NasError, match="Linear: only timm's EfficientNet and MobileNetV3 classes"):
        from_timm(nn.Linear(1, 1))


def test_timm_arch_by_name() -> None:
    assert timm_arch("tinynet_e").arch_id == read("tinynet_e").arch_id
    assert timm_arch("fbnetc_100.rmsp_in1k").name == "fbnetc_100"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fbnetc_10", r"arch 'timm/fbnetc_10': timm has no such network\. Did you mean 'fbnetc_100'"),
        (
            "resnet18",
            r"arch 'timm/resnet18': its family is not supported; supported are efficientnet\*, .*tf_ variants",
        ),
        ("hf-hub:timm/fbnetc_100", "timm has no such network"),
        ("", "arch 'timm/': timm has no such network"),
    ],
)
def test_unsupported_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(NasError, match=message) as caught:
        timm_arch(name)
    assert "\n" not in str(caught.value)
