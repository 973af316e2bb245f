"""Carried weights: a target computes its source without what it lacks."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import islice
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch.nn.utils import fuse_conv_bn_eval

from nas.arch import zoo
from nas.arch.parts import HEAD_KINDS, HeadSpec, StemSpec
from nas.arch.scaling.transform import Scaling, scale
from nas.arch.spec import PADDINGS, ArchSpec, PlacedBlock, StageSpec, can_skip
from nas.core.errors import NasError
from nas.model.build import build
from nas.model.weights import (
    CarriedLayer,
    CarriedWeights,
    CoupledChannels,
    carry_weights,
    filter_norm,
    weighted_input_norm,
)
from search_spaces.space import SearchSpace
from tests.model.random_specs import specs
from tests.model.weights.masked import carry, loaded, logits, masked_source, random_network
from tests.search_spaces.conftest import build as build_space
from tests.search_spaces.conftest import read

# Logits at float64 of two orders of summation: a rounding error of 1e-16 grows over some dozens of layers.
EXACT = {"rtol": 1e-9, "atol": 1e-11}
FAMILIES = (
    "mobilenetv1_100",
    "mobilenetv2_100",
    "mnasnet_small",
    "mobilenetv3_large_100",
    "tf_mobilenetv3_small_100",
    "mixnet_s",
    "efficientnet_b0",
)
SPACES = ("mixnet", "mobilenet_v3", "mnasnet", "efficientnet", "mobilenet_v1", "tiny")


def arch(*strings: str, name: str = "network", **fields: Any) -> ArchSpec:
    """Network of one stage of the given block strings."""
    return ArchSpec.from_strings(
        name, [strings], **{"stem": StemSpec(channels=16), "head": HeadSpec(channels=24), "classes": 5, **fields}
    )


@cache
def family(name: str, width: float = 0.25) -> ArchSpec:
    return replace(scale(zoo.get(name), Scaling(width=width)), classes=5)


def row(carried: CarriedWeights, path: str) -> CarriedLayer:
    return next(layer for layer in carried.layers if layer.path == path)


def assert_computes_masked_source(source: ArchSpec, target: ArchSpec) -> CarriedWeights:
    """Compare the target with its source without what the target lacks."""
    model = random_network(source, 0)
    carried = carry(model, source, target)
    assert carried.changed_shortcuts == ()
    expected = logits(masked_source(model, source, target, carried), source)
    torch.testing.assert_close(logits(loaded(target, carried), target), expected, **EXACT)
    return carried


# Pairs of networks, of which the first contains the second.
CONTAINING = {
    "ir, expansion and width": ("ir_r2_k3_s2_e3_c16", "ir_r2_k3_s2_e2_c12"),
    "ir, squeeze-excite": ("ir_r2_k3_s2_e6_c16_se0.5", "ir_r2_k3_s2_e3_c16_se0.5"),
    "ir, kernel": ("ir_r2_k7_s2_e3_c16_se0.25", "ir_r2_k5_s2_e3_c16_se0.25"),
    "ir, depth": ("ir_r4_k5_s2_e3_c16", "ir_r1_k5_s2_e3_c16"),
    "ds": ("ds_r3_k5_s1_c24_se0.25", "ds_r2_k3_s1_c20_se0.25"),
    "ds, MixConv": ("ds_r3_k3.5.7_s2_c24", "ds_r2_k3.5.7_s2_c20"),
    "dsa": ("dsa_r2_k5_s2_c24", "dsa_r2_k3_s2_c20"),
    "er": ("er_r2_k5_s2_e3_c16_se0.25", "er_r2_k3_s2_e2_c12_se0.25"),
    "er, groups": ("er_r2_k3_gs4_s2_e4_c32", "er_r2_k3_gs4_s2_e4_c24"),
    "cn": ("cn_r3_k5_s2_c24_skip", "cn_r2_k3_s2_c20_skip"),
    "cn, groups": ("cn_r2_k3_gs4_s2_c32_skip", "cn_r1_k3_gs4_s2_c24_skip"),
    "ir, groups of channels": ("ir_r2_k3_gs8_s2_e4_c16", "ir_r2_k3_gs8_s2_e3_c12"),
    "MixConv, width of the groups": ("ir_r2_k3.5.7_s2_e6_c16_se0.25", "ir_r2_k3.5.7_s2_e3_c12_se0.25"),
    "MixConv, exponential": ("ir_r2_k3.5.7_s2_e6_c16_exponential", "ir_r2_k3.5.7_s2_e3_c12_exponential"),
    "MixConv, dilated": ("ir_r2_k3.5.9_s1_e3_c24_dilated", "ir_r2_k3.5.9_s1_e2_c20_dilated"),
    "MixConv, group removed": ("ir_r2_k3.5.7_s2_e3_c16_se0.25", "ir_r2_k3.5_s2_e3_c16_se0.25"),
    "MixConv, group and width": ("ir_r2_k3.5.7.9_s2_e6_c16", "ir_r2_k3.7_s2_e2_c12"),
    "MixConv, kernel of a group": ("ir_r2_k3.9_s2_e3_c16", "ir_r2_k3.5_s2_e3_c16"),
    "MixConv, one kernel left": ("ir_r2_k3.5.7_s2_e3_c16", "ir_r2_k3_s2_e3_c16"),
    "one kernel, MixConv": ("ir_r2_k7_s2_e3_c16", "ir_r2_k3.5_s2_e3_c16"),
    "dense kernel, dilated": ("ir_r2_k7_s1_e3_c16", "ir_r2_k7_s1_e3_c16_dilated"),
    "grouped 1x1": ("ir_r2_k3_a1.1_p1.1_s2_e6_c16", "ir_r2_k3_a1.1_p1.1_s2_e3_c12"),
    "grouped 1x1, MixConv": ("ir_r2_k3.5.7_a1.1_p1.1_s2_e6_c24_se0.25", "ir_r2_k3.5_a1.1_p1.1_s2_e3_c18_se0.25"),
    "grouped 1x1, more groups": ("ir_r2_k3_s2_e3_c16", "ir_r2_k3_a1.1_p1.1_s2_e3_c16"),
    "uir": ("uir_r2_k5_a5_p5_s2_e3_c32", "uir_r2_k3_a3_p3_s2_e2_c24"),
    "uir, without a kernel between": ("uir_r2_k0_a5_s2_e4_c32_se0.25", "uir_r2_k0_a3_s2_e2_c24_se0.25"),
    "uir, feed-forward": ("uir_r2_k0_s1_e4_c32", "uir_r2_k0_s1_e2_c24"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONTAINING)
def test_smaller_network_computes_the_source_without_what_it_lacks(case: str) -> None:
    carried = assert_computes_masked_source(*(arch(text) for text in CONTAINING[case]))
    assert carried.carried_share == 1
    assert {layer.change for layer in carried.layers} <= {"carried", "cropped"}
    assert any(layer.change == "cropped" for layer in carried.layers) or carried.left_out


@pytest.mark.parametrize("case", CONTAINING)
def test_larger_network_computes_the_same_function(case: str) -> None:
    large, small = (arch(text) for text in CONTAINING[case])
    model = random_network(small, 0)
    carried = carry(model, small, large)
    torch.testing.assert_close(logits(loaded(large, carried), large), logits(model, small), **EXACT)
    assert {layer.change for layer in carried.layers} <= {"carried", "embedded", "drawn anew"}
    assert carried.left_out == {} and carried.carried_share < 1


def test_kernels_are_cropped_around_the_same_pixel_with_either_padding() -> None:
    """TensorFlow's padding of strided kernels is not symmetric."""
    for padding in PADDINGS:
        assert_computes_masked_source(
            arch("ir_r2_k7_s2_e3_c16", stem=StemSpec(channels=16, kernel=5), padding=padding),
            arch("ir_r2_k3_s2_e3_c16", stem=StemSpec(channels=16), padding=padding),
        )


