"""Features of an operation's time in XNNPACK, which LiteRT runs networks in.

As those of ``nas.latency.predictors.op_features``, for kernels with channels last. They were derived from its routines
and from 450 networks, one thread, AVX-512: a convolution is a matrix product in tiles of some pixels by one vector of
output channels; a depthwise one has routines of 3, 4, 9 or 25 taps; a split, concat or gate costs by the pixel as well
as by the byte; maps beyond the caches are slower, and so are all weights of a network that fill them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from nas.arch.complexity import BYTES_PER_ELEMENT
from nas.arch.ops.network import Op
from nas.exporters.litert.depthwise import kernel_pieces
from nas.exporters.rewriting.kernels import cropped
from nas.latency.kernels.padding import padded

Features = tuple[tuple[str, float], ...]

_MEGA: Final = 1e-6
_THOUSAND: Final = 1e-3
_ROUTINES: Final = (3, 4, 9, 25)
_CACHES_MB: Final = (1.0, 4.0)  # sizes of maps, and of all weights, from which a megabyte takes longer
_FREE: Final = ("relu", "relu6", None)  # activations that convolutions and sums apply
# Passes over the map, as litert's exporter writes an activation.
_PASSES: Final = {"swish": 2, "hard_sigmoid": 2, "mish": 7}


class Tile(NamedTuple):
    """Tile that a routine of matrix products computes at a time.

    ``rows``: pixels. ``lane``: channels.
    """

    rows: int
    lane: int


# Of scalars, NEON, FMA3 and AVX-512.
TILES: Final = (Tile(1, 1), Tile(4, 8), Tile(6, 8), Tile(5, 16), Tile(7, 16))
# Prior prices in ms per unit of the quantities that other runtimes do not have; see ``op_features``.
TILE_PRIORS: Final = {"rows": 0.02, "tiles": 0.02, "far": 0.05}


@lru_cache(maxsize=65536)
def xnnpack_features(op: Op, tile: Tile) -> Features:
    """(name, value) of every feature of ``op`` at batch 1.

    Quantities: ``macs`` and ``taps`` in 10^6 multiply-adds with padding to whole tiles, ``tiles`` and ``rows`` (pixels)
    in thousands, ``mb`` and ``weights`` in 10^6 bytes, ``far`` in 10^6 bytes beyond a size of ``_CACHES_MB``, ``call``
    1 per operator.
    """
    if op.kind in ("conv", "linear"):
        features = _dense(op, tile)
    elif op.kind == "depthwise":
        features = _depthwise(op, tile)
    elif op.kind == "matmul":
        features = (("matmul.macs", op.macs * _MEGA), ("matmul.mb", _mb(op.out_elements)), ("matmul.call", 1.0))
    else:
        features = _movement(op)
    if op.activation in _FREE:
        return features
    passes = _PASSES.get(op.activation or "", 1)
    activation = ((f"{op.activation}.mb", _mb(op.out_elements)), ("activation.call", float(passes)))
    return (*features, *activation, *_far("elementwise", op.out_elements, passes))


def weight_features(params: int) -> Features:
    """Features of a network's parameters beyond the caches.

    They leave the caches between two runs.
    """
    return _far("weights", params)


def _dense(op: Op, tile: Tile) -> Features:
    """Features of full and grouped convolutions and of linear layers."""
    weights, area = _mb(op.weights), op.out_px**2
    if area == 1:
        return (("vector.weights", weights), ("vector.call", 1.0))
    kind = f"{'pointwise' if op.kernel == 1 else 'spatial'}{'_grouped' if op.groups > 1 else ''}"
    rows, columns = padded(area, tile.rows), padded(op.out_channels // op.groups, tile.lane)
    depth = op.in_channels // op.groups * op.kernel**2
    return (
        (f"{kind}.macs", rows * columns * depth * op.groups * _MEGA),
        (f"{kind}.tiles", rows // tile.rows * (columns // tile.lane) * op.groups * op.kernel**2 * _THOUSAND),
        ("dense.mb", _mb(op.in_elements + op.out_elements)),
        ("dense.weights", weights),
        ("dense.call", 1.0),
        *_far("dense", op.in_elements),
        *_far("dense", op.out_elements),
    )


def _depthwise(op: Op, tile: Tile) -> Features:
    """Features of depthwise convolutions; a large kernel is a sum of small ones."""
    op = cropped(op, "symmetric")
    channels, area, reach = op.out_channels, op.out_px**2, op.dilation * (op.kernel - 1)
    pieces = kernel_pieces(op.kernel, op.dilation, reach // 2, reach // 2)
    features: list[tuple[str, float]] = []
    for rows, columns in pieces:
        taps = rows.length * columns.length
        routine = next((routine for routine in _ROUTINES if taps <= routine), 0)
        kind = f"depthwise{routine or '_large'}s{op.stride}"
        features += [
            (f"{kind}.taps", padded(channels, tile.lane) * area * (routine or taps) * _MEGA),
            (f"{kind}.rows", area * _THOUSAND),
            ("depthwise.mb", _mb(op.in_elements + op.out_elements)),
            ("depthwise.call", 1.0),
            *_far("depthwise", op.in_elements),
            *_far("depthwise", op.out_elements),
        ]
        if channels > tile.lane and channels % tile.lane:  # the last channels are a routine of their own
            features.append(("depthwise_tail.rows", area * _THOUSAND))
    additions = len(pieces) - 1
    if additions:
        features += [("add.mb", 3 * additions * _mb(op.out_elements)), ("add.call", float(additions))]
        features += _far("elementwise", op.out_elements, additions * 1.5)
    return tuple(features)


def _movement(op: Op) -> Features:
    """Features of pooling, norms, element-wise operations, splits and concats."""
    if op.kind == "pool":
        return (("pool.mb", _mb(op.in_elements)), ("pool.call", 1.0), *_far("elementwise", op.in_elements, 0.5))
    if op.kind in ("add", "norm"):
        tensors = 3 if op.kind == "add" else 2
        moved = (f"{op.kind}.mb", tensors * _mb(op.out_elements))
        return (moved, (f"{op.kind}.call", 1.0), *_far("elementwise", op.out_elements, tensors / 2))
    parts = {"split": len(op.parts), "concat": len(op.inputs)}.get(op.kind, 1)
    return (
        (f"{op.kind}.mb", _mb(op.out_elements)),
        (f"{op.kind}.rows", parts * op.out_px**2 * _THOUSAND),
        (f"{op.kind}.call", float(parts)),
        *_far("elementwise", op.out_elements),
    )


def _far(kind: str, elements: float, passes: float = 1.0) -> Features:
    """Part of a map beyond each size of ``_CACHES_MB``, times ``passes`` over it.

    Sizes are in 10^6 bytes.
    """
    size = _mb(elements)
    return tuple((f"{kind}{level:g}.far", (size - level) * passes) for level in _CACHES_MB if size > level)


def _mb(elements: float) -> float:
    return elements * BYTES_PER_ELEMENT * _MEGA
