"""Features of an operation's time: work, bytes moved, overhead of a call.

They add up over a network. Classes and special cases were derived from ONNX Runtime's per-node profiles of 80 random
networks (AVX-512): convolutions work on channels padded to a full vector (``lane``); a depthwise convolution whose
channels are no multiple of 4 leaves the blocked memory layout and takes about ten times as long, as MixConv groups of
odd sizes do; parts of a split or concat are copied, at higher cost where their sizes are no multiple of the vector.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from nas.arch.complexity import BYTES_PER_ELEMENT
from nas.arch.ops.network import Op, network_segments
from nas.arch.spec import ArchSpec
from nas.latency.kernels.padding import padded, valid_taps
from nas.latency.kernels.xnnpack import TILE_PRIORS, TILES, Features, Tile, weight_features, xnnpack_features

# What the kernels of a runtime compute at a time: channels of one vector, or a tile of XNNPACK's.
Vectors = int | Tile

# Vector widths in channels: none (eager torch), SSE and NEON, AVX2, AVX-512.
LANES: Final = (1, 4, 8, 16)
_XNNPACK: Final = ("litert", "tflite", "executorch")  # runtimes that run networks in it
_MEGA: Final = 1e-6
_BLOCKED: Final = 4  # ONNX Runtime uses its blocked layout for multiples of this
_WIDEST: Final = 11
# Relu costs nothing measurable after a convolution. Relu6 is fused too, but not free: treating it as free predicted
# published networks with it 11 to 20% too fast.
_FREE: Final = ("relu", None)

# Prior prices in ms per unit, by quantity. A fit first scales them all to the device, then adapts each as far as the
# measurements require, so that features without measurements are not free.
PRIORS: Final = {"macs": 0.02, "taps": 0.03, "odd": 0.6, "mb": 0.1, "weights": 0.1, "call": 0.003, "channels": 0.5}
_ALL_PRIORS: Final = {**PRIORS, **TILE_PRIORS}


def vectors_of(backend: str) -> tuple[Vectors, ...]:
    """What kernels of ``backend`` may compute at a time, depending on the processor."""
    return TILES if backend in _XNNPACK else LANES


def op_features(op: Op, lane: Vectors) -> Features:
    """(name, value) of every feature of ``op`` at batch 1.

    Names are ``class.quantity``. Quantities: ``macs``, ``taps`` (depthwise) and ``odd`` (depthwise, slow path) in 10^6
    multiply-adds, ``mb`` and ``weights`` in 10^6 bytes moved, ``channels`` in thousands, ``call`` 1 per operation.
    ``lane``: channels of one vector; with a tile, the features are those of ``xnnpack_features``.
    """
    if isinstance(lane, Tile):
        return xnnpack_features(op, lane)
    if op.kind in ("conv", "linear"):
        features = _dense(op, lane)
    elif op.kind == "depthwise":
        features = _depthwise(op, lane)
    else:
        features = _movement(op, lane)
    if op.activation in _FREE:
        return features
    return (*features, (f"{op.activation}.mb", _mb(padded(op.out_channels, lane) * op.out_px**2)))


def network_features(spec: ArchSpec, vectors: Vectors) -> Features:
    """(name, value) of features of ``spec`` as a whole, beside its operations'."""
    if not isinstance(vectors, Tile):
        return ()
    return weight_features(sum([part.params for part in network_segments(spec)]))


def total_features(features: Iterable[Features]) -> dict[str, float]:
    """Sums of features by name."""
    sums: dict[str, float] = {}
    for vector in features:
        for name, value in vector:
            sums[name] = sums.get(name, 0.0) + value
    return sums


def prior_price(name: str) -> float:
    """Prior price of feature ``name`` in ms per unit."""
    return _ALL_PRIORS[name.rpartition(".")[2]]


def _dense(op: Op, lane: int) -> Features:
    """Features of full and grouped convolutions and of linear layers."""
    weights = _mb(op.weights)
    if op.kind == "linear" or op.out_px == 1:
        kind = "linear" if op.kind == "linear" else "vector"
        return ((f"{kind}.weights", weights), (f"{kind}.call", 1.0))
    ins = op.in_channels if op.in_channels < lane else padded(op.in_channels, lane)
    outs, out_area = padded(op.out_channels, lane), op.out_px**2
    kind = (
        ("pointwise" if op.out_px > 8 else "pointwise_small")
        if op.kernel == 1
        else f"stem{op.stride}"
        if op.in_channels < lane
        else "spatial"
    )
    return (
        (f"{kind}.macs", ins * outs // op.groups * op.kernel**2 * out_area * _MEGA),
        (f"{kind}.mb", _mb(ins * op.in_px**2 + outs * out_area)),
        (f"{kind}.weights", weights),
        ("dense.call", 1.0),
    )


def _depthwise(op: Op, lane: int) -> Features:
    """Features of depthwise convolutions.

    Taps on padding are skipped; columns near the border are slower.
    """
    odd = op.out_channels % _BLOCKED != 0
    channels = op.out_channels if odd else padded(op.out_channels, lane)
    side = min(op.kernel, _WIDEST)
    taps = valid_taps(op.kernel, op.stride, op.dilation, op.in_px)
    macs = channels * taps * taps * _MEGA
    kind = f"depthwise{side}s{op.stride}" if op.dilation == 1 else "dilated"
    moved = _mb(channels * (op.in_px**2 + op.out_px**2))
    if odd:
        fast = op.kernel == 3 and op.stride == 1  # ONNX Runtime has a specialised routine for it
        kind = f"depthwise_plain{'3' if fast else ''}s{op.stride}"
        return (
            (f"{kind}.odd", op.macs * _MEGA),
            (f"{kind}.mb", moved),
            ("depthwise_plain.channels", op.out_channels * 1e-3),
        )
    border = min(op.out_px, (op.dilation * (op.kernel - 1)) / op.stride)
    return (
        (f"{kind}.taps", macs),
        ("depthwise_border.taps", channels * border * taps * op.kernel * _MEGA),
        (f"depthwises{op.stride}.mb", moved),
        ("depthwise.call", 1.0),
    )


def _movement(op: Op, lane: int) -> Features:
    """Features of pooling, element-wise operations, splits and concats."""
    size = _mb(op.in_elements)
    if op.kind == "resize":
        return (("resize.mb", _mb(op.in_elements + op.out_elements)), ("resize.call", 1.0))
    if op.kind == "scale":
        size = _mb(op.out_elements)
    aligned = op.out_channels % lane == 0 if not op.parts else all(part % lane == 0 for part in op.parts)
    kind = op.kind if aligned or op.kind == "pool" else f"{op.kind}_odd"
    return ((f"{kind}.mb", size), (f"{op.kind}.call", 1.0))


def _mb(elements: float) -> float:
    return elements * BYTES_PER_ELEMENT * _MEGA