@pytest.mark.parametrize("kind", HEAD_KINDS)
@pytest.mark.parametrize("layer_scale", [None, 0.1])
def test_every_head_and_attention_is_cropped_and_embedded(kind: str, layer_scale: float | None) -> None:
    large, small = (
        arch(*blocks, head=HeadSpec(channels=head, kind=kind), layer_scale=layer_scale, stem=StemSpec(channels=stem))
        for stem, head, *blocks in (
            (24, 24, "uir_r1_k5_s2_e2_c32", "mqa_r1_k5_h4_d8_v2_s1_c32", "mqa_r1_k3_h4_d8_s1_c32", "cn_r1_k1_s1_c16"),
            (16, 12, "uir_r1_k3_s2_e2_c24", "mqa_r1_k3_h3_d6_v2_s1_c24", "mqa_r1_k3_h1_d8_s1_c24", "cn_r1_k1_s1_c8"),
        )
    )
    assert assert_computes_masked_source(large, small).carried_share == 1
    model = random_network(small, 0)
    carried = carry(model, small, large)
    torch.testing.assert_close(logits(loaded(large, carried), large), logits(model, small), **EXACT)


@pytest.mark.parametrize("name", FAMILIES)
def test_scaled_families_compute_the_source_without_what_they_lack(name: str) -> None:
    depth = 1.0 if name == "mobilenetv1_100" else 0.6  # whose blocks have no shortcut
    large = family(name)
    small = scale(large, Scaling(width=0.7, depth=depth, divisor=2))
    assert assert_computes_masked_source(large, small).carried_share == 1
    model = random_network(small, 0)
    carried = carry(model, small, large)
    torch.testing.assert_close(logits(loaded(large, carried), large), logits(model, small), **EXACT)


