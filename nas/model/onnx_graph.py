"""An ONNX graph written straight from a spec, norms folded into convolutions: no module is built, no torch loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from nas.arch.errors import NasError
from nas.arch.ops import Op, network_ops
from nas.arch.spec import ArchSpec, Padding

Array = npt.NDArray[np.float32]

INPUT: Final = "input"
OUTPUT: Final = "output"
# HardSwish came with opset 14; 17 is read by every ONNX Runtime since 1.12, and IR 8 is the version that goes with it.
OPSET: Final = 17
IR_VERSION: Final = 8


def to_onnx(
    spec: ArchSpec,
    *,
    weights: Mapping[str, npt.NDArray[Any]] | None = None,
    batch: int = 1,
    seed: int = 0,
    resolution_px: int | None = None,
) -> onnx.ModelProto:
    """The inference graph of ``spec``: float32, ``input`` [batch, in_channels, px, px] to ``output`` [batch, classes].

    ``weights``: arrays by timm's state-dict names; batch norms are folded. None draws weights from ``seed``, scaled
    so that activations neither die nor overflow (enough to measure with). Nodes bear the paths of their ``Op``.

    Raises: NasError if a weight is missing or has another shape than the spec asks for.
    """
    px = resolution_px or spec.resolution_px
    graph = _Graph(spec.padding, _Weights(weights, spec.norm.eps) if weights is not None else _Random(seed))
    for op in network_ops(spec, px):
        graph.add(op)
    return helper.make_model(
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


class _Weights:
    """Weights of a state dict, with the batch norm behind a convolution folded into it."""

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]], eps: float) -> None:
        self._arrays, self._eps = arrays, eps
        self._taken: dict[str, int] = {}  # channels of each norm that earlier MixConv groups have taken

    def folded(self, op: Op) -> tuple[Array, Array]:
        """Weight and bias of ``op`` as the graph needs them."""
        weight = self._get(f"{op.path}.weight", weight_shape(op))
        bias = self._get(f"{op.path}.bias", (op.out_channels,)) if op.bias else np.zeros(op.out_channels)
        if op.norm:
            start = self._taken.get(op.norm, 0)
            self._taken[op.norm] = stop = start + op.out_channels
            gamma, beta, mean, variance = (
                self._get(f"{op.norm}.{name}")[start:stop] for name in ("weight", "bias", "running_mean", "running_var")
            )
            scale = gamma / np.sqrt(variance + self._eps)
            weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
            bias = beta + (bias - mean) * scale
        return weight.astype(np.float32), bias.astype(np.float32)

    def _get(self, name: str, shape: tuple[int, ...] | None = None) -> npt.NDArray[np.float64]:
        if name not in self._arrays:
            raise NasError(f"weights: {name!r} is missing; give the state dict of this very network.")
        array = np.asarray(self._arrays[name], dtype=np.float64)
        if shape is not None and array.shape != shape:
            raise NasError(f"weights: {name!r} has shape {array.shape}, the spec asks for {shape}.")
        return array


class _Random:
    """Seeded weights that keep the variance of activations (He et al., arXiv:1502.01852), and small biases."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def folded(self, op: Op) -> tuple[Array, Array]:
        """Weight and bias of ``op``."""
        shape = weight_shape(op)
        fan_in = int(np.prod(shape[1:]))
        # Uniform rather than normal: a third of the time, and a large network has millions of weights.
        bound = np.float32((6 / fan_in) ** 0.5)
        weight = (self._rng.random(shape, dtype=np.float32) * 2 - 1) * bound
        return weight, (self._rng.random(op.out_channels, dtype=np.float32) - np.float32(0.5)) * np.float32(0.1)


