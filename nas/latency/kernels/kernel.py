"""Features of a kernel's time: class, work, bytes moved, network context."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import log2
from typing import Final, NamedTuple

import numpy as np

from nas.arch.complexity import BYTES_PER_ELEMENT
from nas.arch.spec import ArchSpec
from nas.exporters.rewriting.forms import Forms
from nas.latency.arrays import FloatArray
from nas.latency.kernels.ort_lowering import Kernel, network_parts
from nas.latency.kernels.padding import padded, valid_taps

_MEGA: Final = 1e-6
_MB_PER_ELEMENT: Final = BYTES_PER_ELEMENT * _MEGA
_FUNCTION_CODES: Final = {"": 0, "relu": 1, "relu6": 2, "sigmoid": 3, "hard_sigmoid": 4, "hard_swish": 5}
_TINY: Final = 1e-7
_WIDE: Final = 64  # channels that the inner loops of wide kernels process at a time
FEATURES: Final = (
    "log2_macs", "log2_bytes", "log2_weights", "in_channels", "out_channels", "in_px", "out_px", "kernel", "stride",
    "dilation", "function", "added", "blocked", "parts", "fewest_part", "worst_part_tail", "network_weights",
    "network_bytes", "in_tail", "out_tail", "wide_tail", "out_blocks", "columns_tail",
)  # fmt: skip
_CONTEXT_FEATURES: Final = [FEATURES.index("network_weights"), FEATURES.index("network_bytes")]


class Context(NamedTuple):
    """Cache context of a kernel: log2 of the megabytes that its network moves.

    ``weights``: log2 of 10^6 bytes of weights. ``moved``: log2 of 10^6 bytes of weights and activations together.

    Rounded to halves, so that networks of similar size share predictions of their kernels. Without it, kernels of small
    networks, whose weights stay in the cache from run to run, were predicted 12% too slow.
    """

    weights: float
    moved: float


ContextualKernel = tuple[Kernel, Context]


def contextual_kernels(spec: ArchSpec, lane: int, forms: Forms | None = None) -> list[ContextualKernel]:
    """Kernels of ``spec`` in the order of ``network_calls``, each with its context.

    ``lane``: channels of one block of the blocked layout. ``forms``: of its blocks; None for plain ones.
    """
    kernels = [call.kernel for part in network_parts(spec, lane, forms) for call in part.calls]
    _, activations, weights = zip(*[kernel_elements(kernel, lane) for kernel in kernels], strict=True)
    context = network_context(sum(activations), sum(weights))
    return [(kernel, context) for kernel in kernels]


def network_context(activations: int, weights: int) -> Context:
    """Context of a network that moves so many elements of activations and weights."""
    return kernel_context(activations * _MB_PER_ELEMENT, weights * _MB_PER_ELEMENT)


def kernel_context(moved_mb: float, weights_mb: float) -> Context:
    """Context of a network that moves so many 10^6 bytes of activations and weights."""
    return Context(_halves(weights_mb), _halves(moved_mb + weights_mb))


def _halves(megabytes: float) -> float:
    return round(2 * log2(megabytes)) / 2


def kernel_class(kernel: Kernel) -> str:
    """Class of a kernel: kernels of a class run the same code and share a fit."""
    layout = "blocked" if kernel.blocked else "plain"
    if kernel.kind in ("depthwise", "resize"):
        return f"{kernel.kind}.{layout}"
    if kernel.kind == "conv":
        kind = "spatial" if kernel.kernel > 1 else "pointwise" if kernel.out_px > 1 else "vector"
        kind = "grouped" if kernel.groups > 1 else kind
        return f"{kind}.{'narrow' if kernel.narrow else layout}"
    return f"{kernel.kind}.{kernel.function}" if kernel.kind == "activation" else kernel.kind


def kernel_work(kernel: Kernel, lane: int) -> tuple[float, float, float]:
    """Work of a kernel: (10^6 multiply-adds, MB of activations, MB of weights).

    MB are 10^6 bytes moved. Channels are padded to full blocks of ``lane`` in the blocked layout.
    """
    macs, moved, weights = kernel_elements(kernel, lane)
    return macs * _MEGA, moved * BYTES_PER_ELEMENT * _MEGA, weights * BYTES_PER_ELEMENT * _MEGA


@lru_cache(maxsize=65536)
def kernel_elements(kernel: Kernel, lane: int) -> tuple[int, int, int]:
    """Multiply-adds of a kernel, elements of activations and weights it moves.

    Whole numbers, so that a sum over kernels does not depend on their order.
    """
    ins, outs = kernel.in_channels, kernel.out_channels
    if kernel.blocked:
        ins, outs = ins if kernel.narrow else padded(ins, lane), padded(outs, lane)
    in_area, out_area = kernel.in_px**2, kernel.out_px**2
    weights, macs = 0, 0
    if kernel.kind == "conv":
        weights = ins * outs * kernel.kernel**2 // kernel.groups
        macs, moved = weights * out_area, ins * in_area + (2 if kernel.added else 1) * outs * out_area
    elif kernel.kind == "depthwise":
        weights = outs * kernel.kernel**2
        macs = outs * valid_taps(kernel.kernel, kernel.stride, kernel.dilation, kernel.in_px) ** 2
        moved = outs * (in_area + out_area)
    elif kernel.kind == "gemm":
        weights = macs = ins * outs
        moved = ins + outs
    elif kernel.kind == "matmul":
        macs, moved = ins * outs // kernel.groups * out_area, (ins + outs) * out_area
    elif kernel.kind in ("block", "unblock"):
        moved = 2 * padded(ins, lane) * in_area
    elif kernel.kind == "resize":
        moved = ins * in_area + outs * out_area
    else:
        moved = (ins if kernel.kind == "pool" else 2 * max(ins, outs)) * in_area
    return macs, moved, weights


def kernel_features(kernels: Sequence[ContextualKernel], lane: int) -> FloatArray:
    """Feature matrix, float64 of shape (kernels, features), columns as ``FEATURES``.

    Columns named ``*_tail`` are the remainders of a dimension that is split into full vectors or tiles.
    """
    own = own_features([kernel for kernel, _ in kernels], lane)
    return np.maximum(own, context_features([context for _, context in kernels]))


def own_features(kernels: Iterable[Kernel], lane: int) -> FloatArray:
    """``kernel_features`` without those of the context, which are minus infinity."""
    table = np.array([_row(kernel, lane) for kernel in kernels], dtype=float)
    amounts, outs, out_px = np.log2(table[:, :3] + _TINY), table[:, 4], table[:, 6]
    tails = (table[:, 3] % lane, outs % lane, outs % _WIDE, np.ceil(outs / lane) % 4, out_px % 6)
    absent = np.full((len(table), len(_CONTEXT_FEATURES)), -np.inf)
    return np.hstack([amounts, table[:, 3:], absent, np.stack(tails, axis=1)])


def context_features(contexts: Sequence[Context]) -> FloatArray:
    """``kernel_features`` of contexts alone; the others are minus infinity."""
    table = np.full((len(contexts), len(FEATURES)), -np.inf)
    table[:, _CONTEXT_FEATURES] = contexts
    return table


def _row(kernel: Kernel, lane: int) -> tuple[float, ...]:
    """Values of one kernel before logarithms and tails, as ``FEATURES`` orders them."""
    parts = kernel.parts
    return (
        *kernel_work(kernel, lane), kernel.in_channels, kernel.out_channels, kernel.in_px, kernel.out_px, kernel.kernel,
        kernel.stride, kernel.dilation, _FUNCTION_CODES.get(kernel.function, 0), kernel.added, kernel.blocked,
        len(parts), min(parts) if parts else 0, max(part % lane for part in parts) if parts else 0,
    )  # fmt: skip
