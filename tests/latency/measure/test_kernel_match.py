"""Tests of matching kernels that ran with those that the lowering predicts, known and unknown ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from nas.arch import zoo
from nas.latency.kernels.ort_lowering import Call, Kernel, network_calls
from nas.latency.measure.kernel_match import Profile, best_match, call_times_us, match_kernels
from nas.latency.measure.ort_profile import Event
from tests.latency.ort_recordings import attention, networks, read_recordings

CONV = Call("blocks.0.0.conv_pw", Kernel("conv", 24, 96, 14, 14, True))
POOL = Call("blocks.0.0.se.pool", Kernel("pool", 96, 96, 14, 1, True))
BLOCKS = {"onnxruntime-1.31.1-avx2": 8, "onnxruntime-1.32.0-avx512": 16, "onnxruntime-1.32.0-plain": 1}
MIXNET = networks()["mixnet_s"]


def event(kind: str, name: str, *shapes: Sequence[int]) -> dict[str, Any]:
    tensors = [{"float": list(shape)} for shape in shapes]
    arguments = {"op_name": kind, "input_type_shape": tensors, "output_type_shape": tensors}
    return {"cat": "Node", "name": f"{name}_kernel_time", "args": arguments}


def renamed(profile: Profile, kind: str, new: str, name: str | None = None) -> Profile:
    """The profile with kernels of one type as another type, and of another name."""

    def change(event: Event) -> Event:
        if event["args"]["op_name"] != kind:
            return event
        return {
            **event,
            "name": f"{name}_kernel_time" if name else event["name"],
            "args": {**event["args"], "op_name": new},
        }

    return [(change(event), time_us) for event, time_us in profile]


def test_convolutions_are_found_by_path_and_others_by_shape() -> None:
    events = [
        (event("GlobalAveragePool", "whatever", [1, 96, 14, 14]), 5.0),
        (event("Flatten", "flat", [1, 96, 1, 1]), 1.0),
        ({"name": "blocks.0.0.conv_pw_fence_before", "args": {"op_name": "Conv"}}, 0.5),  # ONNX Runtime 1.20
        (event("Conv", "blocks.0.0.conv_pw.linear_nchwc", [1, 32, 14, 14]), 7.0),
    ]
    assert call_times_us(events, [CONV, POOL]) == [7.0, 5.0]


def test_a_call_that_no_kernel_ran_for_takes_no_time() -> None:
    conv = (event("Conv", "blocks.0.0.conv_pw_nchwc", [1, 32, 14, 14]), 7.0)
    match = match_kernels([conv], [CONV, POOL])
    assert (match.times_us, match.absent, match.known_share) == ((7.0, 0.0), 1, 1.0)


@pytest.mark.parametrize(
    ("unknown", "expected"),
    [
        # of the convolution, by its name
        (event("Stitch", "blocks.0.0.conv_pw.linear/Fusion_3/", [1, 96, 14, 14]), (10.0, 5.0)),
        (event("Stitch", "blocks.0.0.se.pool_nchwc", [1, 96, 14, 14]), (7.0, 8.0)),  # of the pooling
        # between the two, and without a name: a part of the one before
        (event("Stitch", "Stitch_token_7", [1, 96, 14, 14]), (10.0, 5.0)),
        (event("Stitch", "Stitch"), (10.0, 5.0)),  # nor any shape
        (event("Stitch", "blocks.0.1.conv_pw", [7]), (10.0, 5.0)),  # of no operation of this network
    ],
)
def test_the_time_of_an_unknown_kernel_counts_to_its_operation(unknown: Event, expected: tuple[float, ...]) -> None:
    conv = event("Conv", "blocks.0.0.conv_pw_nchwc", [1, 32, 14, 14])
    pool = event("GlobalAveragePool", "blocks.0.0.se.pool_nchwc", [1, 96, 14, 14])
    match = match_kernels([(conv, 7.0), (unknown, 3.0), (pool, 5.0)], [CONV, POOL])
    assert (match.times_us, dict(match.unknown_us), match.absent) == (expected, {"Stitch": 3.0}, 0)
    assert match.known_share == pytest.approx(12 / 15)


@pytest.mark.parametrize("recording", BLOCKS)
def test_the_block_size_is_that_of_the_kernels_that_ran(recording: str) -> None:
    lane, match = best_match(read_recordings()[recording]["mixnet_s"], MIXNET)
    assert (lane, match.known_share, match.absent) == (BLOCKS[recording], 1.0, 0)


@pytest.mark.parametrize("recording", BLOCKS)
@pytest.mark.parametrize(
    ("kind", "name"),
    [("QuickGelu", None), ("QuickGelu", "Silu_token_9"), ("Conv", None), ("Concat", "Concat"), ("ReorderInput", "R_3")],
)
def test_a_kernel_under_another_type_replaces_the_call(recording: str, kind: str, name: str | None) -> None:
    lane, profile = BLOCKS[recording], read_recordings()[recording]["mixnet_s"]
    calls = list(network_calls(MIXNET, lane))
    changed = renamed(profile, kind, "Renamed", name)
    match = match_kernels(changed, calls)
    count = sum(event["args"]["op_name"] == kind for event, _ in profile)
    assert match.times_us == (1.0,) * len(calls)  # each kernel of a recording takes 1 us
    assert (dict(match.unknown_us), match.absent) == ({"Renamed": count} if count else {}, count)
    assert best_match(changed, MIXNET)[0] == lane


@pytest.mark.parametrize("recording", BLOCKS)
def test_attention_is_learned_though_its_kernels_are_not_predicted(recording: str) -> None:
    profile = read_recordings()[recording]["attention"]
    calls = list(network_calls(attention(), BLOCKS[recording]))
    lane, match = best_match(profile, attention())
    assert lane == BLOCKS[recording]
    assert {"FusedMatMul", "Softmax", "Transpose", "Reshape"} <= match.unknown_us.keys()
    assert sum(match.times_us) == len(profile) - 1  # all but Flatten
    of_op = {call.op: 0.0 for call in calls}
    for call, time_us in zip(calls, match.times_us, strict=True):
        of_op[call.op] += time_us
    # The nodes of the second product: its operands (Reshape), itself, and two changes of its layout.
    assert of_op["blocks.0.2.attn.heads"] >= 4
    assert of_op["blocks.0.3.conv"] == 1


def test_a_network_of_unknown_kernels_is_not_known() -> None:
    _, match = best_match([(event("Conv", "new_fused_thing", [1, 3, 8, 8]), 1.0)], zoo.get("mobilenetv1_025"))
    assert not match.is_known
    assert match.known_share == 0.0
