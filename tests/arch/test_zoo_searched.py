"""MnasNet, MixNet and EfficientNet: published blocks and exact costs.

The costs are those of the published code and papers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.notation import parse_block
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.scaling.transform import Scaling, scale
from nas.arch.spec import ArchSpec, StageSpec
from nas.arch.zoo.mnasnet import mnasnet_a1
from tests.arch.published import (
    bias_elements,
    blocks_in_order,
    norm_channels,
    reference,
    squeeze_excite_macs,
    translated,
    with_classes,
)

MNASNET, MIXNET, EFFICIENTNET = reference("mnasnet"), reference("mixnet"), reference("efficientnet")
UNSCALED = {
    **{MNASNET["timm_names"][name]: model for name, model in MNASNET["models"].items()},
    **{name: MIXNET["models"][name] for name in ("mixnet_s", "mixnet_m")},
    "efficientnet_b0": {"blocks": EFFICIENTNET["block_args"], "stem": 32, "head": 1280, "dropout": 0.2},
}


@pytest.mark.parametrize("name", UNSCALED)
def test_published_blocks(name: str) -> None:
    spec, published = zoo.get(name), UNSCALED[name]
    assert (spec.stem.channels, spec.head.channels, spec.dropout) == tuple(
        published[field] for field in ("stem", "head", "dropout")
    )
    strings, declared = zip(*map(translated, published["blocks"]), strict=True)
    assert blocks_in_order(spec) == [parse_block(text) for text in strings]
    inputs, position = [placed.in_channels for placed in spec.placed_blocks()], 0
    for block, channels in zip(blocks_in_order(spec), declared, strict=True):
        if not (name == "mnasnet_small" and position == 0):  # declares 16, the stem has 8; without effect there
            assert inputs[position] == channels
        position += block.repeats


@pytest.mark.parametrize(
    "row", MNASNET["a1_scaling"]["rows"], ids=lambda row: f"{row['multiplier']}@{row['resolution']}"
)
def test_mnasnet_a1_scaling(row: dict[str, Any]) -> None:
    cost = complexity(mnasnet_a1(row["multiplier"], row["resolution"]))
    assert (cost.macs, cost.params) == (row["exact_macs"], row["exact_params"])
    assert round(cost.params / 1e6, 1) == row["params_m"]


@pytest.mark.parametrize("name", ["a1", "b1", "small"])
def test_mnasnet(name: str) -> None:
    cost, published = complexity(zoo.get(MNASNET["timm_names"][name])), MNASNET["models"][name]
    assert (cost.macs, cost.params) == (published["exact_macs_224"], published["exact_params"])


@pytest.mark.parametrize("name", MIXNET["models"])
def test_mixnet(name: str) -> None:
    spec, published = zoo.get(name), MIXNET["models"][name]
    cost = complexity(spec)
    assert (cost.macs, cost.params) == (published["exact_macs_224"], published["exact_params"])
    assert (cost.activations, squeeze_excite_macs(spec)) == (published["acts"], published["exact_se_macs"])
    assert (spec.stem.channels, spec.head.channels) == (published["stem_rounded"], published["head"])
    assert round(cost.params / 1e6, 1) == published["paper_params_m"]


def check_scaled(spec: ArchSpec, published: dict[str, Any]) -> None:
    """Check stages, stem, head and cost of one EfficientNet.

    It is scaled from B0 by its published coefficients.
    """
    actual = [
        {
            "repeats": block.repeats,
            "out": block.channels,
            "k": block.kernels[0],
            "s": block.stride,
            "e": block.expansion,
        }
        for block in blocks_in_order(spec)
    ]
    assert actual == published["stages"]
    assert (spec.stem.channels, spec.head.channels) == (published["stem"], published["head"])
    assert (spec.resolution_px, spec.dropout) == (published["resolution"], published["dropout"])
    cost = complexity(spec)
    assert (cost.params, cost.macs) == (published["exact_params"], published["exact_macs"])


@pytest.mark.parametrize("member", EFFICIENTNET["models"])
def test_efficientnet(member: str) -> None:
    spec, published = zoo.get(f"efficientnet_{member}"), EFFICIENTNET["models"][member]
    check_scaled(spec, published)
    cost = complexity(spec)
    assert (cost.activations, squeeze_excite_macs(spec)) == (published["exact_acts"], published["exact_se_macs"])
    assert norm_channels(spec) == published["bn_channels"]
    if "pycls" in published:  # whose count adds one operation per bias
        pycls = published["pycls"]
        assert (cost.params, cost.activations) == (pycls["params"], pycls["acts"])
        assert bias_elements(spec) == pycls["flops_minus_macs_is_bias"] == pycls["flops"] - cost.macs


@pytest.mark.parametrize("member", EFFICIENTNET["lite"]["models"])
def test_efficientnet_lite(member: str) -> None:
    spec, published = zoo.get(f"efficientnet_{member}"), EFFICIENTNET["lite"]["models"][member]
    check_scaled(spec, published)
    cost = complexity(spec)
    assert (cost.params, cost.activations) == (published["unit_test_params"], published["acts"])
    assert spec.activation == "relu6" and squeeze_excite_macs(spec) == 0


@pytest.mark.parametrize("member", EFFICIENTNET["edgetpu"]["models"])
def test_efficientnet_edgetpu(member: str) -> None:
    """Fused blocks.

    The first expands from its declared 24 channels (scaled), though the stem gives it 32 (scaled).
    """
    published = EFFICIENTNET["edgetpu"]["models"][member]
    stages = [
        ["er_r1_k3_s1_e4_c24_noskip"],
        ["er_r2_k3_s2_e8_c32"],
        ["er_r4_k3_s2_e8_c48"],
        ["ir_r5_k5_s2_e8_c96"],
        ["ir_r4_k5_s1_e8_c144"],
        ["ir_r2_k5_s2_e8_c192"],
    ]
    base = ArchSpec.from_strings("edgetpu", stages, stem=StemSpec(channels=32), head=HeadSpec(channels=1280))
    scaling = Scaling(width=published["width"], depth=published["depth"], resolution_px=published["resolution"])
    scaled = scale(base, scaling)
    (fused,) = scaled.stages[0].blocks
    entry = replace(fused, repeats=1, expansion=4 * fused.channels / scaled.stem.channels)
    rest = [replace(fused, repeats=fused.repeats - 1)] if fused.repeats > 1 else []
    spec = replace(scaled, stages=(StageSpec((entry, *rest)), *scaled.stages[1:]))
    cost = complexity(spec)
    assert (cost.macs, cost.params) == (published["exact_macs_1000"], published["exact_params_1000"])
    assert complexity(with_classes(spec, 1001)).params == published["exact_params_1001"]


def test_names_and_unknown_names() -> None:
    assert len(zoo.names()) == len(set(zoo.names())) > 50
    ids = {zoo.get(name).arch_id for name in zoo.names()}
    assert len(ids) == len(zoo.names())
    with pytest.raises(ValueError, match=r"unknown network 'mixnet_z'.*Did you mean 'mixnet_"):
        zoo.get("mixnet_z")
