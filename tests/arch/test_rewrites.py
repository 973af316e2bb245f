"""Rewrites after MobileNetV3, against its published networks and closed formulas."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.parts import HeadSpec
from nas.arch.rewrites import Rewrites, RewriteStep, deep_hswish, efficient_last_stage
from nas.arch.spec import ArchSpec, StageSpec
from nas.core.errors import NasError
from tests.arch.published import reference

REDESIGN = reference("mobilenet_v3")["redesign"]
FIGURE_5 = REDESIGN["original_last_stage"]
LARGE = zoo.get("mobilenetv3_large_100")


def ending(arch: ArchSpec, *blocks: str, head: HeadSpec | None = None) -> ArchSpec:
    """``arch`` with another last stage, and a head that convolves before it pools."""
    return replace(
        arch,
        stages=(*arch.stages[:-1], StageSpec.parse(blocks)),
        head=head or HeadSpec(channels=arch.head.channels),
    )


def saved(step: RewriteStep) -> tuple[int, int]:
    """Multiply-adds and parameters that a rewrite saves."""
    before, after = complexity(step.before), complexity(step.after)
    return before.macs - after.macs, before.params - after.params


@pytest.mark.parametrize("name", ["mobilenetv3_large_100", "semnasnet_100"])
def test_the_efficient_last_stage_of_figure_5(name: str) -> None:
    """Large, and MnasNet-A1, from which it was derived, end alike: 960 channels, 3x3, 320, 1280, at 7 px."""
    given, hidden, out = zoo.get(name), FIGURE_5["expand"], FIGURE_5["project"]
    original = ending(given, f"ir_r1_k{FIGURE_5['k']}_s1_e6_c{out}")
    step = efficient_last_stage(original)
    pixels, depthwise, features = FIGURE_5["px"] ** 2, hidden * FIGURE_5["k"] ** 2, FIGURE_5["conv"]
    macs = pixels * (depthwise + hidden * out + out * features) - hidden * features
    # The norms of three layers go, and the head's convolution gets a bias in place of one.
    params = depthwise + hidden * out + out * features - hidden * features + 2 * (hidden + out + features) - features
    assert saved(step) == (macs, params)
    assert macs == 34_317_760
    assert round(macs / 1e6, -1) == REDESIGN["last_stage_macs_m"]  # the paper: 30 millions
    if name == "semnasnet_100":
        assert original.arch_id == given.arch_id
        assert step.after.strings[-1] == ("cn_r1_k1_s1_c960",)
    else:
        assert step.after.arch_id == given.arch_id
        assert (step.after.name, step.setting) == ("mobilenetv3_large_100_pool_conv", "head=pool_conv")


def test_of_a_repeated_last_block_one_repeat_is_reduced() -> None:
    """MixNet-S ends with two MixConv blocks of four kernels, squeeze-excite and a projection in two groups."""
    mixnet = zoo.get("mixnet_s")
    step = efficient_last_stage(mixnet)
    assert [len(stage.blocks) for stage in step.after.stages] == [1, 2, 2, 2, 2, 2, 1]
    assert (step.after.depth, step.after.stages[-2].depth) == (mixnet.depth, 2)
    assert step.after.strings[-1] == ("cn_r1_k1_s1_c1200_nsw",)
    depthwise, excite, project, features = 300 * (3**2 + 5**2 + 7**2 + 9**2), 2 * 1200 * 100, 1200 * 200 // 2, 1536
    assert saved(step)[0] == 49 * (depthwise + project + 200 * features) + excite - 1200 * features


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("ds_r1_k3_s1_c320", "it is no ir block with a dense 1x1 expansion"),
        ("er_r1_k3_s1_e6_c320", "it is no ir block with a dense 1x1 expansion"),
        ("ir_r1_k3_a1.1_s1_e6_c320", "it is no ir block with a dense 1x1 expansion"),
        ("ir_r1_k3_s2_e6_c320", "its depthwise convolution has a stride"),
        ("ir_r1_k3_s1_e2_c320", "its projection does not reduce the channels"),
    ],
)
def test_a_last_block_without_expansion_stays(block: str, reason: str) -> None:
    original = ending(LARGE, block)
    step = efficient_last_stage(original)
    px = 4 if "_s2_" in block else 7
    assert step.after.stages == original.stages
    assert step.change.endswith(f"the last block stays: {reason}")
    assert saved(step) == ((px**2 - 1) * 320 * 1280, 1280)


def test_no_stage_ends_with_attention() -> None:
    original = ending(LARGE, "ir_r1_k3_s1_e6_c160", "mqa_r1_k3_h4_s1_v2_d64_c160", "ir_r1_k3_s1_e6_c320")
    assert efficient_last_stage(original).change.endswith("timm ends no stage with attention")


def test_heads_that_are_not_rewritten() -> None:
    step = efficient_last_stage(LARGE)
    assert (step.after, step.change) == (LARGE, "nothing: the head pools first already")
    with pytest.raises(NasError, match="head 'pool_conv': 'mobilenetv1_100' has no convolution between its last stage"):
        efficient_last_stage(zoo.get("mobilenetv1_100"))


def with_relu(arch: ArchSpec) -> ArchSpec:
    stages = (StageSpec(tuple(replace(block, activation=None) for block in stage.blocks)) for stage in arch.stages)
    return replace(arch, activation="relu", stages=tuple(stages))


@pytest.mark.parametrize(
    ("size", "share", "channels"), [("large", 6 / 16, 80), ("small", 3 / 12, 40)], ids=["large", "small"]
)
def test_the_published_activations(size: str, share: float, channels: int) -> None:
    """Tables 1 and 2: Large has h-swish from the first layer with 80 channels on, Small from that with 40."""
    published = zoo.get(f"mobilenetv3_{size}_100")
    step = deep_hswish(with_relu(published), share)
    assert step.after.arch_id == published.arch_id
    assert f", {channels} channels)" in step.change
    assert deep_hswish(published, share).change == "nothing: h-swish is there already"


@pytest.mark.parametrize("name", ["mobilenetv2_100", "mixnet_s", "efficientnet_b0", "mnasnet_small"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_blocks_before_keep_their_activations(name: str, share: float) -> None:
    """Repeats are split where the share falls among them; nothing but activations changes."""
    given = zoo.get(name)
    step = deep_hswish(given, share)
    before, after = list(given.placed_blocks()), list(step.after.placed_blocks())
    kept = sum(index < share * len(before) - 1e-12 for index in range(len(before)))
    expected = [placed.block.activation or given.activation for placed in before[:kept]]
    expected += ["hard_swish"] * (len(before) - kept)
    assert [placed.block.activation or step.after.activation for placed in after] == expected
    assert step.after.activation == "hard_swish"
    assert [(placed.path, placed.stride, placed.in_channels, placed.hidden_channels) for placed in after] == [
        (placed.path, placed.stride, placed.in_channels, placed.hidden_channels) for placed in before
    ]
    assert saved(step) == (0, 0)


def test_attention_has_no_activation_and_gelu_no_code() -> None:
    stage = "ir_r1_k3_s1_e6_c160", "mqa_r2_k3_h4_s1_v2_d64_c160", "ir_r1_k3_s1_e6_c320"
    step = deep_hswish(ending(with_relu(LARGE), *stage), 0.9)
    assert step.after.stages[-1].blocks[1] == step.before.stages[-1].blocks[1]
    gelu = replace(with_relu(LARGE), activation="gelu")
    assert deep_hswish(gelu, 0).after.arch_id == replace(with_relu(LARGE), activation="hard_swish").arch_id
    with pytest.raises(NasError, match="hswish_from: the first blocks of 'mobilenetv3_large_100' have gelu, which"):
        deep_hswish(gelu, 0.5)


def test_both_rewrites_are_applied_in_turn() -> None:
    original = with_relu(ending(LARGE, "ir_r1_k3_s1_e6_c320"))
    steps = Rewrites(head="pool_conv", hswish_from=6 / 16).steps(original)
    assert [step.setting for step in steps] == ["head=pool_conv", "hswish_from=0.375"]
    assert steps[0].after == steps[1].before
    assert steps[-1].after.arch_id == LARGE.arch_id
    assert Rewrites().is_empty
    assert Rewrites().steps(original) == ()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head": "conv_pool"}, "unknown head 'conv_pool': choose from pool_conv"),
        ({"hswish_from": 1.2}, r"hswish_from 1\.2: must be a number of at least 0 and at most 1, or null"),
        ({"hswish_from": math.nan}, "hswish_from nan: must be a number"),
    ],
)
def test_invalid_rewrites(fields: dict[str, object], message: str) -> None:
    with pytest.raises(NasError, match=message):
        Rewrites(**fields)  # type: ignore[arg-type]
