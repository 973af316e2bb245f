"""LiteRT model (``.tflite``) of an inference graph; does not import torch."""

from __future__ import annotations

import json
from typing import Final

import numpy as np

from nas.arch.ops.network import Op
from nas.exporters.graph import InferenceGraph
from nas.exporters.litert.depthwise import kernel_pieces, piece_pads
from nas.exporters.litert.fusion import fused_before_concats
from nas.exporters.litert.nodes import FUSED, NodeBuilder, Window
from nas.exporters.litert.task_metadata import TASK_METADATA, classifier_metadata, with_labels
from nas.exporters.rewriting.kernels import cropped, left_pad, pads
from nas.exporters.rewriting.weights import WeightArray

INPUT_TENSOR: Final = "input"
OUTPUT_TENSOR: Final = "output"
_FLOAT_ACTIVATIONS: Final = ("hard_swish", "gelu", "mish")


def litert_model(graph: InferenceGraph) -> bytes:
    """Serialise ``graph`` as a LiteRT model.

    Its signature ``serving_default`` maps ``input`` (N, H, W, C) to ``output``, both float32; several outputs are named
    by the paths of their ``Op``, as all tensors are. Maps have channels last. Class names and normalisation are
    metadata of the model, as JSON, and of a classifier in the standard form of image classifiers.
    """
    written = LiteRtGraph(graph)
    return with_labels(written.serialise(), written.labels) if written.labels else written.serialise()


