"""ncnn network of a spec, batch norms folded; imports neither ncnn nor torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from nas.arch.ops.network import Op
from nas.core.errors import NasError
from nas.exporters.graph import InferenceGraph
from nas.exporters.ncnn.layers import LayerBuilder, Parameter, fused_activation
from nas.exporters.rewriting.kernels import pads

# Names of the input, and before the numbers of outputs, as pnnx gives them.
INPUT_BLOB: Final = "in0"
_OUTPUT: Final = "out"

_MULTIPLY, _ADD = 2, 0  # operations of BinaryOp
_AVERAGE: Final = 1
_BILINEAR: Final = 2  # of Interp
_SWAP_W_AND_H: Final = 1  # order of Permute
_CHANNEL_AXIS: Final = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NcnnModel:
    """Contents of the two files of an ncnn network: layers as text, and their weights."""

    text: str
    weights: bytes


def ncnn_model(graph: InferenceGraph) -> NcnnModel:
    """Write ``graph`` as an ncnn network, float32.

    It maps ``in0`` (in_channels, H, H) to its outputs ``out0``, ``out1`` and so on, (C,) or (C, H, W). Layers are named
    by the paths of their ``Op``.

    Raises: NasError for a batch of several images, which ncnn does not have.
    """
    if graph.batch != 1:
        raise NasError(f"format ncnn: batch {graph.batch}: ncnn runs one image at a time; set batch=1.")
    builder = _Graph(graph)
    for op in graph.ops:
        builder.add(op)
    for path, blob in zip(graph.outputs, output_blobs(len(graph.outputs)), strict=True):
        builder.layer("Noop", [path], blob)
    return NcnnModel(text=builder.text(), weights=builder.weights)


def output_blobs(count: int) -> tuple[str, ...]:
    """Names of the outputs of a network that has ``count``."""
    return tuple(f"{_OUTPUT}{index}" for index in range(count))


class _Graph(LayerBuilder):
    """ncnn network under construction, extended op by op.

    A tensor is a blob of three dimensions (C, H, W), or after a pooling of one (C), on which 1x1 convolutions are
    matrix products with a vector.
    """

    def __init__(self, graph: InferenceGraph) -> None:
        super().__init__()
        self._graph = graph
        self._vectors: set[str] = set()  # tensors of one dimension
        self._read = {name for op in graph.ops for name in op.inputs}
        _, channels, height, width = graph.input_shape
        self.layer("Input", [], INPUT_BLOB, {0: width, 1: height, 2: channels})

    def add(self, op: Op) -> None:
        """Append the layers of ``op``; the last one has the output tensor ``op.path``."""
        inputs = [name or INPUT_BLOB for name in op.inputs]
        if op.kind in ("conv", "depthwise", "linear"):
            self._weighted(op, inputs[0])
            return
        if op.kind == "matmul":
            self._matmul(op, *inputs)
            return
        raw = f"{op.path}.linear" if op.activation else op.path
        if op.kind == "pool":
            self.layer("Pooling", inputs, raw, {0: _AVERAGE, 4: 1})
        elif op.kind == "split":
            self._split(op, inputs[0])
        elif op.kind == "concat":
            self.layer("Concat", inputs, raw)
        elif op.kind == "resize":
            self.layer("Interp", inputs, raw, {0: _BILINEAR, 3: op.out_px, 4: op.out_px})
        elif op.kind == "norm":
            self.layer("Scale", inputs, raw, {0: op.out_channels, 1: 1}, vectors=self._graph.parameters(op))
        else:
            self.layer("BinaryOp", inputs, raw, {0: {"scale": _MULTIPLY, "add": _ADD}[op.kind]})
        if op.activation:
            self.activate(op.activation, raw, op.path)
        if op.kind == "pool" or (op.kind != "resize" and set(inputs) <= self._vectors):
            self._vectors.update([op.path, *(f"{op.path}:{part}" for part in range(len(op.parts)))])

    def _split(self, op: Op, source: str) -> None:
        """Add a split.

        A part that no operation reads would be an output of the network: the others are then cut out one by one.
        """
        names = [f"{op.path}:{part}" for part in range(len(op.parts))]
        if self._read.issuperset(names):
            self.layer("Slice", [source], names, {0: op.parts})
            return
        start = 0
        for name, width in zip(names, op.parts, strict=True):
            if name in self._read:
                self.layer("Crop", [source], name, {9: [start], 10: [start + width], 11: [_CHANNEL_AXIS]})
            start += width

    def _weighted(self, op: Op, source: str) -> None:
        """Add a convolution or linear layer.

        Its activation is fused where ncnn has that.
        """
        weight, bias = self._graph.parameters(op)
        fused = fused_activation(op.activation)
        raw = op.path if fused is not None else f"{op.path}.linear"
        parameters: dict[int, Parameter] = {0: op.out_channels}
        if op.kind == "linear" or (source in self._vectors and op.kind == "conv" and op.groups == 1):
            kind = "InnerProduct"
            parameters |= {1: 1, 2: weight.size}
            self._vectors.add(op.path)
        else:
            grouped = op.kind == "depthwise" or op.groups > 1
            kind = "ConvolutionDepthWise" if grouped else "Convolution"
            parameters |= self._window(op) | {5: 1, 6: weight.size}
            if grouped:
                parameters[7] = op.out_channels if op.kind == "depthwise" else op.groups
            if source in self._vectors:
                source = self._reshaped(source, f"{op.path}.map", 1, 1, op.in_channels)
        self.layer(kind, [source], raw, parameters | (fused or {}), weight=weight, vectors=[bias])
        if op.activation and fused is None:
            self.activate(op.activation, raw, op.path)

    def _window(self, op: Op) -> dict[int, Parameter]:
        """Kernel, dilation, stride and padding of a convolution."""
        top, left, bottom, right = pads(op, self._graph.spec.padding)
        across: dict[int, Parameter] = {1: op.kernel, 2: op.dilation, 3: op.stride, 4: left, 15: right}
        return across | {11: op.kernel, 12: op.dilation, 13: op.stride, 14: top, 16: bottom}

    def _matmul(self, op: Op, first: str, second: str) -> None:
        """Add one of the two products of an attention.

        All heads have the same keys and values: the rows of all heads are one matrix. Attention weights are
        (heads * positions, key positions).
        """
        positions, per_head = op.out_px**2, op.in_channels // op.groups
        if op.activation:  # query and key to attention weights
            query = self._reshaped(first, f"{op.path}.query", positions, per_head, op.groups)
            self.layer("Permute", [query], f"{query}.t", {0: _SWAP_W_AND_H})
            rows = self._reshaped(f"{query}.t", f"{query}.rows", per_head, op.groups * positions)
            scale = float(np.float32(per_head**-0.5))
            self.layer("BinaryOp", [rows], f"{query}.scaled", {0: _MULTIPLY, 1: 1, 2: scale})
            key = self._reshaped(second, f"{op.path}.key", op.out_channels // op.groups, per_head)
            self.layer("MatMul", [f"{query}.scaled", key], f"{op.path}.linear")
            self.layer("Softmax", [f"{op.path}.linear"], op.path, {0: 1, 1: 1})
        else:  # attention weights and value
            width = op.out_channels // op.groups
            value = self._reshaped(second, f"{op.path}.value", per_head, width)
            self.layer("MatMul", [first, value], f"{op.path}.rows", {0: 1})  # value transposed
            heads = self._reshaped(f"{op.path}.rows", f"{op.path}.heads", width, positions, op.groups)
            self.layer("Permute", [heads], f"{heads}.t", {0: _SWAP_W_AND_H})
            self._reshaped(f"{heads}.t", op.path, op.out_px, op.out_px, op.out_channels)

    def _reshaped(self, source: str, target: str, *sides: int) -> str:
        """Add a reshape of ``source`` to ``sides`` (innermost first); returns ``target``."""
        self.layer("Reshape", [source], target, dict(enumerate(sides)))
        return target
