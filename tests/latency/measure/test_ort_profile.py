"""Tests of reading ONNX Runtime's profiles and matching them with kernel calls."""

from __future__ import annotations

import math
from typing import Any

from nas.arch import zoo
from nas.latency.kernels.ort_lowering import Call, Kernel
from nas.latency.measure.ort_profile import ProfiledNetwork, call_times_us, detect_lane

CONV = Call("blocks.0.0.conv_pw", Kernel("conv", 24, 96, 14, 14, True))
POOL = Call("blocks.0.0.se.pool", Kernel("pool", 96, 96, 14, 1, True))


def event(kind: str, name: str, shape: list[int]) -> dict[str, Any]:
    tensors = [{"float": shape}]
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "args": {"op_name": kind, "input_type_shape": tensors, "output_type_shape": tensors},
    }


def test_convolutions_are_found_by_path_and_others_by_shape() -> None:
    events = [
        (event("GlobalAveragePool", "whatever", [1, 96, 14, 14]), 5.0),
        (event("Flatten", "flat", [1, 96, 1, 1]), 1.0),
        (event("Conv", "blocks.0.0.conv_pw.linear_nchwc", [1, 32, 14, 14]), 7.0),
    ]
    assert call_times_us(events, [CONV, POOL]) == [7.0, 5.0]


def test_unmatched_calls_and_events_give_no_times() -> None:
    conv = (event("Conv", "blocks.0.0.conv_pw_nchwc", [1, 32, 14, 14]), 7.0)
    assert [math.isnan(us) for us in call_times_us([conv], [CONV, POOL])] == [False, True]
    other = (event("Conv", "blocks.9.9.conv_pw_nchwc", [1, 32, 14, 14]), 7.0)
    assert all(math.isnan(us) for us in call_times_us([conv, other], [CONV]))


def test_unknown_kernels_give_no_block_size() -> None:
    assert detect_lane([(event("Conv", "new_fused_thing", [1, 3, 8, 8]), 1.0)], zoo.get("mobilenetv1_025")) is None


def test_times_are_those_of_counted_runs_and_leave_nothing_behind() -> None:
    network = ProfiledNetwork(zoo.get("mobilenetv3_small_050"), threads=1, batch=1, seed=0)
    for _ in range(4):
        network.run()
    events = network.finish(counted=(False, True, True, True))
    assert all(us >= 0.5 for _, us in events)
    assert len({event["name"] for event, _ in events}) == len(events)
