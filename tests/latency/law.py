"""A made-up device whose latencies follow a known law, so that fits can be tested without a clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nas.arch.ops import network_ops
from nas.arch.spec import ArchSpec
from nas.latency.device import Device
from nas.latency.measure import Measurement

DEVICE = Device(processor="test core", cores=2, backend="onnxruntime", backend_version="0", os="none")


def law_ms(spec: ArchSpec) -> float:
    """ms on the device: dense multiply-adds, traffic of depthwise convolutions and of additions, swish, a constant."""
    total = 0.0
    for op in network_ops(spec):
        if op.kind == "conv" and op.out_px > 1:
            total += 0.004 + op.macs * 2.5e-8
        if op.kind == "depthwise":
            total += (op.in_elements + op.out_elements) * 4 * 9e-8
        if op.kind == "add":
            total += 0.006 + op.in_elements * 4 * 3e-8
        if op.kind == "linear":
            total += 0.01 + op.weights * 4 * 8e-8
        if op.activation == "swish":
            total += op.out_elements * 4 * 5e-8
    return total


def fake_measurements(specs: Sequence[ArchSpec], **_: Any) -> list[Measurement]:
    """What ``measure_many`` would say on the device."""
    return [Measurement(latency_ms=law_ms(spec), spread_ms=0.0, runs=1, device=DEVICE) for spec in specs]
