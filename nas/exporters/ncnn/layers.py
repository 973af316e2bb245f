"""Layers and weights of an ncnn network under construction, and its text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from nas.exporters.rewriting.weights import WeightArray

Parameter = int | float | Sequence[int] | Sequence[float]

MAGIC: Final = 7767517  # first line of a text in ncnn's current format
_ARRAY: Final = -23300  # arrays have this number minus their parameter's
_FLOAT32: Final = bytes(4)  # before weights that may be stored in several types
_SIXTH, _HALF = 1 / 6, 0.5  # slope and offset of hard sigmoid and hard swish

# ncnn's number and parameters of the activations that convolutions and linear layers compute themselves.
_FUSED: Final[dict[str, tuple[int, tuple[float, ...]]]] = {
    "relu": (1, ()), "relu6": (3, (0.0, 6.0)), "sigmoid": (4, ()), "mish": (5, ()), "hard_swish": (6, (_SIXTH, _HALF)),
}  # fmt: skip
# Layer types of activations, and their parameters.
_LAYERS: Final[dict[str, tuple[str, dict[int, Parameter]]]] = {
    "relu": ("ReLU", {}),
    "relu6": ("Clip", {0: 0.0, 1: 6.0}),
    "sigmoid": ("Sigmoid", {}),
    "hard_sigmoid": ("HardSigmoid", {0: _SIXTH, 1: _HALF}),
    "hard_swish": ("HardSwish", {0: _SIXTH, 1: _HALF}),
    "swish": ("Swish", {}),
    "gelu": ("GELU", {0: 0}),  # 0: the exact one
    "mish": ("Mish", {}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: dict[int, Parameter]


class LayerBuilder:
    """Layers of an ncnn network under construction, in execution order.

    Layers are named after their first output.
    """

    def __init__(self) -> None:
        self._layers: list[_Layer] = []
        self._weights: list[bytes] = []

    def layer(
        self,
        kind: str,
        inputs: Sequence[str],
        outputs: str | Sequence[str],
        parameters: dict[int, Parameter] | None = None,
        *,
        weight: WeightArray | None = None,
        vectors: Sequence[WeightArray] = (),
    ) -> None:
        """Add a layer of the type ``kind``.

        ``parameters``: by ncnn's numbers. ``weight``: with the type of its storage, ``vectors`` (biases, factors)
        without, in the order of the layer type.
        """
        names = (outputs,) if isinstance(outputs, str) else tuple(outputs)
        self._layers.append(
            _Layer(kind=kind, name=names[0], inputs=tuple(inputs), outputs=names, parameters=parameters or {})
        )
        if weight is not None:
            self._weights += [_FLOAT32, _bytes(weight)]
        self._weights += [_bytes(vector) for vector in vectors]

    def activate(self, function: str, source: str, target: str) -> None:
        """Add an elementwise activation of ``source``.

        ``function`` is a value of ``Op.activation``.
        """
        kind, parameters = _LAYERS[function]
        self.layer(kind, [source], target, parameters)

    @property
    def weights(self) -> bytes:
        """Content of the file of weights."""
        return b"".join(self._weights)

    def text(self) -> str:
        """Content of the file of layers.

        In ncnn a tensor has one reader: one with several passes through a ``Split``, which copies nothing.
        """
        readers: dict[str, int] = {}
        for layer in self._layers:
            for name in layer.inputs:
                readers[name] = readers.get(name, 0) + 1
        read: dict[str, int] = {}
        lines, blobs = [], 0
        for layer in self._layers:
            inputs = []
            for name in layer.inputs:
                inputs.append(_copy(name, read.get(name, 0)) if readers[name] > 1 else name)
                read[name] = read.get(name, 0) + 1
            lines.append(_line(layer.kind, layer.name, inputs, layer.outputs, layer.parameters))
            blobs += len(layer.outputs)
            for name in layer.outputs:
                if (count := readers.get(name, 0)) > 1:
                    copies = [_copy(name, index) for index in range(count)]
                    lines.append(_line("Split", f"{name}.split", [name], copies, {}))
                    blobs += count
        return "\n".join([str(MAGIC), f"{len(lines)} {blobs}", *lines, ""])


def fused_activation(function: str | None) -> dict[int, Parameter] | None:
    """Parameters of a convolution or linear layer that computes ``function`` itself.

    None where it cannot. ``function`` is a value of ``Op.activation``.
    """
    if function is None:
        return {}
    if function not in _FUSED:
        return None
    number, values = _FUSED[function]
    return {9: number, 10: values} if values else {9: number}


def _copy(name: str, index: int) -> str:
    return f"{name}.copy{index}"


def _bytes(array: WeightArray) -> bytes:
    return np.ascontiguousarray(array, dtype="<f4").tobytes()


def _line(kind: str, name: str, inputs: Sequence[str], outputs: Sequence[str], parameters: dict[int, Parameter]) -> str:
    values = [
        f"{_ARRAY - number}={len(value)},{','.join(map(_number, value))}"
        if isinstance(value, Sequence)
        else f"{number}={_number(value)}"
        for number, value in parameters.items()
    ]
    return " ".join([f"{kind:<24} {name:<24}", str(len(inputs)), str(len(outputs)), *inputs, *outputs, *values])


def _number(value: int | float) -> str:
    # ncnn takes a number without a point and an exponent for an integer.
    return str(value) if isinstance(value, int) else f"{value:.8e}"
