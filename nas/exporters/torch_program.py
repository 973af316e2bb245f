"""Inference graph as a torch module of plain operators, for torch's exporters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.arch.ops.network import Op
from nas.exporters.graph import InferenceGraph
from nas.exporters.rewriting.kernels import pads


class TorchProgram(nn.Module):
    """Module that computes an inference graph operation by operation, float32.

    It maps images (N, C, H, W), of any N, to the outputs of the graph, several as a tuple. Norms are folded. Splits of
    channels are slices, which XNNPACK runs, where ``torch.split`` would end its delegate. Weights are buffers: it is
    not for training.
    """

    def __init__(self, graph: InferenceGraph) -> None:
        super().__init__()
        self._ops, self._outputs, self._padding = graph.ops, graph.outputs, graph.spec.padding
        for op in graph.ops:
            if op.kind in ("conv", "depthwise", "linear", "norm"):
                for part, array in zip(("weight", "bias"), graph.parameters(op), strict=True):
                    values = array.reshape(-1, 1, 1) if op.kind == "norm" else array
                    self.register_buffer(_buffer(op, part), torch.tensor(values))

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Outputs of ``images`` (N, C, H, W)."""
        tensors = {"": images}
        for op in self._ops:
            inputs = [tensors[name] for name in op.inputs]
            if op.kind == "split":
                start = 0
                for part, width in enumerate(op.parts):
                    tensors[f"{op.path}:{part}"] = inputs[0][:, start : start + width]
                    start += width
                continue
            result = self._computed(op, inputs)
            is_activated = op.activation is not None and op.kind != "matmul"
            tensors[op.path] = ACTIVATIONS_TORCH[op.activation](result) if is_activated and op.activation else result
        found = tuple([tensors[path] for path in self._outputs])
        return found[0] if len(found) == 1 else found

    def _computed(self, op: Op, inputs: list[Tensor]) -> Tensor:
        """Output of ``op`` before its activation; of a matmul with it."""
        first = inputs[0]
        if op.kind in ("conv", "depthwise"):
            return self._convolution(op, first)
        if op.kind == "linear":
            return functional.linear(first.flatten(1), *self._weights_of(op))
        if op.kind == "norm":
            factor, shift = self._weights_of(op)
            return first * factor + shift
        if op.kind == "matmul":
            return _attention(op, *inputs)
        if op.kind == "concat":
            return torch.cat(inputs, dim=1)
        if op.kind == "pool":
            return first.mean((-1, -2), keepdim=True)
        if op.kind == "resize":
            return functional.interpolate(first, (op.out_px, op.out_px), mode="bilinear", align_corners=False)
        if op.kind == "scale":
            gate = inputs[1]
            return first * (gate if gate.dim() == 4 else gate[:, :, None, None])
        return first + inputs[1]

    def _convolution(self, op: Op, source: Tensor) -> Tensor:
        if source.dim() == 2:  # after a linear layer
            source = source[:, :, None, None]
        top, left, bottom, right = pads(op, self._padding)
        if (top, left) != (bottom, right):
            source, top, left = functional.pad(source, (left, right, top, bottom)), 0, 0
        groups = op.out_channels if op.kind == "depthwise" else op.groups
        return functional.conv2d(
            source, *self._weights_of(op), stride=op.stride, padding=(top, left), dilation=op.dilation, groups=groups
        )

    def _weights_of(self, op: Op) -> tuple[Tensor, Tensor]:
        return self.get_buffer(_buffer(op, "weight")), self.get_buffer(_buffer(op, "bias"))


def exported_program(graph: InferenceGraph) -> Any:
    """``torch.export.ExportedProgram`` of ``graph``, for batches of its shape."""
    program = TorchProgram(graph).eval()
    with torch.no_grad():
        return torch.export.export(program, (torch.zeros(graph.input_shape),), strict=False)


def _buffer(op: Op, part: str) -> str:
    return f"{op.path}.{part}".replace(".", "__")


def _attention(op: Op, first: Tensor, second: Tensor) -> Tensor:
    """One of the two products of an attention; weights (N, heads * positions, keys).

    All heads have the same keys and values, so that one product of matrices does; a broadcast would leave XNNPACK.
    """
    count = first.shape[0]
    if op.activation:
        per_head = op.in_channels // op.groups
        query = first.reshape(count, op.groups, per_head, -1).transpose(2, 3).reshape(count, -1, per_head)
        return torch.bmm(query, second.flatten(2) * per_head**-0.5).softmax(dim=-1)
    heads = torch.bmm(first, second.flatten(2).transpose(1, 2))
    per_head = op.out_channels // op.groups
    positions = heads.reshape(count, op.groups, -1, per_head).transpose(2, 3)
    return positions.reshape(count, op.out_channels, op.out_px, op.out_px)


def _hard_sigmoid(x: Tensor) -> Tensor:
    """Hard sigmoid by operators that XNNPACK has.

    That of torch becomes ones with integers, which ExecuTorch converts in every run.
    """
    return functional.hardtanh(x * (1 / 6) + 0.5, 0.0, 1.0)


def _mish(x: Tensor) -> Tensor:
    """Mish by operators that XNNPACK has: x n / (n + 2) with n = e^x (e^x + 2).

    Above x = 20 the quotient is 1 in float32, so that the exponent is clipped there before it overflows.
    """
    power = torch.exp(x.clamp(max=20.0))
    n = power * (power + 2.0)
    return x * (n / (n + 2.0))


# Values of ``Op.activation``.
ACTIVATIONS_TORCH: Final[Mapping[str, Callable[[Tensor], Tensor]]] = {
    "relu": functional.relu,
    "relu6": functional.relu6,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": functional.hardswish,
    "swish": functional.silu,
    "gelu": functional.gelu,
    "mish": _mish,
}
