"""Built modules against timm's: parameters, state-dict keys, structure, outputs."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import pytest
import timm
import torch
from hypothesis import given, settings
from torch import nn

from nas.arch import zoo
from nas.arch.complexity import Complexity, complexity
from nas.arch.ops.network import network_ops, output_ops
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.rewrites import Rewrites
from nas.arch.spec import ArchSpec
from nas.core.errors import SpecError
from nas.model.build import build
from tests.model.random_specs import dense_specs, specs
from tests.model.torch_counts import counts, peak_memory_bytes, without_storage

TIMM_NAMES = [name for name in zoo.names() if timm.is_model(name)]
# One or two of each family: kernels in groups, both heads, both paddings, every activation and squeeze-excite.
RUN_NAMES = (
    "mobilenetv1_100",
    "mobilenetv2_035",
    "mobilenetv2_110d",
    "semnasnet_050",
    "mnasnet_small",
    "mobilenetv3_small_050",
    "mobilenetv3_large_075",
    "tf_mobilenetv3_small_100",
    "tf_mobilenetv3_large_minimal_100",
    "mixnet_s",
    "mixnet_m",
    "efficientnet_b0",
    "efficientnet_lite0",
)
COUNTED_NAMES = (
    *RUN_NAMES,
    *("mobilenetv1_full_conv_100", "mobilenetv2_130", "mobilenetv3_large_150d", "efficientnet_lite4"),
    *("mixnet_l", "mixnet_xl", "mixnet_xxl"),
    *(f"efficientnet_b{member}" for member in range(1, 9)),
)


@cache
def on_meta(name: str) -> nn.Module:
    """Build a network on the meta device, without dropout and drop path as in timm."""
    with without_storage():
        return build(zoo.get(name), dropout=0, drop_path=0)


def structure(model: nn.Module) -> str:
    """Describe all submodules and their arguments, except momentum.

    timm leaves momentum to training scripts.
    """
    return re.sub(r"momentum=[\d.]+", "momentum", repr(model))


@pytest.mark.parametrize("name", TIMM_NAMES)
def test_module_matches_timm(name: str) -> None:
    with without_storage():
        reference = timm.create_model(name)
    ours = on_meta(name)
    assert structure(ours) == structure(reference)
    assert {key: value.shape for key, value in ours.state_dict().items()} == {
        key: value.shape for key, value in reference.state_dict().items()
    }
    assert type(ours) is type(reference)
    assert ours.feature_info == reference.feature_info


@pytest.mark.parametrize("name", COUNTED_NAMES)
def test_counts_match_torch(name: str) -> None:
    spec = zoo.get(name)
    cost = complexity(spec)
    expected = counts(on_meta(name), spec.in_channels, spec.resolution_px)
    assert (cost.params, cost.macs, cost.activations) == expected


@pytest.mark.parametrize("name", [*RUN_NAMES, "efficientnet_b7", "mixnet_xxl"])
def test_peak_memory_matches_the_traced_module(name: str) -> None:
    spec = zoo.get(name)
    expected = peak_memory_bytes(on_meta(name), spec.in_channels, spec.resolution_px)
    assert complexity(spec).peak_memory_bytes == expected


@pytest.mark.parametrize("name", RUN_NAMES)
def test_outputs_match_timm(name: str) -> None:
    torch.manual_seed(1)
    reference = timm.create_model(name).eval()
    for key, value in reference.state_dict().items():  # initial statistics make norms the identity
        if key.endswith("running_mean"):
            value.uniform_(-0.5, 0.5)
        elif key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    ours = build(zoo.get(name)).eval()
    ours.load_state_dict(reference.state_dict())
    images = torch.randn(2, 3, 47, 47)
    with torch.inference_mode():
        expected = reference(images)
        assert expected.std() > 0
        assert torch.equal(ours(images), expected)


def test_same_seed_gives_the_weights_of_timm() -> None:
    torch.manual_seed(7)
    reference = timm.create_model("mobilenetv3_small_050").state_dict()
    torch.manual_seed(7)
    ours = build(zoo.get("mobilenetv3_small_050")).state_dict()
    assert all(torch.equal(value, reference[key]) for key, value in ours.items())


@pytest.mark.parametrize("name", ["mobilenetv2_035", "mixnet_s"])
def test_counts_of_rewritten_networks_match_torch(name: str) -> None:
    """Efficient last stage and h-swish; the activations are those of the modules, not of their spec."""
    given = zoo.get(name)
    *_, step = Rewrites(head="pool_conv", hswish_from=0.9).steps(given)
    with without_storage():
        model = build(step.after)
    cost = complexity(step.after)
    assert counts(model, 3, step.after.resolution_px) == (cost.params, cost.macs, cost.activations)
    blocks = [[type(layer).__name__ for layer in block.modules()] for stage in model.blocks for block in stage]
    assert ["Hardswish" in types for types in blocks] == [index >= 0.9 * len(blocks) for index in range(len(blocks))]
    assert {type(layer).__name__ for layer in (model.bn1.act, model.act2)} == {"Hardswish"}


@settings(max_examples=25, deadline=None)
@given(spec=specs())
def test_counts_of_random_networks_match_torch(spec: ArchSpec) -> None:
    with without_storage():
        model = build(spec)
    params, macs, activations = counts(model, spec.in_channels, spec.resolution_px)
    peak = peak_memory_bytes(model, spec.in_channels, spec.resolution_px)
    assert complexity(spec) == Complexity(params=params, macs=macs, activations=activations, peak_memory_bytes=peak)
    feature = model.feature_info[-1]
    assert (feature["num_chs"], feature["reduction"]) == (spec.stages[-1].blocks[-1].channels, spec.total_stride)


@settings(max_examples=25, deadline=None)
@given(spec=dense_specs())
def test_counts_and_shapes_of_random_detectors_and_segmenters_match_torch(spec: ArchSpec) -> None:
    with without_storage():
        model = build(spec)
    cost = complexity(spec)
    assert counts(model, spec.in_channels, spec.resolution_px) == (cost.params, cost.macs, cost.activations)
    images = torch.empty(2, spec.in_channels, spec.resolution_px, spec.resolution_px, device="meta")
    outputs = model.eval()(images)
    by_path = {op.path: op for op in network_ops(spec)}
    expected = [(2, by_path[path].out_channels, *[by_path[path].out_px] * 2) for path in output_ops(spec)]
    assert [output.shape for output in ([outputs] if spec.task == "segmentation" else outputs)] == expected
    names = {name.removesuffix(".weight") for name, value in model.named_parameters() if value.ndim == 4}
    assert names == {op.path for op in by_path.values() if op.kind in ("conv", "depthwise")}


@pytest.mark.parametrize("kind", ["conv_pool", "pool_conv"])
@pytest.mark.parametrize("stem_stride", [1, 2])
def test_no_stride_turns_into_dilation(kind: str, stem_stride: int) -> None:
    """Unlike timm, keep total strides above 32 and other stem strides than 2."""
    stages = [["ir_r2_k3_s2_e2_c16"]] * 6
    stem, head = StemSpec(channels=8, stride=stem_stride), HeadSpec(channels=8, kind=kind)
    spec = ArchSpec.from_strings("deep", stages, stem=stem, head=head, classes=2, drop_path=0.5)
    model = build(spec).eval()
    maps = (
        model.forward_features(torch.zeros(1, 3, 128, 128))
        if kind == "pool_conv"
        else model.blocks(model.bn1(model.conv_stem(torch.zeros(1, 3, 128, 128))))
    )
    assert maps.shape == (1, 16, 2 // stem_stride, 2 // stem_stride)
    assert {conv.dilation for conv in model.modules() if isinstance(conv, nn.Conv2d)} == {(1, 1)}
    assert model.blocks[5][1].drop_path.drop_prob == pytest.approx(0.5 * 11 / 12)  # timm: rate * index / blocks


def test_rates_default_to_the_spec() -> None:
    spec = replace(zoo.get("mnasnet_small"), dropout=0.3, drop_path=0.1)
    with torch.device("meta"):
        default, changed = build(spec), build(spec, dropout=0.0, drop_path=0.0)
    assert (default.drop_rate, changed.drop_rate) == (0.3, 0.0)
    assert default.blocks[-1][0].drop_path.drop_prob > 0
    assert not any("DropPath" in type(module).__name__ for module in changed.modules())
    with pytest.raises(SpecError, match=r"drop_path 1\.5"):
        build(spec, drop_path=1.5)
