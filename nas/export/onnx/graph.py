"""ONNX inference graph of a spec, batch norms folded; does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from nas.arch.ops.network import Op, network_ops
from nas.arch.spec import ArchSpec, Padding
from nas.core.errors import NasError
from nas.export.metadata import input_metadata
from nas.export.onnx.nodes import GraphBuilder

WeightArray = npt.NDArray[np.float32]

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
    """Write the float32 inference graph of ``spec``.

    It maps ``input`` (batch, in_channels, H, H), with H = ``resolution_px`` (None: the spec's) in px, to logits
    ``output`` (batch, classes). ``weights``: arrays by timm's state-dict names; batch norms are folded. None draws
    random weights from ``seed``, scaled so that activations neither vanish nor overflow (sufficient for latency
    measurements). Nodes are named by the paths of their ``Op``. ``provenance``: of the spec file; its class names and
    normalisation become metadata of the model, as JSON.

    Raises: NasError if a weight is missing or its shape differs from the spec's, or class names do not fit it.
    """
    px = resolution_px or spec.resolution_px
    metadata = input_metadata(spec, provenance)
    graph = _Graph(spec.padding, _Weights(weights, spec.norm.eps) if weights is not None else _Random(seed))
    for op in network_ops(spec, px):
        graph.add(op)
    model = helper.make_model(
        helper.make_graph(
            [*graph.nodes, helper.make_node("Identity", ["classifier"], [OUTPUT], OUTPUT)],
            spec.name,
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [batch, spec.in_channels, px, px])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [batch, spec.classes])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="nas",
    )
    helper.set_model_props(model, metadata)
    return model


class _Weights:
    """Weights of a state dict with batch norms folded into the preceding convolutions."""

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]], eps: float) -> None:
        self._arrays, self._eps = arrays, eps
        self._norm_offsets: dict[str, int] = {}  # channels of each norm consumed by earlier MixConv groups

    def folded(self, op: Op) -> tuple[WeightArray, WeightArray]:
        """Return folded weight and bias of ``op``, float32.

        Shapes: ``weight_shape(op)`` and (out_channels,).
        """
        weight = np.ones(op.out_channels) if op.kind == "norm" else self._get(f"{op.path}.weight", weight_shape(op))
        bias = self._get(f"{op.path}.bias", (op.out_channels,)) if op.bias else np.zeros(op.out_channels)
        if op.norm:
            start = self._norm_offsets.get(op.norm, 0)
            self._norm_offsets[op.norm] = stop = start + op.out_channels
            gamma, beta, mean, variance = (
                self._get(f"{op.norm}.{name}")[start:stop] for name in ("weight", "bias", "running_mean", "running_var")
            )
            scale = gamma / np.sqrt(variance + self._eps)
            weight, bias = _scaled(weight, scale), beta + (bias - mean) * scale
        if op.scale:
            gamma = self._get(f"{op.scale}.gamma", (op.out_channels,))
            weight, bias = _scaled(weight, gamma), bias * gamma
        return weight.astype(np.float32), bias.astype(np.float32)

    def _get(self, name: str, shape: tuple[int, ...] | None = None) -> npt.NDArray[np.float64]:
        if name not in self._arrays:
            raise NasError(f"weights: {name!r} is missing; pass the state dict of the spec's own network.")
        array = np.asarray(self._arrays[name], dtype=np.float64)
        if shape is not None and array.shape != shape:
            raise NasError(f"weights: {name!r} has shape {array.shape}, the spec needs {shape}.")
        return array


def _scaled(weight: npt.NDArray[Any], factors: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Multiply ``weight`` (C, ...) by ``factors`` (C,) per output channel."""
    return np.asarray(weight * factors.reshape(-1, *[1] * (weight.ndim - 1)))


class _Random:
    """Seeded random weights that preserve activation variance, and small biases.

    Weights follow He et al., arXiv:1502.01852.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def folded(self, op: Op) -> tuple[WeightArray, WeightArray]:
        """Draw weight and bias of ``op``, float32.

        Shapes: ``weight_shape(op)`` and (out_channels,).
        """
        shape = weight_shape(op)
        fan_in = int(np.prod(shape[1:]))
        # Uniform draws take a third of the time of normal ones, and a large network has millions of weights.
        bound = np.float32((6 / fan_in) ** 0.5)
        weight = (self._rng.random(shape, dtype=np.float32) * 2 - 1) * bound
        return weight, (self._rng.random(op.out_channels, dtype=np.float32) - np.float32(0.5)) * np.float32(0.1)


class _Graph(GraphBuilder):
    """ONNX graph under construction, extended op by op."""

    def __init__(self, padding: Padding, weights: _Weights | _Random) -> None:
        super().__init__()
        self._padding, self._weights = padding, weights

    def add(self, op: Op) -> None:
        """Append the nodes of ``op``; the last one has the output tensor ``op.path``."""
        inputs = [name or INPUT for name in op.inputs]
        raw = f"{op.path}.linear" if op.activation else op.path
        if op.kind in ("conv", "depthwise"):
            self.node("Conv", [*inputs, *self._parameters(op)], raw, **self._conv_attributes(op))
        elif op.kind == "linear":
            self.node("Flatten", inputs, f"{op.path}.flat", axis=1)
            self.node("Gemm", [f"{op.path}.flat", *self._parameters(op)], raw, transB=1)
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
        else:
            self.node({"pool": "GlobalAveragePool", "scale": "Mul", "add": "Add"}[op.kind], inputs, raw)
        if op.activation and op.kind != "matmul":
            self.activate(op.activation, raw, op.path)

    def _norm(self, op: Op, source: str) -> None:
        """Add a norm without a preceding convolution: a factor and a shift per channel."""
        factor, shift = (array.reshape(-1, 1, 1) for array in self._weights.folded(op))
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
        weight, bias = self._weights.folded(op)
        return [self.constant(f"{op.path}.weight", weight), self.constant(f"{op.path}.bias", bias)]

    def _conv_attributes(self, op: Op) -> dict[str, Any]:
        return {
            "kernel_shape": [op.kernel] * 2,
            "strides": [op.stride] * 2,
            "dilations": [op.dilation] * 2,
            "group": op.out_channels if op.kind == "depthwise" else op.groups,
            "pads": pads(op, self._padding),
        }


def weight_shape(op: Op) -> tuple[int, ...]:
    """Return the shape of a layer's weight.

    (out, in / groups, kernel, kernel) of a convolution, (out, in) of a linear layer, (out,) of a norm.
    """
    if op.kind == "norm":
        return (op.out_channels,)
    if op.kind == "linear":
        return (op.out_channels, op.in_channels)
    return (op.out_channels, 1 if op.kind == "depthwise" else op.in_channels // op.groups, op.kernel, op.kernel)


def pads(op: Op, padding: Padding) -> list[int]:
    """Return ONNX pads [top, left, bottom, right] in px.

    TensorFlow's ``same`` puts the odd px at the bottom right.
    """
    reach = op.dilation * (op.kernel - 1)
    if padding == "symmetric":
        return [reach // 2] * 4
    total = max(0, (op.out_px - 1) * op.stride + reach + 1 - op.in_px)
    return [total // 2] * 2 + [total - total // 2] * 2