class LiteRtGraph(NodeBuilder):
    """LiteRT model of ``graph``, written op by op.

    ``tensors``: those that each operation computes, by its path. ``float_tensors``: those that XNNPACK computes in
    float32 alone.
    """

    def __init__(self, graph: InferenceGraph) -> None:
        super().__init__(graph.spec.name)
        self._graph = graph
        self.tensors: dict[str, list[str]] = {}
        self._read = {name for op in graph.ops for name in op.inputs}
        self.float_tensors: list[str] = []
        batch, channels, height, width = graph.input_shape
        self.tensor(INPUT_TENSOR, (batch, height, width, channels))
        for op in fused_before_concats(graph.ops, graph.outputs):
            start = len(self.computed)
            self._add(op)
            self.tensors[op.path] = self.computed[start:]
            if op.kind == "matmul":
                self.float_tensors += self.computed[start:]
        for name, text in graph.metadata.items():
            self.metadata(name, text.encode())
        self._add_task_metadata()

    def serialise(self) -> bytes:
        """The model's file."""
        paths = self._graph.outputs
        names = (OUTPUT_TENSOR,) if len(paths) == 1 else paths
        return self.build({INPUT_TENSOR: INPUT_TENSOR}, dict(zip(names, paths, strict=True)))

    @property
    def labels(self) -> list[str]:
        """Names of the classes in label order; empty if unknown."""
        return list(json.loads(self._graph.metadata.get("class_names", "[]")))

    def _add_task_metadata(self) -> None:
        """Add the standard metadata of image classifiers, if there are any."""
        normalisation = json.loads(self._graph.metadata.get("normalisation", "null"))
        spec = self._graph.spec
        if spec.task == "classification" and (self.labels or normalisation):
            content = classifier_metadata(spec.name, spec.in_channels, normalisation, has_labels=bool(self.labels))
            self.metadata(TASK_METADATA, content)

    def _add(self, op: Op) -> None:
        """Append the operators of ``op``; the last one has the output tensor ``op.path``."""
        inputs = [name or INPUT_TENSOR for name in op.inputs]
        if op.kind in ("conv", "depthwise", "linear", "norm"):
            self._layer(op, inputs[0])
        elif op.kind == "split":
            parts = [f"{op.path}:{part}" for part in range(len(op.parts))]
            self.split(inputs[0], parts, op.parts, read=self._read)
        elif op.kind == "matmul":
            self._attention(op, *inputs)
        elif op.kind in ("add", "scale"):
            kind = "Add" if op.kind == "add" else "Mul"
            fused = op.activation in FUSED
            target = op.path if fused else f"{op.path}.linear"
            self.binary(kind, inputs[0], inputs[1], target, op.activation if fused else None)
            if not fused:
                self._activate(op, target)
        else:
            target = f"{op.path}.linear" if op.activation else op.path
            if op.kind == "concat":
                self.concatenate(inputs, target)
            elif op.kind == "resize":
                self.resize(inputs[0], target, op.out_px)
            else:
                self._pool(inputs[0], target)
            self._activate(op, target)

    def _activate(self, op: Op, source: str) -> None:
        if op.activation:
            start = len(self.computed)
            self.activate(op.activation, source, op.path)
            if op.activation in _FLOAT_ACTIVATIONS:
                self.float_tensors += self.computed[start:]

    def _pool(self, source: str, target: str) -> None:
        """Add global average pooling: (N, 1, 1, C)."""
        batch, _, _, channels = self.shape(source)
        axes = self.integers(f"{target}.axes", [1, 2])
        self.shaped_node("MEAN", [source, axes], target, (batch, 1, 1, channels), "Reducer", keepDims=True)

    def _layer(self, op: Op, source: str) -> None:
        """Add a convolution, linear layer or norm with its activation."""
        weight, bias = self._graph.parameters(op)
        if op.activation == "hard_sigmoid":  # ReLU6(x + 3) / 6: the sum is one of biases
            self._linear(op, source, weight, bias + 3, f"{op.path}.relu6", "relu6")
            self.sixth(f"{op.path}.relu6", op.path)
        elif op.activation in FUSED:
            self._linear(op, source, weight, bias, op.path, op.activation)
        else:
            self._linear(op, source, weight, bias, f"{op.path}.linear", None)
            self._activate(op, f"{op.path}.linear")

    def _linear(
        self, op: Op, source: str, weight: WeightArray, bias: WeightArray, target: str, activation: str | None
    ) -> None:
        """Add the operators of a layer with weights, and a fused activation."""
        if op.kind == "linear":
            self._matrix(op, source, weight, bias, target, activation)
            return
        if op.kind in ("depthwise", "norm"):  # a norm in one pass: a depthwise convolution of one px
            self._depthwise(op, source, weight.reshape(op.out_channels, op.kernel, op.kernel), bias, target, activation)
            return
        sides, dilations = (op.kernel, op.kernel), (op.dilation, op.dilation)
        window = Window(sides, dilations, op.stride, pads(op, self._graph.spec.padding), op.in_px, op.out_px)
        factor = self.constant(f"{op.path}.weight", weight.transpose(0, 2, 3, 1))
        shift = self.constant(f"{op.path}.bias", bias)
        self.convolution(source, factor, shift, target, window, groups=op.groups, activation=activation)

    def _matrix(
        self, op: Op, source: str, weight: WeightArray, bias: WeightArray, target: str, activation: str | None
    ) -> None:
        """Add a linear layer: (N, 1, 1, C), of the last operation (N, C)."""
        factor, shift = self.constant(f"{op.path}.weight", weight), self.constant(f"{op.path}.bias", bias)
        is_last = op.path in self._graph.outputs
        shape = (self._graph.batch, op.out_channels) if is_last else (self._graph.batch, 1, 1, op.out_channels)
        self.shaped_node(
            "FULLY_CONNECTED", [source, factor, shift], target, shape, "FullyConnected",
            version=1 if is_last else 5, keepNumDims=not is_last, fusedActivationFunction=FUSED[activation],
        )  # fmt: skip

    def _depthwise(
        self, op: Op, source: str, weight: WeightArray, bias: WeightArray, target: str, activation: str | None
    ) -> None:
        """Add a depthwise convolution, as a sum of small ones where it has many taps.

        ``weight``: (C, H, W).
        """
        padding = self._graph.spec.padding
        smaller = cropped(op, padding)  # a piece that meets no pixel would be 0, of which int8 has no range
        kept = slice(left_pad(op, padding) - left_pad(smaller, padding), None)
        op, weight = smaller, weight[:, kept, kept][:, : smaller.kernel, : smaller.kernel]
        before, _, after, _ = pads(op, padding)
        pieces = kernel_pieces(op.kernel, op.dilation, before, after)
        total = ""
        for index, (rows, columns) in enumerate(pieces):
            name = f"{op.path}.piece{index}" if len(pieces) > 1 else op.path
            part = weight[:, rows.indices][:, :, columns.indices]
            part[:, : rows.new], part[:, :, : columns.new] = 0, 0
            factor = self.constant(f"{name}.weight", part.transpose(1, 2, 0)[None])
            shift = self.constant(f"{name}.bias", np.zeros_like(bias) if index else bias)
            (top, bottom), (left, right) = (
                piece_pads(taps, op.kernel, op.dilation, before, after) for taps in (rows, columns)
            )
            window = Window(
                (rows.length, columns.length), (rows.step * op.dilation, columns.step * op.dilation), op.stride,
                [top, left, bottom, right], op.in_px, op.out_px,
            )  # fmt: skip
            is_last = index == len(pieces) - 1
            product = f"{name}.product" if total or not is_last else target
            fused = activation if is_last else None
            self.convolution(
                source, factor, shift, product, window, depthwise=True, activation=None if total else fused
            )
            if total:
                product = target if is_last else f"{name}.sum"
                self.binary("Add", total, f"{name}.product", product, fused)
            total = product

    def _attention(self, op: Op, first: str, second: str) -> None:
        """Add one of the two products of a multi-query attention.

        The channels of a query are those of its heads, one after the other, and all heads read the same key and value:
        with channels last, positions and heads together are the rows of one matrix per image.
        """
        batch, positions, per_head = self._graph.batch, op.out_px**2, op.in_channels // op.groups
        if op.activation:  # query and key to attention weights (N, positions x heads, key positions)
            keys = op.out_channels // op.groups
            query, key = f"{op.path}.query", f"{op.path}.key"
            self.reshape(first, query, (batch, positions * op.groups, per_head))
            # Scaling the keys takes less than scaling the queries or the products.
            scale = self.number(f"{op.path}.scale", per_head**-0.5)
            self.binary("Mul", second, scale, f"{key}.scaled")
            self.reshape(f"{key}.scaled", key, (batch, keys, per_head))
            self.product(query, key, f"{op.path}.linear", transposed=True)
            self.node("SOFTMAX", [f"{op.path}.linear"], op.path, "Softmax", beta=1.0)
        else:  # attention weights and value
            value, heads = f"{op.path}.value", f"{op.path}.heads"
            self.reshape(second, value, (batch, per_head, op.out_channels // op.groups))
            self.product(first, value, heads, transposed=False)
            self.reshape(heads, op.path, (batch, op.out_px, op.out_px, op.out_channels))
