"""Reference logits that exported files are compared with: NumPy's, and torch's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from nas.arch.ops.network import Op
from nas.arch.spec import ArchSpec
from nas.exporters.formats import ImageBatch, Outputs, Run, as_outputs
from nas.exporters.graph import InferenceGraph
from nas.exporters.rewriting.kernels import pads

if TYPE_CHECKING:
    from torch import Tensor

Tensor64 = npt.NDArray[np.float64]


def numpy_run(graph: InferenceGraph) -> Callable[[npt.NDArray[Any]], Tensor64 | tuple[Tensor64, ...]]:
    """Function that computes ``graph`` in float64, operation by operation.

    It maps images (N, C, H, W), of any N, to the outputs as a ``Run`` does, and loads NumPy alone. It is for checks: it
    takes several times as long as a runtime.
    """
    shapes = graph.output_shapes
    parameters = {
        op.path: tuple(array.astype(np.float64) for array in graph.parameters(op))
        for op in graph.ops
        if op.kind in ("conv", "depthwise", "linear", "norm")
    }

    def run(images: npt.NDArray[Any]) -> Tensor64 | tuple[Tensor64, ...]:
        tensors = {"": images.astype(np.float64)}
        for op in graph.ops:
            inputs = [tensors[name] for name in op.inputs]
            if op.kind == "split":
                parts = np.split(inputs[0], np.cumsum(op.parts)[:-1], axis=1)
                tensors.update({f"{op.path}:{part}": values for part, values in enumerate(parts)})
                continue
            result = _computed(op, inputs, parameters.get(op.path, ()), graph)
            is_activated = op.activation is not None and op.kind != "matmul"
            tensors[op.path] = ACTIVATIONS_64[op.activation](result) if is_activated and op.activation else result
        found = [
            tensors[path].reshape(len(images), *shape[1:]) for path, shape in zip(graph.outputs, shapes, strict=True)
        ]
        return found[0] if len(found) == 1 else tuple(found)

    return run


def torch_run(spec: ArchSpec, weights: Mapping[str, npt.NDArray[Any]], threads: int = 1) -> Run:
    """Function that runs the timm module of ``spec`` in torch, on the CPU, float32.

    ``weights``: arrays by state-dict names. It maps images (N, C, H, W), of any N, to the module's outputs.
    """
    import torch

    from nas.model.build import build

    model = build(spec)
    model.load_state_dict({name: torch.as_tensor(array) for name, array in weights.items()})
    return torch_runner(model.eval(), threads)


def torch_runner(module: Callable[[Tensor], Tensor | Sequence[Tensor]], threads: int) -> Run:
    """Function that runs a torch module in inference mode, on ``threads`` threads.

    The caller's number of threads is restored after each run.
    """
    import torch

    def run(images: ImageBatch) -> Outputs:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                found = module(torch.from_numpy(images))
                return as_outputs(tensor.numpy() for tensor in ([found] if isinstance(found, torch.Tensor) else found))
        finally:
            torch.set_num_threads(before)

    return run


def _computed(op: Op, inputs: list[Tensor64], parameters: tuple[Tensor64, ...], graph: InferenceGraph) -> Tensor64:
    """Output of ``op`` before its activation; of a matmul with it."""
    first = inputs[0]
    if op.kind in ("conv", "depthwise"):
        return _convolution(op, first, parameters, pads(op, graph.spec.padding))
    if op.kind == "linear":
        return first.reshape(len(first), -1) @ parameters[0].T + parameters[1]
    if op.kind == "norm":
        factor, shift = (array.reshape(-1, 1, 1) for array in parameters)
        return first * factor + shift
    if op.kind == "matmul":
        return _attention(op, *inputs)
    if op.kind == "concat":
        return np.concatenate(inputs, axis=1)
    if op.kind == "pool":
        return np.asarray(first.mean(axis=(2, 3), keepdims=True))
    if op.kind == "resize":
        return _resized(first, op.out_px)
    if op.kind == "scale":
        return first * inputs[1].reshape(*first.shape[:2], 1, 1)
    return first + inputs[1].reshape(first.shape)


def _convolution(op: Op, source: Tensor64, parameters: tuple[Tensor64, ...], padding: list[int]) -> Tensor64:
    """Convolution as a sum over the positions of its kernel."""
    weight, bias = parameters
    source = source.reshape(len(source), op.in_channels, op.in_px, op.in_px)
    top, left, bottom, right = padding
    padded = np.pad(source, ((0, 0), (0, 0), (top, bottom), (left, right)))
    groups = op.out_channels if op.kind == "depthwise" else op.groups
    grouped = padded.reshape(len(source), groups, op.in_channels // groups, *padded.shape[2:])
    kernels = weight.reshape(groups, op.out_channels // groups, op.in_channels // groups, op.kernel, op.kernel)
    total = np.zeros((len(source), groups, op.out_channels // groups, op.out_px**2))
    span = (op.out_px - 1) * op.stride + 1
    for row, column in np.ndindex(op.kernel, op.kernel):
        rows, columns = (slice(at * op.dilation, at * op.dilation + span, op.stride) for at in (row, column))
        pixels = grouped[..., rows, columns].reshape(len(source), groups, op.in_channels // groups, -1)
        factors = kernels[..., row, column]
        total += factors * pixels if factors.shape[-1] == 1 else factors @ pixels
    return total.reshape(len(source), op.out_channels, op.out_px, op.out_px) + bias.reshape(-1, 1, 1)


def _resized(source: Tensor64, side: int) -> Tensor64:
    """Maps (N, C, H, W) resized to ``side`` px by bilinear interpolation.

    Pixel centres are at halves, and the border pixels continue outwards (torch's ``align_corners=False``).
    """
    for axis in (2, 3):
        length = source.shape[axis]
        at = np.clip((np.arange(side) + 0.5) * length / side - 0.5, 0, length - 1)
        low = np.floor(at).astype(int)
        share = (at - low).reshape((-1, 1) if axis == 2 else (-1,))
        before, after = (source.take(rows, axis=axis) for rows in (low, np.minimum(low + 1, length - 1)))
        source = before * (1 - share) + after * share
    return source


def _attention(op: Op, first: Tensor64, second: Tensor64) -> Tensor64:
    """One of the two products of an attention; weights (N, heads, positions, keys)."""
    count, per_head = len(first), op.in_channels // op.groups
    if op.activation:
        query = first.reshape(count, op.groups, per_head, -1).swapaxes(2, 3)
        logits = query @ second.reshape(count, 1, per_head, -1) * per_head**-0.5
        exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(exponents / exponents.sum(axis=-1, keepdims=True))
    value = second.reshape(count, 1, op.out_channels // op.groups, -1).swapaxes(2, 3)
    return (first @ value).swapaxes(2, 3).reshape(count, op.out_channels, op.out_px, op.out_px)


def _sigmoid(x: Tensor64) -> Tensor64:
    return 1 / (1 + np.exp(-x))


def _hard_sigmoid(x: Tensor64) -> Tensor64:
    return np.clip(x / 6 + 0.5, 0, 1)


def _gelu(x: Tensor64) -> Tensor64:
    from scipy.special import erf

    return np.asarray(x * (1 + erf(x / 2**0.5)) / 2)


# Values of ``Op.activation``, elementwise.
ACTIVATIONS_64: Final[Mapping[str, Callable[[Tensor64], Tensor64]]] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "sigmoid": _sigmoid,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": lambda x: x * _hard_sigmoid(x),
    "swish": lambda x: x * _sigmoid(x),
    "gelu": _gelu,
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
}
