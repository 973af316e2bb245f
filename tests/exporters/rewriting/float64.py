"""Inference graphs in float64, by torch's functions."""

from __future__ import annotations

import torch
from torch.nn import functional

from nas.arch.ops.network import Op
from nas.exporters.graph import InferenceGraph

ACTIVATIONS = {
    "relu": functional.relu, "relu6": functional.relu6, "sigmoid": torch.sigmoid, "swish": functional.silu,
    "hard_swish": functional.hardswish, "hard_sigmoid": functional.hardsigmoid, "gelu": functional.gelu,
    "mish": functional.mish,
}  # fmt: skip


def run_in_float64(graph: InferenceGraph, images: torch.Tensor) -> torch.Tensor:
    """Logits (N, classes) of ``images`` (N, C, H, W), both float64; of graphs without attention."""
    tensors = {"": images}
    for op in graph.ops:
        inputs = [tensors[name] for name in op.inputs]
        output = _run(graph, op, inputs)
        if op.activation:
            output = ACTIVATIONS[op.activation](output)
        tensors[op.path] = output
        if op.kind == "split":
            tensors |= {f"{op.path}:{index}": part for index, part in enumerate(inputs[0].split(op.parts, dim=1))}
    return tensors[graph.ops[-1].path]


def _run(graph: InferenceGraph, op: Op, inputs: list[torch.Tensor]) -> torch.Tensor:
    first = inputs[0]
    assert op.kind == "linear" or first.shape[-1] == op.in_px
    assert op.kind in ("add", "concat") or first.shape[1] == op.in_channels
    if op.kind in ("conv", "depthwise"):
        weight, bias = (torch.from_numpy(array).double() for array in graph.parameters(op))
        reach = op.dilation * (op.kernel - 1)
        total = max(0, (op.out_px - 1) * op.stride + reach + 1 - op.in_px)
        before = reach // 2 if graph.spec.padding == "symmetric" else total // 2
        after = reach // 2 if graph.spec.padding == "symmetric" else total - before
        groups = op.out_channels if op.kind == "depthwise" else op.groups
        padded = functional.pad(first, (before, after, before, after))
        return functional.conv2d(padded, weight, bias, op.stride, 0, op.dilation, groups)
    if op.kind == "linear":
        weight, bias = (torch.from_numpy(array).double() for array in graph.parameters(op))
        return functional.linear(first.flatten(1), weight, bias)
    if op.kind == "pool":
        return first.mean((2, 3), keepdim=True)
    if op.kind == "scale":
        return first * inputs[1].reshape(*inputs[1].shape[:2], 1, 1)
    if op.kind == "add":
        return first + inputs[1]
    if op.kind == "concat":
        return torch.cat(inputs, dim=1)
    assert op.kind == "split"
    return first
