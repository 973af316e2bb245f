"""Synthetic devices with known true latencies, to test fits without a clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from nas.arch.spec import ArchSpec
from nas.exporters.rewriting.forms import Forms
from nas.exporters.rewriting.network import rewritten_parts
from nas.latency.calibration.collect import Chunk, Collector, is_held_out, spec_of
from nas.latency.device import Device
from nas.latency.kernels.ort_lowering import Call, Kernel, network_calls
from nas.latency.measure.kernel_match import Profile, call_times_us

# Kernels cannot be timed one by one on ``DEVICE`` (int8), but on ``KERNEL_DEVICE``.
DEVICE = Device(processor="test core", cores=2, backend="onnxruntime", backend_version="0", precision="int8", os="none")
KERNEL_DEVICE = Device(processor="test core", cores=2, backend="onnxruntime", backend_version="0", os="none")
LANE = 16
RECORDING_US = 2.0  # profiling overhead per kernel
CHUNK_S = 0.5  # CPU time per network
PROBE_MS = 0.15  # of the speed probe


def true_ms(spec: ArchSpec, forms: Forms | None = None) -> float:
    """True latency in ms on ``DEVICE``; ``forms``: of its blocks, None for plain ones.

    It sums dense multiply-adds, traffic of depthwise convolutions and additions, swish, weights of linear layers, and a
    constant per call.
    """
    total = 0.0
    for op in (op for part, _ in rewritten_parts(spec, forms) for op in part.ops):
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
        products = kernel.in_channels // kernel.groups * kernel.out_channels * kernel.kernel**2 * area
        return 3 + slow * products * 2.5e-5
    if kernel.kind == "depthwise":
        return 3 + (1 if kernel.blocked else 5) * kernel.out_channels * kernel.kernel**2 * area * 4e-5
    return 3 + channels * kernel.in_px**2 * 1e-4


def true_kernel_sum_ms(spec: ArchSpec, forms: Forms | None = None) -> float:
    """True latency in ms of a network on ``KERNEL_DEVICE``: the sum of its kernels.

    ``forms``: of its blocks, None for plain ones.
    """
    return sum(true_kernel_us(call.kernel) for call in network_calls(spec, LANE, forms)) * 1e-3


# Types of kernels other than convolutions in profiles.
_TYPES = {
    "gemm": "Gemm", "pool": "GlobalAveragePool", "scale": "Mul", "add": "Add", "concat": "Concat", "split": "Split",
    "block": "ReorderInput", "unblock": "ReorderOutput", "swish": "FastSilu", "relu": "Relu", "relu6": "Clip",
    "sigmoid": "Sigmoid", "hard_sigmoid": "HardSigmoid", "gelu": "Gelu", "min": "Min", "exp": "Exp", "mul": "Mul",
    "add_constant": "Add", "div": "Div", "resize": "Resize",
}  # fmt: skip


def unknown_profile(calls: Sequence[Call]) -> Profile:
    """Profile of a device whose kernels are not all those that are predicted.

    Swish is another kernel, without an operation's name; a strided depthwise convolution is followed by one more
    kernel; the multiplications of squeeze-excite do not run as kernels of their own.
    """
    return [
        ({"name": name, "args": {"op_name": kind, "input_type_shape": [shape], "output_type_shape": [shape]}}, time_us)
        for call in calls
        for kind, name, shape, time_us in _unknown_kernels(call)
    ]


def _unknown_kernels(call: Call) -> Iterator[tuple[str, str, dict[str, list[int]], float]]:
    kernel, time_us = call.kernel, true_kernel_us(call.kernel) + RECORDING_US
    shape = {"float": [1, max(kernel.in_channels, kernel.out_channels), kernel.in_px, kernel.in_px]}
    if kernel.kind in ("conv", "depthwise"):
        yield "Conv", f"{call.op}_kernel_time", shape, time_us
        if kernel.kind == "depthwise" and kernel.stride > 1:
            yield "Shuffle", f"{call.op}.shuffle_kernel_time", shape, 0.5 * time_us
    elif kernel.kind != "scale":
        kind = _TYPES[kernel.function or kernel.kind]
        yield kind, f"{kind}_token_3_kernel_time", shape, time_us


def unknown_ms(spec: ArchSpec, forms: Forms | None = None) -> float:
    """True latency in ms of a network on that device; ``forms``: of its blocks."""
    profile = unknown_profile(list(network_calls(spec, LANE, forms)))
    return sum(time_us - RECORDING_US for _, time_us in profile) * 1e-3


def unknown_chunk(collector: Collector, networks: Sequence[str | int]) -> Chunk:
    """Chunk that ``Collector`` would measure on that device."""
    return _chunk(collector, networks, unknown_ms, lambda calls: call_times_us(unknown_profile(calls), calls))


def fake_chunk(collector: Collector, networks: Sequence[str | int]) -> Chunk:
    """Chunk that ``Collector`` would measure on either synthetic device.

    Profiled times include ``RECORDING_US`` of overhead per kernel.
    """
    latency_ms = true_ms if collector.lane is None else true_kernel_sum_ms
    return _chunk(
        collector, networks, latency_ms, lambda calls: [true_kernel_us(call.kernel) + RECORDING_US for call in calls]
    )


def _chunk(
    collector: Collector,
    networks: Sequence[str | int],
    latency_ms: Callable[[ArchSpec, Forms | None], float],
    times_us: Callable[[Sequence[Call]], Sequence[float]],
) -> Chunk:
    specs = [spec_of(network, collector.seed) for network in networks]
    forms = [collector.forms_of(network) for network in networks]
    calls = [list(network_calls(spec, LANE, form)) for spec, form in zip(specs, forms, strict=True)]
    return Chunk(
        networks=tuple(networks),
        latencies_ms=tuple(map(latency_ms, specs, forms)),
        kernels_us=tuple(
            tuple(times_us(network)) if collector.lane is not None and not is_held_out(name) else None
            for name, network in zip(networks, calls, strict=True)
        ),
        probe_ms=PROBE_MS,
        probes_ms=(PROBE_MS,),
        spent_s=CHUNK_S * len(networks),
    )
