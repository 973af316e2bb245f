"""Activations, paddings, splits and products as operators of LiteRT."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any, Final, NamedTuple

import numpy as np
from ai_edge_litert.schema_py_generated import ActivationFunctionType, Padding

from nas.exporters.litert.model_builder import ModelBuilder

# Activations that a convolution, a product or a sum applies to its output.
FUSED: Final = {
    None: ActivationFunctionType.NONE,
    "relu": ActivationFunctionType.RELU,
    "relu6": ActivationFunctionType.RELU6,
}
_OPERATORS: Final = {"relu": "RELU", "relu6": "RELU6", "sigmoid": "LOGISTIC"}
_MOST_JOINED: Final = 5  # tensors of one concatenation that XNNPACK takes


class Window(NamedTuple):
    """Window of a convolution on a square map of side ``in_px``.

    ``sides``: its height and width in taps, ``dilations`` px apart. ``pads``: [top, left, bottom, right] in px.
    """

    sides: tuple[int, int]
    dilations: tuple[int, int]
    stride: int
    pads: list[int]
    in_px: int
    out_px: int

    @property
    def same_pads(self) -> list[int]:
        """What TensorFlow's SAME padding means for it: the odd px is at the bottom right."""
        reaches = [dilation * (side - 1) for side, dilation in zip(self.sides, self.dilations, strict=True)]
        totals = [max(0, (self.out_px - 1) * self.stride + reach + 1 - self.in_px) for reach in reaches]
        return [total // 2 for total in totals] + [total - total // 2 for total in totals]


class NodeBuilder(ModelBuilder):
    """Model under construction whose operators are named after their output tensors."""

    def node(self, kind: str, inputs: Sequence[str], output: str, options: str = "", **fields: Any) -> None:
        """Add an operator whose output has the shape of its first input."""
        self.shaped_node(kind, inputs, output, self.shape(inputs[0]), options, **fields)

    def shaped_node(
        self, kind: str, inputs: Sequence[str], output: str, shape: Sequence[int], options: str = "", **fields: Any
    ) -> None:
        """Add an operator with the output tensor ``output`` of ``shape``."""
        self.operator(kind, inputs, [self.tensor(output, shape)], options, **fields)

    def binary(self, kind: str, first: str, second: str, output: str, activation: str | None = None) -> None:
        """Add an element-wise operator on two tensors, with a fused ``activation``.

        ``kind``: ``Add``, ``Mul`` or ``Div``. The second tensor is broadcast to the first.
        """
        self.node(kind.upper(), [first, second], output, kind, fusedActivationFunction=FUSED[activation])

    def number(self, name: str, value: float) -> str:
        """Add a constant of shape (1,)."""
        return self.constant(name, np.array([value], dtype=np.float32))

    def integers(self, name: str, values: Any) -> str:
        """Add an int32 constant."""
        return self.constant(name, np.asarray(values, dtype=np.int32))

    def activate(self, function: str, source: str, target: str) -> None:
        """Add an element-wise activation of ``source``.

        ``function`` is a value of ``Op.activation``.
        """
        if function in _OPERATORS:
            self.node(_OPERATORS[function], [source], target)
        elif function == "hard_sigmoid":
            three = self.number(f"{target}.three", 3)
            self.binary("Add", source, three, f"{target}.relu6", "relu6")
            self.sixth(f"{target}.relu6", target)
        elif function == "hard_swish":
            self.node("HARD_SWISH", [source], target, "HardSwish")
        elif function == "swish":
            self.node("LOGISTIC", [source], f"{target}.gate")
            self.binary("Mul", source, f"{target}.gate", target)
        elif function == "gelu":
            self.node("GELU", [source], target, "Gelu")
        else:
            self._mish(source, target)

    def sixth(self, source: str, target: str) -> None:
        """Add a sixth of ``source``: what makes a ReLU6 of x + 3 the hard sigmoid of x."""
        self.binary("Mul", source, self.number(f"{target}.sixth", 1 / 6), target)

    def _mish(self, source: str, target: str) -> None:
        """Add Mish, x tanh(log(1 + e^x)) = x n / (n + 2) with n = e^x (e^x + 2).

        Above x = 20 the quotient is 1 in float32, so the exponent is clipped there before it overflows.
        """
        two, limit = self.number(f"{target}.two", 2), self.number(f"{target}.limit", 20)
        step = {name: f"{target}.{name}" for name in ("cut", "exp", "exp2", "n", "n2", "gate")}
        self.node("MINIMUM", [source, limit], step["cut"], "MaximumMinimum")
        self.node("EXP", [step["cut"]], step["exp"], "Exp")
        self.binary("Add", step["exp"], two, step["exp2"])
        self.binary("Mul", step["exp"], step["exp2"], step["n"])
        self.binary("Add", step["n"], two, step["n2"])
        self.binary("Div", step["n"], step["n2"], step["gate"])
        self.binary("Mul", source, step["gate"], target)

    def convolution(
        self,
        source: str,
        factor: str,
        shift: str,
        target: str,
        window: Window,
        *,
        depthwise: bool = False,
        groups: int = 1,
        activation: str | None = None,
    ) -> None:
        """Add a convolution of ``source``, with a fused ``activation``.

        ``factor``, ``shift``: its weights and biases.
        """
        source, padding = self._padded(source, target, window)
        options = {
            "padding": padding, "strideW": window.stride, "strideH": window.stride,
            "dilationHFactor": window.dilations[0], "dilationWFactor": window.dilations[1],
            "fusedActivationFunction": FUSED[activation],
        }  # fmt: skip
        shape = (self.shape(source)[0], window.out_px, window.out_px, *self.shape(shift))
        if depthwise:
            version = 2 if max(window.dilations) > 1 else 1
            self.shaped_node(
                "DEPTHWISE_CONV_2D", [source, factor, shift], target, shape, "DepthwiseConv2D",
                version=version, depthMultiplier=1, **options,
            )  # fmt: skip
        else:
            version = 6 if groups > 1 else 1
            self.shaped_node("CONV_2D", [source, factor, shift], target, shape, "Conv2D", version=version, **options)

    def _padded(self, source: str, target: str, window: Window) -> tuple[str, int]:
        """Pad the input of a convolution: the tensor that it reads, and its ``Padding``.

        Only paddings that are neither SAME nor none are an operator, PAD, which XNNPACK merges with the convolution
        again.
        """
        if window.pads == window.same_pads:
            return source, Padding.SAME
        if not any(window.pads):
            return source, Padding.VALID
        top, left, bottom, right = window.pads
        batch, height, width, channels = self.shape(source)
        amounts = self.integers(f"{target}.pads", [[0, 0], [top, bottom], [left, right], [0, 0]])
        shape = (batch, height + top + bottom, width + left + right, channels)
        self.shaped_node("PAD", [source, amounts], f"{target}.padded", shape, "Pad")
        return f"{target}.padded", Padding.VALID

    def split(self, source: str, targets: Sequence[str], parts: Sequence[int], *, read: Set[str]) -> None:
        """Split ``source`` into parts of so many channels, by slices of what is ``read``.

        XNNPACK does not take SPLIT_V, and SPLIT only for even parts, which take as long as slices.
        """
        *outer, _ = self.shape(source)
        start = 0
        for target, width in zip(targets, parts, strict=True):
            if target in read:
                begin = self.integers(f"{target}.begin", [0, 0, 0, start])
                size = self.integers(f"{target}.size", [*outer, width])
                self.shaped_node("SLICE", [source, begin, size], target, (*outer, width), "Slice")
            start += width

    def concatenate(self, sources: Sequence[str], target: str) -> None:
        """Concatenate the channels of ``sources``."""
        parts = list(sources)
        while len(parts) > _MOST_JOINED:
            inner = f"{target}.joined{len(parts)}"
            self._join(parts[:_MOST_JOINED], inner)
            parts[:_MOST_JOINED] = [inner]
        self._join(parts, target)

    def _join(self, sources: Sequence[str], target: str) -> None:
        *outer, _ = self.shape(sources[0])
        width = sum(self.shape(source)[3] for source in sources)
        self.shaped_node("CONCATENATION", sources, target, (*outer, width), "Concatenation", axis=3)

    def resize(self, source: str, target: str, side: int) -> None:
        """Resize maps to ``side`` px by bilinear interpolation, pixel centres at halves."""
        batch, _, _, channels = self.shape(source)
        sides = self.integers(f"{target}.sides", [side, side])
        self.shaped_node(
            "RESIZE_BILINEAR", [source, sides], target, (batch, side, side, channels), "ResizeBilinear",
            version=3, halfPixelCenters=True, alignCorners=False,
        )  # fmt: skip

    def reshape(self, source: str, target: str, shape: Sequence[int]) -> None:
        """Add a reshape of ``source`` to ``shape``."""
        wanted = self.integers(f"{target}.shape", shape)
        self.shaped_node(
            "RESHAPE", [source, wanted], target, shape, "Reshape", newShape=np.asarray(shape, dtype=np.int32)
        )

    def product(self, first: str, second: str, target: str, *, transposed: bool) -> None:
        """Add the matrix product of two tensors of shapes (N, M, K) and (N, K, P).

        ``transposed``: the second has the shape (N, P, K).
        """
        batch, rows, _ = self.shape(first)
        columns = self.shape(second)[1 if transposed else 2]
        self.shaped_node(
            "BATCH_MATMUL", [first, second], target, (batch, rows, columns), "BatchMatMul", adjY=transposed
        )
