"""Tests that lowered kernels equal those in ONNX Runtime's own profiles."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from nas.arch import zoo
from nas.arch.notation import parse_block
from nas.arch.spec import ArchSpec, StageSpec
from nas.latency.kernels.ort_lowering import network_calls
from nas.latency.measure.ort_profile import ProfiledNetwork, call_times_us, detect_lane
from nas.latency.random_networks import random_spec

SMALL_PX = 64
# relu6 and mish after a concat, groups of odd sizes, of one channel, of 16 in order; both squeeze-excite conventions; a
# convolution with a fused residual addition
UNUSUAL_BLOCKS = (
    "ds_r2_k3.5.7.9.11_s1_c8_se0.25",
    "ir_r2_k3.5.7_s2_e6_c24_a1.1_p1.1",
    "ir_r2_k3.5_s1_e4_c32_se0.5_nsw",
)

PUBLISHED = ("mobilenetv1_050", "mobilenetv2_100", "mixnet_s", "mobilenetv3_small_100", "efficientnet_b0")


@pytest.fixture(scope="module")
def lane() -> int:
    spec = replace(zoo.get("mixnet_s"), resolution_px=SMALL_PX)
    return detect_lane(profiled(spec), spec)


def profiled(spec: ArchSpec):
    network = ProfiledNetwork(spec, threads=1, batch=1, seed=0)
    network.run()
    return network.finish(counted=(True,))


def unusual_spec(activation: str) -> ArchSpec:
    stages = tuple(StageSpec((parse_block(text),)) for text in UNUSUAL_BLOCKS)
    return replace(
        zoo.get("mobilenetv3_small_050"), stages=stages, activation=activation, resolution_px=SMALL_PX, name=activation
    )


@pytest.mark.parametrize(
    "spec",
    [
        *(replace(zoo.get(name), resolution_px=SMALL_PX) for name in PUBLISHED),
        *(unusual_spec(activation) for activation in ("relu", "relu6", "swish", "hard_swish", "mish")),
        *(replace(random_spec(7, index), resolution_px=SMALL_PX) for index in range(12)),
    ],
    ids=lambda spec: spec.name,
)
def test_lowered_kernels_match_the_profile_one_to_one(spec: ArchSpec, lane: int) -> None:
    calls = list(network_calls(spec, lane))
    times_us = call_times_us(profiled(spec), calls)
    assert not any(map(math.isnan, times_us))
    assert len(times_us) == len(calls) > 10


def test_without_blocks_nothing_is_reordered() -> None:
    calls = list(network_calls(zoo.get("mixnet_m"), 1))
    assert not any(call.kernel.blocked or call.kernel.kind in ("block", "unblock") for call in calls)


def test_a_depthwise_convolution_off_the_blocks_runs_plain_between_reorders() -> None:
    blocks = (parse_block("ds_r1_k3_s1_c34"), parse_block("ds_r1_k3_s1_c64"))
    calls = network_calls(replace(zoo.get("mobilenetv1_100"), stages=(StageSpec(blocks),)), 16)
    kinds = [(call.op, call.kernel.kind, call.kernel.blocked) for call in calls if "conv_dw" in call.op]
    assert kinds == [
        ("blocks.0.0.conv_dw", "depthwise", True),
        ("blocks.0.1.conv_dw", "unblock", False),
        ("blocks.0.1.conv_dw", "depthwise", False),
    ]