@pytest.mark.parametrize("name", [*FAMILIES, "efficientnet_lite0", "mobilenetv1_full_conv_100"])
def test_carrying_to_the_same_network_is_the_identity(name: str) -> None:
    assert_is_identity(family(name))


@settings(max_examples=10, deadline=None)
@given(spec=specs())
def test_carrying_to_the_same_random_network_is_the_identity(spec: ArchSpec) -> None:
    assert_is_identity(spec)


def assert_is_identity(spec: ArchSpec) -> None:
    state = random_network(spec, 0).state_dict()
    carried = carry_weights(spec, state, spec, None)
    assert set(carried.state) == set(state)
    assert all(torch.equal(carried.state[name], value) for name, value in state.items())
    assert all(carried.state[name].data_ptr() != value.data_ptr() for name, value in state.items())
    assert {layer.change for layer in carried.layers} == {"carried"} and carried.carried_share == 1
    assert carried.left_out == {} and carried.changed_shortcuts == ()


@settings(max_examples=10, deadline=None)
@given(source=specs(), target=specs())
def test_random_networks_get_every_tensor_of_the_target(source: ArchSpec, target: ArchSpec) -> None:
    target = replace(target, stages=target.stages[:1], layer_scale=None)
    source = replace(source, stages=source.stages[:1], layer_scale=None)
    carried = carry(random_network(source, 0), source, target)
    module = loaded(target, carried)
    counted = sum(value.numel() for value in module.parameters())
    assert sum(layer.params for layer in carried.layers) == counted
    assert torch.isfinite(module(torch.zeros(1, target.in_channels, 24, 24, dtype=torch.double))).all()


@pytest.mark.parametrize("name", SPACES)
def test_networks_of_a_space_compute_each_other_without_what_they_lack(name: str) -> None:
    """Pairs that differ in a fifth of their choices, in both directions."""
    for source, target in islice(comparable_pairs(build_space(read(name)), random.Random(5)), 2):
        model = random_network(source, 0)
        carried = carry(model, source, target)
        expected = logits(masked_source(model, source, target, carried), source)
        largest = expected.abs().max()  # without a norm behind it, a shortcut's stage can reach some hundreds
        torch.testing.assert_close(logits(loaded(target, carried), target) / largest, expected / largest, **EXACT)


