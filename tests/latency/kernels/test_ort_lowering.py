"""Tests that lowered kernels equal those in ONNX Runtime's own profiles."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from nas.arch import zoo
from nas.arch.heads import detector, segmenter
from nas.arch.notation import parse_block
from nas.arch.spec import ArchSpec, StageSpec
from nas.latency.kernels.ort_lowering import Call, network_calls
from nas.latency.kernels.padding import padded
from nas.latency.measure.kernel_match import best_match, match_kernels
from nas.latency.measure.ort_profile import Event, ProfiledNetwork
from nas.latency.random_networks import random_spec
from tests.latency import ort_recordings
from tests.latency.dense import random_dense_specs

SMALL_PX = 64
# relu6 and mish after a concat, groups of odd sizes, of one channel, of 16 in order; both squeeze-excite conventions; a
# convolution with a fused residual addition
UNUSUAL_BLOCKS = (
    "ds_r2_k3.5.7.9.11_s1_c8_se0.25",
    "ir_r2_k3.5.7_s2_e6_c24_a1.1_p1.1",
    "ir_r2_k3.5_s1_e4_c32_se0.5_nsw",
)

# A tensor of several readers: also one that a MixConv splits, and one that a residual addition writes; maps that grow
# by whole factors and by others; dilated convolutions; maps of a single px.
DENSE = (
    detector(zoo.get("mobilenetv3_large_100"), 20, resolution_px=SMALL_PX),
    detector(zoo.get("mixnet_s"), 3, resolution_px=96, output_stride=16),
    detector(zoo.get("mobilenetv1_050"), 1, resolution_px=SMALL_PX, tap="output", lowest_anchors=3),
    detector(zoo.get("mixnet_s"), 3, resolution_px=SMALL_PX, c3_scale=0.1),
    detector(zoo.get("mobilenetv2_100"), 3, resolution_px=SMALL_PX, c3_scale=0.1, tap="output"),
    segmenter(zoo.get("mobilenetv3_small_100"), 19, resolution_px=SMALL_PX),
    segmenter(zoo.get("mixnet_s"), 8, resolution_px=72, output_stride=32),
    segmenter(zoo.get("efficientnet_b0"), 21, resolution_px=SMALL_PX, output_stride=8),
    segmenter(zoo.get("mobilenetv2_100"), 2, resolution_px=SMALL_PX, output_stride=8, low_stride=4),
)

PUBLISHED = ("mobilenetv1_050", "mobilenetv2_100", "mixnet_s", "mobilenetv3_small_100", "efficientnet_b0")


@pytest.fixture(scope="module")
def lane() -> int:
    spec = replace(zoo.get("mixnet_s"), resolution_px=SMALL_PX)
    return best_match(profiled(spec), spec)[0]


def profiled(spec: ArchSpec):
    network = ProfiledNetwork(spec, threads=1, batch=1, seed=0)
    network.run()
    return network.finish([1.0])


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
        *DENSE,
        *(replace(spec, resolution_px=SMALL_PX) for spec in random_dense_specs(10)),
    ],
    ids=lambda spec: spec.name,
)
def test_lowered_kernels_match_the_profile_one_to_one(spec: ArchSpec, lane: int) -> None:
    calls = list(network_calls(spec, lane))
    match = match_kernels(profiled(spec), calls)
    assert (dict(match.unknown_us), match.absent) == ({}, 0)
    assert len(match.times_us) == len(calls) > 10
    assert min(match.times_us) > 0


REFERENCE = json.loads(ort_recordings.FILE.with_name("ort_kernels.json").read_text())["recordings"]


@pytest.mark.parametrize("recording", REFERENCE)
def test_lowered_kernels_are_those_that_other_processors_ran(recording: str) -> None:
    lane, profiles = REFERENCE[recording]["block"], ort_recordings.read_recordings()[recording]
    for name, spec in ort_recordings.networks().items():
        ran = Counter(recorded(event) for event, _ in profiles[name] if event["args"]["op_name"] != "Flatten")
        assert ran == Counter(predicted(call, lane) for call in network_calls(spec, lane)), name


def recorded(event: Event) -> tuple[object, ...]:
    """All that a profile tells of a kernel: layout, channels with padding, sides, parts, and operands."""
    name, kind = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
    ins, outs = ([tensor["float"] for tensor in event["args"][f"{end}_type_shape"]] for end in ("input", "output"))
    path = name.removesuffix("_nchwc").removesuffix(".linear")
    if kind in ("Conv", "FusedConv"):
        _, channels, px, _ = ins[0]
        blocked, added = name.endswith("_nchwc"), len(ins) > 3  # image, weight, bias, and the map to add
        return "Conv", path, blocked, channels, outs[0][1], px, outs[0][2], ins[1][2], added
    if kind in ("Gemm", "ReorderInput", "ReorderOutput"):
        return kind, ins[0][1], outs[0][1], *ins[0][2:3]
    if kind == "Concat":
        return kind, path, tuple(shape[1] for shape in ins), ins[0][2]
    if kind == "Split":
        return kind, path, tuple(shape[1] for shape in outs), ins[0][2]
    if kind == "GlobalAveragePool":
        return kind, path, name.endswith("_nchwc"), ins[0][1], ins[0][2]
    return kind, ins[0][1], ins[0][2]


TYPES = {
    "scale": "Mul", "add": "Add", "relu": "Relu", "relu6": "Clip", "swish": "QuickGelu", "hard_sigmoid": "HardSigmoid",
    "sigmoid": "Sigmoid", "gelu": "Gelu", "min": "Min", "exp": "Exp", "add_constant": "Add", "mul": "Mul", "div": "Div",
}  # fmt: skip


def predicted(call: Call, lane: int) -> tuple[object, ...]:
    """The same of a call."""
    kernel = call.kernel
    ins, outs, px = kernel.in_channels, kernel.out_channels, kernel.in_px
    if kernel.blocked:
        ins, outs = ins if kernel.narrow else padded(ins, lane), padded(outs, lane)
    match kernel.kind:
        case "conv" | "depthwise":
            return "Conv", call.op, kernel.blocked, ins, outs, px, kernel.out_px, kernel.kernel, kernel.added
        case "gemm":
            return "Gemm", ins, outs
        case "block":
            return "ReorderInput", kernel.in_channels, outs, px
        case "unblock":
            return "ReorderOutput", padded(ins, lane), outs, px
        case "concat" | "split":
            return kernel.kind.capitalize(), call.op, kernel.parts, px
        case "pool":
            return "GlobalAveragePool", call.op, kernel.blocked, ins, px
    return TYPES[kernel.function or kernel.kind], ins, px


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
