"""Builder of ONNX nodes and initializers, including activation functions."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper, numpy_helper


class GraphBuilder:
    """Nodes and initializers of an ONNX graph under construction.

    Every node is named after its output tensor.
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: Any) -> str:
        """Add the array ``value`` as an initializer, dtype unchanged; returns ``name``."""
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        """Add a node of operator ``kind`` with the output tensor ``output``."""
        self.nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))

    def reshape(self, source: str, target: str, shape: list[int]) -> None:
        """Add a reshape of ``source`` to ``shape``, where 0 copies the input's dimension."""
        self.node("Reshape", [source, self.constant(f"{target}.shape", np.asarray(shape, dtype=np.int64))], target)

    def resize(self, source: str, target: str, shape: list[int]) -> None:
        """Add a bilinear resize to ``shape`` (N, C, H, W), pixel centres at halves."""
        sizes = self.constant(f"{target}.sizes", np.asarray(shape, dtype=np.int64))
        self.node("Resize", [source, "", "", sizes], target, mode="linear", coordinate_transformation_mode="half_pixel")

    def activate(self, function: str, source: str, target: str) -> None:
        """Add an elementwise activation of ``source``.

        ``function`` is a value of ``Op.activation``.
        """
        if function == "relu":
            self.node("Relu", [source], target)
        elif function == "relu6":
            limits = [self.constant(f"{target}.{name}", np.float32(limit)) for name, limit in (("min", 0), ("max", 6))]
            self.node("Clip", [source, *limits], target)
        elif function == "sigmoid":
            self.node("Sigmoid", [source], target)
        elif function == "hard_sigmoid":
            self.node("HardSigmoid", [source], target, alpha=1 / 6, beta=0.5)
        elif function == "hard_swish":
            self.node("HardSwish", [source], target)
        elif function == "swish":  # ONNX Runtime fuses Sigmoid and Mul
            self.node("Sigmoid", [source], f"{target}.gate")
            self.node("Mul", [source, f"{target}.gate"], target)
        elif function == "gelu":
            self._gelu(source, target)
        else:
            self._mish(source, target)

    def _gelu(self, source: str, target: str) -> None:
        """Add GELU, x (1 + erf(x / sqrt 2)) / 2, in the pattern that ONNX Runtime fuses."""
        numbers = (("root", 2**0.5), ("one", 1), ("half", 0.5))
        root, one, half = (self.constant(f"{target}.{name}", np.float32(x)) for name, x in numbers)
        self.node("Div", [source, root], f"{target}.div")
        self.node("Erf", [f"{target}.div"], f"{target}.erf")
        self.node("Add", [f"{target}.erf", one], f"{target}.add")
        self.node("Mul", [source, f"{target}.add"], f"{target}.mul")
        self.node("Mul", [f"{target}.mul", half], target)

    def _mish(self, source: str, target: str) -> None:
        """Add Mish, x tanh(log(1 + e^x)) = x n / (n + 2) with n = e^x (e^x + 2).

        This form avoids ONNX Runtime's Softplus, which takes ten times as long. Above x = 20 the quotient is 1 in
        float32, so the exponent is clipped there before it overflows.
        """
        two, limit = (self.constant(f"{target}.{name}", np.float32(x)) for name, x in (("two", 2), ("limit", 20)))
        step = {name: f"{target}.{name}" for name in ("cut", "exp", "exp2", "n", "n2", "gate")}
        self.node("Min", [source, limit], step["cut"])
        self.node("Exp", [step["cut"]], step["exp"])
        self.node("Add", [step["exp"], two], step["exp2"])
        self.node("Mul", [step["exp"], step["exp2"]], step["n"])
        self.node("Add", [step["n"], two], step["n2"])
        self.node("Div", [step["n"], step["n2"]], step["gate"])
        self.node("Mul", [source, step["gate"]], target)
