"""Slices of the shared weights that a network's operations use; without torch.

A supernet holds one tensor per slot, as large as the largest network of its space needs. Networks use slices of them:
channels by prefix, kernels by centre crop, blocks by their position in the stage. Kernel transforms are slots of their
own: a smaller kernel is the centre of the next larger one times a matrix, which all channels of a layer share (Cai et
al., Once for All, arXiv:1908.09791, section 3.3).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from nas.arch.heads import DENSE_HEADS
from nas.arch.ops.network import Op, network_ops
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError

_BLOCK_PARTS: Final = 3  # "blocks", stage and position in the stage: the first parts of a block's path
_UNSHARED_TYPES: Final = ("mqa",)
_STEM_MODULES: Final = ("conv_stem", "bn1")
_HEAD_KIND_MODULES: Final = ("conv_head", "norm_head", "bn2")  # of which the heads of classifiers have one or none
_TRANSFORM: Final = re.compile(r"\.t\d+$")


class TensorSlice(NamedTuple):
    """Part of the shared tensor ``slot`` of ``shape``, beginning at ``start``.

    Weights of convolutions are (out, in, k, k), those of linear layers (out, in), all others (channels,). ``start`` is
    in elements of the first two dimensions; kernels are cropped around their centre.
    """

    slot: str
    shape: tuple[int, ...]
    start: tuple[int, int] = (0, 0)

    @property
    def ends(self) -> tuple[int, ...]:
        """The shape that the shared tensor must have at least."""
        return tuple(size + first for size, first in zip(self.shape, (*self.start, 0, 0), strict=False))


class BoundOp(NamedTuple):
    """An operation of a network with its slices of the shared weights.

    ``scale`` and ``offset`` are those of the batch norm that follows, whose module in timm is ``norm`` ("" for none):
    that of a MixConv's groups follows their concatenation.
    """

    op: Op
    weight: TensorSlice | None = None
    bias: TensorSlice | None = None
    norm: str = ""
    scale: TensorSlice | None = None
    offset: TensorSlice | None = None

    @property
    def slices(self) -> tuple[TensorSlice, ...]:
        """All slices that the operation uses."""
        return tuple(part for part in (self.weight, self.bias, self.scale, self.offset) if part is not None)

    @property
    def tensors(self) -> Mapping[str, TensorSlice]:
        """Slices by the name that they have in the state dict of timm's module."""
        named = {
            f"{self.op.path}.weight": self.weight,
            f"{self.op.path}.bias": self.bias,
            f"{self.norm}.weight": self.scale,
            f"{self.norm}.bias": self.offset,
        }
        return {name: part for name, part in named.items() if part is not None}


def bind_ops(spec: ArchSpec) -> Iterator[BoundOp]:
    """Iterate over the operations of ``spec`` in execution order, with their slices.

    Slots are named after timm's module paths and the block's type: blocks of different types at one position share
    nothing, and neither do kernels of different dilations or heads of different kinds. All layers of a detector's or
    segmenter's head are of its kind, whichever block has the map that they read. The groups of a MixConv or of a
    grouped 1x1 convolution use those parts of the ungrouped weights that connect their channels.

    Raises: NasError for a network with blocks that cannot share weights.
    """
    types = _block_types(spec)
    ops = list(network_ops(spec))
    whole_of = {path: op for op in ops if op.kind == "concat" for path in op.inputs}
    starts: dict[str, tuple[int, int]] = {}  # of the next group of a concatenation
    norms: dict[str, str] = {}
    for op in ops:
        whole = whole_of.get(op.path)
        slot = _slot((op if whole is None else whole).path, types, spec)
        start = (0, 0) if whole is None else starts.get(slot, (0, 0))
        if whole is not None:
            starts[slot] = start[0] + op.out_channels, start[1] + (0 if op.kind == "depthwise" else op.in_channels)
            norms[whole.path] = op.norm
        norm = norms.get(op.path, "" if whole is not None else op.norm)
        channels, norm_slot = (op.out_channels,), _slot(norm, types, spec)
        yield BoundOp(
            op,
            weight=_weight(op, slot, start),
            bias=TensorSlice(f"{slot}.bias", channels, (start[0], 0)) if op.bias else None,
            norm=norm,
            scale=TensorSlice(f"{norm_slot}.weight", channels) if norm else None,
            offset=TensorSlice(f"{norm_slot}.bias", channels) if norm else None,
        )


def transform_slot(slot: str, kernel: int) -> str:
    """Slot of the transform (k*k, k*k) to kernels of side k of ``slot``."""
    return f"{slot}.t{kernel}"