def comparable_pairs(space: SearchSpace, rng: random.Random) -> Iterator[tuple[ArchSpec, ArchSpec]]:
    """Pairs that differ in channels, kernels, groups and blocks with a shortcut alone."""
    for _ in range(300):
        first, second = space.sample(rng), space.sample(rng)
        changed = set(rng.sample(sorted(first), max(1, len(first) // 5)))
        mixed = {key: second[key] if key in changed else value for key, value in first.items()}
        source, target = (proxy(space.decode(genotype, classes=4)) for genotype in (first, mixed))
        blocks, others = (
            {one.path: (one.block.type, bool(one.block.se_ratio), has_skip(one)) for one in spec.placed_blocks()}
            for spec in (source, target)
        )
        alone = [*(blocks.keys() - others.keys()), *(others.keys() - blocks.keys())]
        same = all(blocks[path] == others[path] for path in blocks.keys() & others.keys())
        if same and all((blocks | others)[path][2] for path in alone) and source.arch_id != target.arch_id:
            yield source, target


def has_skip(placed: PlacedBlock) -> bool:
    return bool(placed.block.skip) and can_skip(placed.block, placed.stride, placed.in_channels)


def proxy(spec: ArchSpec) -> ArchSpec:
    """A quarter of the width, with one activation, since functions are compared."""
    spec = scale(spec, Scaling(width=0.25, divisor=4))
    stages = [[replace(block, activation=None) for block in stage.blocks] for stage in spec.stages]
    return replace(spec, stages=tuple(StageSpec(tuple(blocks)) for blocks in stages))


def test_filter_norm_is_that_of_the_folded_filters() -> None:
    """Norms of the filters as torch folds them, each layer in units of its RMS."""
    source, target = arch("ir_r2_k3_s2_e3_c16_se0.5"), arch("ir_r2_k3_s2_e2_c12_se0.25")
    model = random_network(source, 0)
    carried = carry(model, source, target, importance=filter_norm)

    def squares(conv: str, norm: str = "") -> torch.Tensor:
        layer: Any = model.get_submodule(conv)
        if norm:
            layer = fuse_conv_bn_eval(layer, model.get_submodule(norm))
        found = layer.weight.detach().flatten(1).square().sum(1)
        return found / found.mean()

    first, second = "blocks.0.0", "blocks.0.1"
    ends = squares(f"{first}.conv_pwl", f"{first}.bn3") + squares(f"{second}.conv_pwl", f"{second}.bn3")
    hidden = squares(f"{first}.conv_pw", f"{first}.bn1") + squares(f"{first}.conv_dw", f"{first}.bn2")
    squeezed = squares(f"{first}.se.conv_reduce")
    computing = {f"{first}.conv_pw": hidden, f"{first}.se.conv_reduce": squeezed, f"{second}.conv_pwl": ends}
    for path, importance in computing.items():
        layer = row(carried, path)
        kept = importance.topk(layer.channels[1]).indices.sort().values
        assert layer.outputs == tuple(kept.tolist()) and len(kept) < len(importance)
    assert row(carried, f"{first}.conv_pwl").outputs == row(carried, f"{second}.conv_pw").inputs


def test_weighted_input_norm_is_what_a_layer_gets_from_a_channel() -> None:
    """Mean squares of rectified normal values by numerical integration."""
    source = arch("ir_r3_k3_s2_e3_c16")
    state = random_network(source, 0).state_dict()
    found = {}

    def spy(channels: CoupledChannels, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
        scores = weighted_input_norm(channels, state)
        found.update({role.layer.path: scores for role in channels.producers})
        return scores

    carry_weights(source, state, arch("ir_r3_k3_s2_e2_c12", head=HeadSpec(channels=8)), None, importance=spy)
    points = torch.linspace(-8, 8, 4001, dtype=torch.double)[:, None]
    density = torch.exp(-points.square() / 2) / torch.exp(-points.square() / 2).sum()

    def mean_square(norm: str, *, rectified: bool) -> torch.Tensor:
        values = points * state[f"{norm}.weight"] + state[f"{norm}.bias"]
        return ((values.relu() if rectified else values).square() * density).sum(0)

    def contribution(inputs: torch.Tensor, consumer: str) -> torch.Tensor:
        squares = state[f"{consumer}.weight"].flatten(1).square().sum(0) * inputs
        return squares / squares.mean()

    block = "blocks.0.{}".format
    hidden = contribution(mean_square(f"{block(1)}.bn2", rectified=True), f"{block(1)}.conv_pwl")
    features = contribution(mean_square("bn2", rectified=True), "classifier")
    # The second block reads the first one's output, the third the sum of two, the head the sum of three.
    ends = torch.stack([mean_square(f"{block(index)}.bn3", rectified=False) for index in range(3)]).cumsum(0)
    consumers = (f"{block(1)}.conv_pw", f"{block(2)}.conv_pw", "conv_head")
    stage = sum(contribution(squares, consumer) for squares, consumer in zip(ends, consumers, strict=True))
    for path, expected in ((f"{block(1)}.conv_dw", hidden), ("conv_head", features), (f"{block(0)}.conv_pwl", stage)):
        torch.testing.assert_close(found[path].double(), expected.sqrt(), rtol=1e-4, atol=0)


def test_another_importance_keeps_other_channels() -> None:
    source, target = arch("ir_r2_k3_s2_e3_c16"), arch("ir_r2_k3_s2_e3_c8", head=HeadSpec(channels=10))
    sizes = []

    def last(channels: CoupledChannels, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
        sizes.append((channels.size, len(channels.producers), len(channels.consumers)))
        return torch.arange(channels.size).float()

    carried = carry(random_network(source, 0), source, target, importance=last)
    assert row(carried, "blocks.0.1.conv_pwl").outputs == tuple(range(8, 16))
    assert row(carried, "conv_head").outputs == tuple(range(14, 24))
    # 48 hidden channels of the second block (conv_pw, conv_dw; read by conv_dw, conv_pwl), the stage's, the head's
    assert sizes == [(16, 2, 2), (48, 2, 2), (24, 1, 1)]


def test_channels_stay_with_their_kernel_and_in_their_group() -> None:
    source, target = (
        arch("ir_r1_k3.5.7_a1.1_p1.1_s2_e6_c24"),
        arch("ir_r1_k3.7_a1.1_p1.1_s2_e3_c12"),
    )
    carried = carry(random_network(source, 0), source, target)
    hidden = row(carried, "blocks.0.0.conv_dw").outputs  # 96 in groups of 32 and halves of 48, to 48
    assert all(channel < 32 for channel in hidden[:24]) and all(channel >= 64 for channel in hidden[24:])
    assert hidden == row(carried, "blocks.0.0.conv_pw").outputs == row(carried, "blocks.0.0.conv_pwl").inputs
    projected = row(carried, "blocks.0.0.conv_pwl").outputs
    assert all(channel < 12 for channel in projected[:6]) and all(channel >= 12 for channel in projected[6:])
    assert list(projected) == sorted(projected) and list(hidden) == sorted(hidden)


def test_channels_whose_kernel_is_gone_are_cropped_the_least() -> None:
    source, target = arch("ir_r1_k3.5.7.9_s2_e3_c16"), arch("ir_r1_k3.5.7_s2_e3_c16")
    carried = carry(random_network(source, 0), source, target)
    groups = row(carried, "blocks.0.0.conv_dw").outputs
    assert sorted(groups) == list(range(48))
    for start, first in ((0, 0), (16, 12), (32, 24)):  # its own 12 channels, and 4 of those with the kernel of 9
        assert [channel for channel in groups[start : start + 16] if channel < 36] == list(range(first, first + 12))


def test_kernels_are_centres_and_dilated_taps() -> None:
    def depthwise(carried: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return carried["blocks.0.0.conv_dw.weight"]

    dense, small, dilated = (arch(f"ir_r1_{text}") for text in ("k7_s1_e3_c24", "k3_s1_e3_c24", "k7_s1_e3_c24_dilated"))
    state = random_network(dense, 0).state_dict()
    whole = depthwise(state)
    cropped = depthwise(carry_weights(dense, state, small, None).state)
    assert torch.equal(cropped, whole[:, :, 2:5, 2:5])
    assert torch.equal(depthwise(carry_weights(dense, state, dilated, None).state), whole[:, :, ::3, ::3])
    state = random_network(dilated, 0).state_dict()
    spread = depthwise(carry(random_network(dilated, 0), dilated, dense).state)
    assert torch.equal(spread[:, :, ::3, ::3], depthwise(state))
    assert spread.count_nonzero() == 9 * len(spread)


def test_running_statistics_are_those_of_the_kept_channels() -> None:
    source, target = arch("ir_r1_k3_s2_e3_c16"), arch("ir_r1_k3_s2_e2_c12")
    state = random_network(source, 0).state_dict()
    carried = carry_weights(source, state, target, None)
    kept = list(row(carried, "blocks.0.0.conv_dw").outputs)
    for name in ("weight", "bias", "running_mean", "running_var"):
        assert torch.equal(carried.state[f"blocks.0.0.bn2.{name}"], state[f"blocks.0.0.bn2.{name}"][kept])
    assert carried.state["blocks.0.0.bn2.num_batches_tracked"] == 7


# Layers that are drawn anew when the target differs from "ir_r1_k3_s2_e3_c16" with a head of 24 channels in this.
DRAWN_ANEW: dict[str, tuple[dict[str, Any], tuple[str, ...], set[str]]] = {
    "classes": ({"classes": 7}, ("ir_r1_k3_s2_e3_c16",), {"classifier"}),
    "input channels": ({"in_channels": 1}, ("ir_r1_k3_s2_e3_c16",), {"conv_stem"}),
    "head": ({"head": HeadSpec(channels=24, kind="pool_conv")}, ("ir_r1_k3_s2_e3_c16",), {"conv_head", "classifier"}),
    "no convolution in the head": ({"head": HeadSpec(channels=0)}, ("ir_r1_k3_s2_e3_c16",), {"classifier"}),
    "type": ({}, ("ds_r1_k3_s2_c16",), {"blocks.0.0.conv_dw", "blocks.0.0.conv_pw"}),
    "squeeze-excite": (
        {}, ("ir_r1_k3_s2_e3_c16_se0.25",), {"blocks.0.0.se.conv_reduce", "blocks.0.0.se.conv_expand"}
    ),
    "block without a shortcut": (
        {},
        ("ir_r1_k3_s2_e3_c16", "ir_r1_k3_s1_e3_c20"),
        {"blocks.0.1.conv_pw", "blocks.0.1.conv_dw", "blocks.0.1.conv_pwl"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DRAWN_ANEW)
def test_what_the_source_lacks_is_drawn_anew_and_said(case: str) -> None:
    fields, blocks, expected = DRAWN_ANEW[case]
    source, target = arch("ir_r1_k3_s2_e3_c16"), arch(*blocks, **fields)
    carried = carry(random_network(source, 0), source, target)
    initial = random_network(target, 1).state_dict()
    drawn = {layer.path for layer in carried.layers if layer.change == "drawn anew"}
    assert drawn == expected
    for path in drawn:
        assert torch.equal(carried.state[f"{path}.weight"], initial[f"{path}.weight"])
        assert row(carried, path).source_channels is None and row(carried, path).outputs == ()
    with pytest.raises(NasError, match=r"nothing can be carried to (blocks|conv|classifier)"):
        carry_weights(source, random_network(source, 0).state_dict(), target, None)


def test_new_blocks_begin_as_their_shortcut() -> None:
    source, target = (
        arch("ir_r1_k3_s2_e3_c16"),
        arch("ir_r1_k3_s2_e3_c16", "er_r1_k3_s1_e3_c16", "cn_r1_k3_s1_c16_skip"),
    )
    carried = carry(random_network(source, 0), source, target)
    for norm in ("blocks.0.1.bn2", "blocks.0.2.bn1"):
        assert not carried.state[f"{norm}.weight"].any() and not carried.state[f"{norm}.bias"].any()
    model = random_network(source, 0)
    torch.testing.assert_close(logits(loaded(target, carried), target), logits(model, source), **EXACT)


def test_blocks_that_lose_or_gain_their_shortcut_are_named() -> None:
    with_shortcut, without = arch("ir_r2_k3_s2_e3_c16"), arch("ir_r1_k3_s2_e3_c16", "ir_r1_k3_s1_e3_c16_noskip")
    for source, target in ((with_shortcut, without), (without, with_shortcut)):
        carried = carry(random_network(source, 0), source, target)
        assert carried.changed_shortcuts == ("blocks.0.1",)
        assert {layer.change for layer in carried.layers} == {"carried"}


def test_table_has_a_row_for_each_part_with_what_became_of_its_parameters() -> None:
    source = arch("ir_r2_k3_s2_e3_c16_se0.25")
    target = arch("ir_r1_k5_s2_e3_c16", "ir_r1_k3_s1_e3_c16_se0.5", "ds_r1_k3_s1_c16")
    carried = carry(random_network(source, 0), source, target)
    old, new = (
        [sum(value.numel() for value in block.parameters()) for block in build(spec).get_submodule("blocks.0")]
        for spec in (source, target)
    )
    parts = {part.path: part for part in carried.parts}
    assert list(parts) == ["conv_stem", "blocks.0.0", "blocks.0.1", "blocks.0.2", "conv_head", "classifier"]
    first, second, third = (parts[f"blocks.0.{index}"] for index in range(3))
    assert (first.source_params, second.source_params, third.source_params) == (*old, 0)
    assert [part.params for part in (first, second, third)] == new
    assert first.carried_params == old[0] - sum(
        params for path, params in carried.left_out.items() if path.startswith("blocks.0.0.se.")
    )
    assert [part.change for part in (first, second, third)] == ["cropped and embedded", "embedded", "drawn anew"]
    assert parts["conv_head"].change == "carried" and parts["conv_head"].source_channels == (16, 24)
    assert set(carried.left_out) == {"blocks.0.0.se.conv_reduce", "blocks.0.0.se.conv_expand"}


def test_weights_take_the_data_type_of_the_initial_ones() -> None:
    spec = arch("ir_r2_k3_s2_e3_c16")
    half = build(spec).half().state_dict()
    carried = carry_weights(spec, random_network(spec, 0).state_dict(), spec, half)
    assert all(carried.state[name].dtype == value.dtype for name, value in half.items())


def test_networks_and_weights_that_do_not_fit_are_refused_in_one_line() -> None:
    spec = arch("ir_r1_k3_s2_e3_c16")
    state = random_network(spec, 0).state_dict()
    two = ArchSpec.from_strings("two", [["ir_r1_k3_s2_e3_c16"]] * 2, stem=spec.stem, head=spec.head)
    with pytest.raises(NasError, match=r"^weights of network: it has 1 stages, two has 2; weights are carried between"):
        carry_weights(spec, state, two, None)
    scaled = [arch("uir_r2_k3_s2_e3_c16", layer_scale=scale) for scale in (None, 0.1)]
    with pytest.raises(NasError, match=r"^weights of network: layer_scale is null, that of network 0\.1; give both"):
        carry_weights(scaled[0], random_network(scaled[0], 0).state_dict(), scaled[1], None)
    missing = {name: value for name, value in state.items() if name != "blocks.0.0.conv_pw.weight"}
    with pytest.raises(NasError, match=r"^weights of network: have no tensor blocks\.0\.0\.conv_pw\.weight; give"):
        carry_weights(spec, missing, spec, None)
    other = arch("ir_r1_k3_s2_e2_c16", name="other")
    refusal = r"^weights of other: blocks\.0\.0\.conv_pw\.weight is 48x16x1x1, the network has 32x16x1x1; give those"
    with pytest.raises(NasError, match=refusal):
        carry_weights(other, state, spec, None)
    with pytest.raises(NasError, match=refusal):
        carry_weights(spec, state, other, state)
