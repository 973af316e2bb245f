"""ONNX inference graph of a spec, batch norms folded; does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from nas.arch.ops.network import Op
from nas.arch.spec import ArchSpec
from nas.exporters.graph import InferenceGraph, inference_graph
from nas.exporters.onnx.nodes import GraphBuilder
from nas.exporters.rewriting.kernels import pads

INPUT: Final = "input"
OUTPUT: Final = "output"
# HardSwish needs opset 14; ONNX Runtime reads 17 since 1.12, and IR 8 is the version that belongs to it.
OPSET: Final = 17
IR_VERSION: Final = 8


def to_onnx(
    spec: ArchSpec,
    *,
    weights: Mapping[str, npt.NDArray[Any]] | None = None,
    batch: int = 1,
    seed: int = 0,
    resolution_px: int | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> onnx.ModelProto:
    """Write the float32 inference graph of ``spec``, see ``onnx_model``.

    The arguments are those of ``inference_graph``.

    Raises: NasError as ``inference_graph``.
    """
    return onnx_model(
        inference_graph(
            spec, weights=weights, batch=batch, seed=seed, resolution_px=resolution_px, provenance=provenance
        )
    )


def onnx_model(graph: InferenceGraph) -> onnx.ModelProto:
    """Write ``graph`` as an ONNX model.

    It maps ``input`` (batch, in_channels, H, H) to ``output``, both float32; several outputs are named by the paths of
    their ``Op``, as nodes are. Class names and normalisation are metadata of the model, as JSON.
    """
    builder = _Graph(graph)
    for op in graph.ops:
        builder.add(op)
    outputs = graph.outputs
    if len(outputs) == 1:
        builder.node("Identity", [*outputs], OUTPUT)
        outputs = (OUTPUT,)
    model = helper.make_model(
        helper.make_graph(
            builder.nodes,
            graph.spec.name,
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, graph.input_shape)],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, shape in zip(outputs, graph.output_shapes, strict=True)
            ],
            builder.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="nas",
    )
    helper.set_model_props(model, graph.metadata)
    return model


class _Graph(GraphBuilder):
    """ONNX graph under construction, extended op by op."""

    def __init__(self, graph: InferenceGraph) -> None:
        super().__init__()
        self._graph = graph
        self._flat: set[str] = set()  # tensors of shape (N, C)

    def add(self, op: Op) -> None:
        """Append the nodes of ``op``; the last one has the output tensor ``op.path``."""
        inputs = [name or INPUT for name in op.inputs]
        raw = f"{op.path}.linear" if op.activation else op.path
        if op.kind in ("conv", "depthwise"):
            self.node("Conv", [*inputs, *self._parameters(op)], raw, **self._conv_attributes(op))
        elif op.kind == "linear":
            if inputs[0] not in self._flat:
                self.node("Flatten", inputs, f"{op.path}.flat", axis=1)
                inputs = [f"{op.path}.flat"]
            self.node("Gemm", [*inputs, *self._parameters(op)], raw, transB=1)
            self._flat.add(op.path)
        elif op.kind == "split":
            sizes = self.constant(f"{op.path}.sizes", np.asarray(op.parts, dtype=np.int64))
            outputs = [f"{op.path}:{part}" for part in range(len(op.parts))]
            self.nodes.append(helper.make_node("Split", [*inputs, sizes], outputs, op.path, axis=1))
        elif op.kind == "concat":
            self.node("Concat", inputs, raw, axis=1)
        elif op.kind == "norm":
            self._norm(op, inputs[0])
        elif op.kind == "matmul":
            self._matmul(op, *inputs)
        elif op.kind == "resize":
            self.resize(inputs[0], raw, [self._graph.batch, op.out_channels, op.out_px, op.out_px])
        elif op.kind == "scale":
            gate = inputs[1]
            if gate in self._flat:
                self.reshape(gate, f"{op.path}.gate", [0, op.out_channels, 1, 1])
                gate = f"{op.path}.gate"
            self.node("Mul", [inputs[0], gate], raw)
        else:
            self.node({"pool": "GlobalAveragePool", "add": "Add"}[op.kind], inputs, raw)
        if op.activation and op.kind != "matmul":
            self.activate(op.activation, raw, op.path)

    def _norm(self, op: Op, source: str) -> None:
        """Add a norm without a preceding convolution: a factor and a shift per channel."""
        factor, shift = (array.reshape(-1, 1, 1) for array in self._graph.parameters(op))
        self.node("Mul", [source, self.constant(f"{op.path}.factor", factor)], f"{op.path}.scaled")
        self.node("Add", [f"{op.path}.scaled", self.constant(f"{op.path}.shift", shift)], op.path)

    def _matmul(self, op: Op, first: str, second: str) -> None:
        """Add one of the two products of an attention.

        Its logits and weights have the shape (batch, heads, positions, key positions).
        """
        positions, per_head = op.out_px**2, op.in_channels // op.groups
        if op.activation:  # query and key to attention weights
            query, key = f"{op.path}.query", f"{op.path}.key"
            self.reshape(first, query, [0, op.groups, per_head, positions])
            self.node("Transpose", [query], f"{query}.t", perm=[0, 1, 3, 2])
            self.reshape(second, key, [0, 1, per_head, op.out_channels // op.groups])
            scale = self.constant(f"{op.path}.scale", np.float32(per_head**-0.5))
            self.node("Mul", [f"{query}.t", scale], f"{query}.scaled")
            self.node("MatMul", [f"{query}.scaled", key], f"{op.path}.linear")
            self.node("Softmax", [f"{op.path}.linear"], op.path, axis=-1)
        else:  # attention weights and value
            value, heads = f"{op.path}.value", f"{op.path}.heads"
            self.reshape(second, value, [0, 1, op.out_channels // op.groups, per_head])
            self.node("Transpose", [value], f"{value}.t", perm=[0, 1, 3, 2])
            self.node("MatMul", [first, f"{value}.t"], heads)
            self.node("Transpose", [heads], f"{heads}.t", perm=[0, 1, 3, 2])
            self.reshape(f"{heads}.t", op.path, [0, op.out_channels, op.out_px, op.out_px])

    def _parameters(self, op: Op) -> list[str]:
        weight, bias = self._graph.parameters(op)
        return [self.constant(f"{op.path}.weight", weight), self.constant(f"{op.path}.bias", bias)]

    def _conv_attributes(self, op: Op) -> dict[str, Any]:
        return {
            "kernel_shape": [op.kernel] * 2,
            "strides": [op.stride] * 2,
            "dilations": [op.dilation] * 2,
            "group": op.out_channels if op.kind == "depthwise" else op.groups,
            "pads": pads(op, self._graph.spec.padding),
        }
