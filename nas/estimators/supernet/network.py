"""One network of a supernet: its forward pass with slices of the shared weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from timm.layers import get_act_fn
from torch import Tensor
from torch.nn import functional

from nas.arch.ops.network import Op, output_ops
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.estimators.supernet.layout import BoundOp, TensorSlice, bind_ops, transform_slot

# Outputs of a network: logits of a classifier or segmenter, the maps of a detector in the order of ``output_ops``.
Outputs: TypeAlias = Tensor | tuple[Tensor, ...]
# Mean and variance of a batch norm's input by channel, each (C,), by the norm's path in timm's module.
NormStatistics: TypeAlias = dict[str, tuple[Tensor, Tensor]]


def take_slice(shared: Mapping[str, Tensor], part: TensorSlice) -> Tensor:
    """Return the slice of a shared tensor, through which gradients flow.

    It is a view, unless it is a kernel with a transform.
    """
    ranges = [slice(first, first + size) for first, size in zip(part.start, part.shape, strict=False)]
    tensor = shared[part.slot][tuple(ranges)]
    return _take_kernel(shared, tensor, part) if len(part.shape) == 4 else tensor


def _take_kernel(shared: Mapping[str, Tensor], weight: Tensor, part: TensorSlice) -> Tensor:
    """Crop the kernels of ``weight`` (out, in, K, K) to the side of ``part``.

    By way of all sides between that have a transform, as in Once for All.
    """
    wanted = part.shape[-1]
    for side in range(weight.shape[-1] - 1, wanted - 1, -1):
        matrix = shared.get(transform_slot(part.slot, side))
        if matrix is not None:
            kernels = _centre(weight, side)
            weight = functional.linear(kernels.flatten(2), matrix).view(kernels.shape)
    return _centre(weight, wanted)


def _centre(weight: Tensor, side: int) -> Tensor:
    first = (weight.shape[-1] - side) // 2
    return weight[..., first : first + side, first : first + side]


class Subnetwork:
    """The network of ``spec`` with shared weights; holds no weights itself.

    With its slices as weights, timm's module of the same spec gives the same outputs (``standalone_state``). Drop
    rates of the spec are ignored. ``bound``: its operations with their slices.

    Raises: NasError for a network with blocks that cannot share weights.
    """

    def __init__(self, spec: ArchSpec) -> None:
        self.spec = spec
        self.bound = tuple(bind_ops(spec))
        self._outputs = output_ops(spec)
        last_reader = {name: index for index, item in enumerate(self.bound) for name in item.op.inputs}
        self._freed: dict[int, list[str]] = defaultdict(list)  # tensors that nothing reads after an operation
        for name, index in last_reader.items():
            if name not in self._outputs:
                self._freed[index].append(name)

    def outputs(
        self, shared: Mapping[str, Tensor], images: Tensor, statistics: NormStatistics | None = None
    ) -> Outputs:
        """Compute the outputs of normalised images (N, C, H, W).

        As the stand-alone module returns them: logits of a classifier (N, classes), of a segmenter (N, classes, h, w),
        or the maps of a detector. ``statistics``: of the batch norms; None takes those of the batch, as in training.
        """
        return self._run(shared, images, lambda norm, _: None if statistics is None else statistics[norm])

    def estimate_statistics(self, shared: Mapping[str, Tensor], images: Tensor) -> NormStatistics:
        """Compute batch norm statistics on normalised images (N, C, H, W), in one batch.

        The statistics that the shared weights were trained with are those of other networks.
        """
        statistics: NormStatistics = {}

        def collect(norm: str, x: Tensor) -> tuple[Tensor, Tensor]:
            variance, mean = torch.var_mean(x.float(), (0, 2, 3), correction=0)  # autocast gives half precision
            statistics[norm] = (mean, variance)
            return statistics[norm]

        self._run(shared, images, collect)
        return statistics

    def _run(
        self,
        shared: Mapping[str, Tensor],
        images: Tensor,
        statistics_of: Callable[[str, Tensor], tuple[Tensor, Tensor] | None],
    ) -> Outputs:
        values: dict[str, Tensor] = {"": images}
        for index, bound in enumerate(self.bound):
            op = bound.op
            if op.kind == "split":
                parts = torch.split(values[op.inputs[0]], list(op.parts), 1)
                values.update({f"{op.path}:{part}": tensor for part, tensor in enumerate(parts)})
            else:
                values[op.path] = self._result(bound, shared, [values[name] for name in op.inputs], statistics_of)
            for name in self._freed[index]:
                del values[name]
        outputs = tuple(values[path] for path in self._outputs)
        return outputs if len(outputs) > 1 else outputs[0]

    def _result(
        self,
        bound: BoundOp,
        shared: Mapping[str, Tensor],
        inputs: Sequence[Tensor],
        statistics_of: Callable[[str, Tensor], tuple[Tensor, Tensor] | None],
    ) -> Tensor:
        """Apply an operation with its norm and activation."""
        x = self._compute(bound, shared, inputs)
        if bound.scale is not None and bound.offset is not None:
            factors, offsets = take_slice(shared, bound.scale), take_slice(shared, bound.offset)
            mean, variance = statistics_of(bound.norm, x) or (None, None)
            x = functional.batch_norm(
                x, mean, variance, factors, offsets, training=mean is None, eps=self.spec.norm.eps
            )
        activation: str | None = bound.op.activation
        y: Tensor = x if activation is None else get_act_fn(activation)(x)
        return y

    def _compute(self, bound: BoundOp, shared: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> Tensor:
        """Apply an operation without its norm and activation."""
        op, x = bound.op, inputs[0]
        if bound.weight is not None:
            weight = take_slice(shared, bound.weight)
            bias = None if bound.bias is None else take_slice(shared, bound.bias)
            return (
                functional.linear(x.flatten(1), weight, bias)
                if op.kind == "linear"
                else self._conv(op, x, weight, bias)
            )
        if op.kind == "pool":
            return x.mean((2, 3), keepdim=True)
        if op.kind == "scale":
            return x * inputs[1]
        if op.kind == "add":
            return x + inputs[1]
        if op.kind == "concat":
            return torch.cat(list(inputs), 1)
        if op.kind == "resize":
            return functional.interpolate(x, size=(op.out_px, op.out_px), mode="bilinear", align_corners=False)
        raise NasError(f"{op.path}: a supernet has no operation {op.kind!r}; add estimator=proxy or zero_cost.")

    def _conv(self, op: Op, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        groups = op.out_channels if op.kind == "depthwise" else op.groups
        span = op.dilation * (op.kernel - 1)
        padding = span // 2
        if self.spec.padding == "same" and op.stride > 1:  # with stride 1 both paddings are the same
            total = max((op.out_px - 1) * op.stride + span + 1 - x.shape[-1], 0)
            x = functional.pad(x, 2 * (total // 2, total - total // 2))
            padding = 0
        return functional.conv2d(x, weight, bias, op.stride, padding, op.dilation, groups)
