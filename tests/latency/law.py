"""A made-up device whose latencies follow a known law, so that fits can be tested without a clock."""

from __future__ import annotations

from collections.abc import Sequence

from nas.arch.ops.network import network_ops
from nas.arch.spec import ArchSpec
from nas.latency.calibration.collect import Chunk, Collector, held_out, spec_of
from nas.latency.device import Device
from nas.latency.kernels.ort_lowering import Kernel, network_calls

# Kernels cannot be timed on the one, and can on the other.
DEVICE = Device(processor="test core", cores=2, backend="onnxruntime", backend_version="0", precision="int8", os="none")
KERNEL_DEVICE = Device(processor="test core", cores=2, backend="onnxruntime", backend_version="0", os="none")
LANE = 16
RECORDING_US = 2.0  # that a profile adds to every kernel
CHUNK_S = 0.5  # of CPU time for every network


def law_ms(spec: ArchSpec) -> float:
    """ms on ``DEVICE``: dense multiply-adds, traffic of depthwise convolutions and additions, swish, a constant."""
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


def kernel_us(kernel: Kernel) -> float:
    """Microseconds of one kernel on ``KERNEL_DEVICE``: of the plain layout five times as long."""
    area, shift = kernel.out_px**2, kernel.in_channels + kernel.out_channels
    if kernel.kind in ("conv", "gemm"):
        slow = 1 if kernel.blocked else 5
        return 3 + slow * kernel.in_channels * kernel.out_channels * kernel.kernel**2 * area * 2.5e-5
    if kernel.kind == "depthwise":
        return 3 + (1 if kernel.blocked else 5) * kernel.out_channels * kernel.kernel**2 * area * 4e-5
    return 3 + shift * kernel.in_px**2 * 1e-4


def kernel_law_ms(spec: ArchSpec) -> float:
    """ms of a network on ``KERNEL_DEVICE``."""
    return sum(kernel_us(call.kernel) for call in network_calls(spec, LANE)) * 1e-3


def fake_chunk(collector: Collector, networks: Sequence[str | int]) -> Chunk:
    """What ``Collector`` would measure on either device."""
    specs = [spec_of(network, collector.seed) for network in networks]
    calls = [list(network_calls(spec, LANE)) for spec in specs]
    by_kernels = collector.lane is not None
    return Chunk(
        networks=tuple(networks),
        latencies_ms=tuple(kernel_law_ms(spec) if by_kernels else law_ms(spec) for spec in specs),
        kernels_us=tuple(
            tuple(kernel_us(call.kernel) + RECORDING_US for call in members)
            if by_kernels and not held_out(network)
            else None
            for network, members in zip(networks, calls, strict=True)
        ),
        reference_ms=2.0,
        spent_s=CHUNK_S * len(networks),
    )
