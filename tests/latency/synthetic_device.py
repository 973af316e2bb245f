"""Synthetic devices with known true latencies, to test fits without a clock."""

from __future__ import annotations

from collections.abc import Sequence

from nas.arch.ops.network import network_ops
from nas.arch.spec import ArchSpec
from nas.latency.calibration.collect import Chunk, Collector, is_held_out, spec_of
from nas.latency.device import Device
from nas.latency.kernels.ort_lowering import Kernel, network_calls

# Kernels cannot be timed one by one on ``DEVICE`` (int8), but on ``KERNEL_DEVICE``.
DEVICE = Device(processor="test core", cores=2, backend="onnxruntime", backend_version="0", precision="int8", os="none")
KERNEL_DEVICE = Device(processor="test core", cores=2, backend="onnxruntime", backend_version="0", os="none")
LANE = 16
RECORDING_US = 2.0  # profiling overhead per kernel
CHUNK_S = 0.5  # CPU time per network


def true_ms(spec: ArchSpec) -> float:
    """True latency in ms on ``DEVICE``.

    It sums dense multiply-adds, traffic of depthwise convolutions and additions, swish, weights of linear layers, and a
    constant per call.
    """
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


def true_kernel_us(kernel: Kernel) -> float:
    """True time of one kernel on ``KERNEL_DEVICE`` in microseconds.

    The plain memory layout is five times as slow as the blocked one.
    """
    area, channels = kernel.out_px**2, kernel.in_channels + kernel.out_channels
    if kernel.kind in ("conv", "gemm"):
        slow = 1 if kernel.blocked else 5
        return 3 + slow * kernel.in_channels * kernel.out_channels * kernel.kernel**2 * area * 2.5e-5
    if kernel.kind == "depthwise":
        return 3 + (1 if kernel.blocked else 5) * kernel.out_channels * kernel.kernel**2 * area * 4e-5
    return 3 + channels * kernel.in_px**2 * 1e-4


def true_kernel_sum_ms(spec: ArchSpec) -> float:
    """True latency in ms of a network on ``KERNEL_DEVICE``: the sum of its kernels."""
    return sum(true_kernel_us(call.kernel) for call in network_calls(spec, LANE)) * 1e-3


def fake_chunk(collector: Collector, networks: Sequence[str | int]) -> Chunk:
    """Chunk that ``Collector`` would measure on either synthetic device.

    Profiled times include ``RECORDING_US`` of overhead per kernel.
    """
    specs = [spec_of(network, collector.seed) for network in networks]
    calls = [list(network_calls(spec, LANE)) for spec in specs]
    kernels_timed = collector.lane is not None
    return Chunk(
        networks=tuple(networks),
        latencies_ms=tuple(true_kernel_sum_ms(spec) if kernels_timed else true_ms(spec) for spec in specs),
        kernels_us=tuple(
            tuple(true_kernel_us(call.kernel) + RECORDING_US for call in network)
            if kernels_timed and not is_held_out(name)
            else None
            for name, network in zip(networks, calls, strict=True)
        ),
        reference_ms=2.0,
        spent_s=CHUNK_S * len(networks),
    )