class _Graph:
    """Nodes and constants of a graph that grows op by op."""

    def __init__(self, padding: Padding, weights: _Weights | _Random) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._padding, self._weights = padding, weights

    def add(self, op: Op) -> None:
        """Append the nodes of ``op``; its last node writes the tensor ``op.path``."""
        inputs = [name or INPUT for name in op.inputs]
        raw = f"{op.path}.linear" if op.activation else op.path
        if op.kind in ("conv", "depthwise"):
            self._node("Conv", [*inputs, *self._parameters(op)], raw, **self._conv_attributes(op))
        elif op.kind == "linear":
            self._node("Flatten", inputs, f"{op.path}.flat", axis=1)
            self._node("Gemm", [f"{op.path}.flat", *self._parameters(op)], raw, transB=1)
        elif op.kind == "split":
            sizes = self._constant(f"{op.path}.sizes", np.asarray(op.parts, dtype=np.int64))
            outputs = [f"{op.path}:{part}" for part in range(len(op.parts))]
            self.nodes.append(helper.make_node("Split", [*inputs, sizes], outputs, op.path, axis=1))
        elif op.kind == "concat":
            self._node("Concat", inputs, raw, axis=1)
        else:
            self._node({"pool": "GlobalAveragePool", "scale": "Mul", "add": "Add"}[op.kind], inputs, raw)
        if op.activation:
            self._activate(op.activation, raw, op.path)

    def _activate(self, function: str, source: str, target: str) -> None:
        if function == "relu":
            self._node("Relu", [source], target)
        elif function == "relu6":
            limits = [self._constant(f"{target}.{name}", np.float32(limit)) for name, limit in (("min", 0), ("max", 6))]
            self._node("Clip", [source, *limits], target)
        elif function == "sigmoid":
            self._node("Sigmoid", [source], target)
        elif function == "hard_sigmoid":
            self._node("HardSigmoid", [source], target, alpha=1 / 6, beta=0.5)
        elif function == "hard_swish":
            self._node("HardSwish", [source], target)
        elif function == "swish":  # Sigmoid and Mul: ONNX Runtime fuses the pair
            self._node("Sigmoid", [source], f"{target}.gate")
            self._node("Mul", [source, f"{target}.gate"], target)
        else:
            self._mish(source, target)

    def _mish(self, source: str, target: str) -> None:
        """x tanh(log(1 + e^x)) = x n / (n + 2) with n = e^x (e^x + 2): ONNX Runtime's Softplus takes ten times as long.

        Above 20 the quotient is 1 in float32, so the exponent is cut off there before it overflows.
        """
        two, limit = (self._constant(f"{target}.{name}", np.float32(x)) for name, x in (("two", 2), ("limit", 20)))
        step = {name: f"{target}.{name}" for name in ("cut", "exp", "exp2", "n", "n2", "gate")}
        self._node("Min", [source, limit], step["cut"])
        self._node("Exp", [step["cut"]], step["exp"])
        self._node("Add", [step["exp"], two], step["exp2"])
        self._node("Mul", [step["exp"], step["exp2"]], step["n"])
        self._node("Add", [step["n"], two], step["n2"])
        self._node("Div", [step["n"], step["n2"]], step["gate"])
        self._node("Mul", [source, step["gate"]], target)

    def _parameters(self, op: Op) -> list[str]:
        weight, bias = self._weights.folded(op)
        return [self._constant(f"{op.path}.weight", weight), self._constant(f"{op.path}.bias", bias)]

    def _conv_attributes(self, op: Op) -> dict[str, Any]:
        return {
            "kernel_shape": [op.kernel] * 2,
            "strides": [op.stride] * 2,
            "dilations": [op.dilation] * 2,
            "group": op.out_channels if op.kind == "depthwise" else 1,
            "pads": pads(op, self._padding),
        }

    def _constant(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))


def weight_shape(op: Op) -> tuple[int, ...]:
    """Shape of a layer's weight: [out, in / groups, kernel, kernel], [out, in] of a linear layer."""
    if op.kind == "linear":
        return (op.out_channels, op.in_channels)
    return (op.out_channels, 1 if op.kind == "depthwise" else op.in_channels, op.kernel, op.kernel)


def pads(op: Op, padding: Padding) -> list[int]:
    """ONNX pads [top, left, bottom, right] in px; TensorFlow's ``same`` puts the odd px at the bottom right."""
    reach = op.dilation * (op.kernel - 1)
    if padding == "symmetric":
        return [reach // 2] * 4
    total = max(0, (op.out_px - 1) * op.stride + reach + 1 - op.in_px)
    return [total // 2] * 2 + [total - total // 2] * 2