def is_dense_head(slot: str) -> bool:
    """Whether ``slot`` is of a layer that the head of a detector or segmenter adds.

    The 1x1 convolution after the last stage is not: classifiers have it, too.
    """
    kind, _, path = slot.partition(".")
    return kind in DENSE_HEADS and not path.startswith(_HEAD_KIND_MODULES)


def is_transform(slot: str) -> bool:
    """Whether ``slot`` is that of a kernel transform."""
    return _TRANSFORM.search(slot) is not None


def slot_shapes(specs: Iterable[ArchSpec], *, kernel_transform: bool = False) -> dict[str, tuple[int, ...]]:
    """Smallest shapes of the shared tensors that contain all slices of ``specs``.

    With ``kernel_transform`` also those of a matrix for every kernel side of a slot but its largest.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    kernels: dict[str, set[int]] = defaultdict(set)
    for spec in specs:
        for bound in bind_ops(spec):
            for part in bound.slices:
                shapes[part.slot] = tuple(map(max, shapes.get(part.slot, part.ends), part.ends))
                if len(part.shape) == 4:
                    kernels[part.slot].add(part.shape[-1])
    if kernel_transform:
        for slot, sides in kernels.items():
            for side in sorted(sides)[:-1]:
                shapes[transform_slot(slot, side)] = (side * side, side * side)
    return shapes


def residual_scales(specs: Iterable[ArchSpec]) -> frozenset[str]:
    """Slots of the batch norm scales that only end branches beside a shortcut."""
    ending: set[str] = set()
    others: set[str] = set()
    for spec in specs:
        bound = list(bind_ops(spec))
        last = {item.op.inputs[0] for item in bound if item.op.kind == "add"}
        for item in bound:
            if item.scale is not None:
                (ending if item.op.path in last else others).add(item.scale.slot)
    return frozenset(ending - others)


def check_fits(spec: ArchSpec, bound: Iterable[BoundOp], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that the shared tensors of ``shapes`` contain all slices of a network.

    Raises: NasError naming the first that they do not.
    """
    for part in (part for item in bound for part in item.slices):
        has = _missing(part, shapes)
        if has is not None:
            raise NasError(
                f"{spec.name}: is not a network of this supernet, which has {has} of {part.slot}, where "
                f"{_sides(part.ends)} is needed; score networks of the space that it was made for."
            )


def _missing(part: TensorSlice, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """What ``shapes`` have of ``part`` in place of all of it; None if they contain it."""
    shape = shapes.get(part.slot)
    if shape is None:
        return "nothing"
    if any(end > size for end, size in zip(part.ends, shape, strict=True)):
        return _sides(shape)
    kernel = part.shape[-1]
    if len(shape) == 4 and kernel < shape[-1] and transform_slot(part.slot, kernel) not in shapes:
        sides = [side for side in range(1, shape[-1]) if transform_slot(part.slot, side) in shapes]
        return f"kernels of side {', '.join(map(str, [*sides, shape[-1]]))}" if sides else None
    return None


def _sides(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))


def _block_types(spec: ArchSpec) -> dict[str, str]:
    """Type of each block by its path. Raises: NasError for one without shared weights."""
    if spec.layer_scale is not None:
        raise NasError(f"{spec.name}: layer scale cannot be shared by a supernet; add estimator=proxy or zero_cost.")
    types: dict[str, str] = {placed.path: placed.block.type for placed in spec.placed_blocks()}
    for path, kind in types.items():
        if kind in _UNSHARED_TYPES:
            raise NasError(
                f"{spec.name}: {path} is an {kind} block, whose heads cannot share weights in a supernet; leave the "
                "type out of the space, or add estimator=proxy or zero_cost."
            )
    return types


def _slot(path: str, types: Mapping[str, str], spec: ArchSpec) -> str:
    """Slot of the module at ``path``: with the type of its block, or the kind of head."""
    parts = path.split(".")
    block = ".".join(parts[:_BLOCK_PARTS])
    if block in types:
        return ".".join([block, types[block], *parts[_BLOCK_PARTS:]])
    is_of_kind = path in _HEAD_KIND_MODULES or (spec.head.kind in DENSE_HEADS and path not in ("", *_STEM_MODULES))
    return f"{spec.head.kind}.{path}" if is_of_kind else path


def _weight(op: Op, slot: str, start: tuple[int, int]) -> TensorSlice | None:
    if not op.weights:
        return None
    if op.kind == "linear":
        return TensorSlice(f"{slot}.weight", (op.out_channels, op.in_channels))
    name = (
        f"{slot}.weight" + (f".d{op.dilation}" if op.dilation > 1 else "") + (f".g{op.groups}" if op.groups > 1 else "")
    )
    inputs = 1 if op.kind == "depthwise" else op.in_channels // op.groups
    return TensorSlice(name, (op.out_channels, inputs, op.kernel, op.kernel), start)
