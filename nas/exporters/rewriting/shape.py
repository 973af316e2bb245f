"""Shape of blocks of a depthwise convolution between 1x1 convolutions.

It is read from their operations.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from nas.arch.ops.network import Op, PartSegments, Segment


class Layer(NamedTuple):
    """A convolution of a block, or one convolution for each of its groups.

    ``path``: of its output. ``convs``: without split and concat; ``ops``: with them. ``activation``: at its end.
    """

    path: str
    convs: tuple[Op, ...]
    ops: tuple[Op, ...]
    activation: str | None

    @property
    def in_channels(self) -> int:
        """Input channels of all groups together."""
        return sum(conv.in_channels for conv in self.convs)

    @property
    def out_channels(self) -> int:
        """Output channels of all groups together."""
        return sum(conv.out_channels for conv in self.convs)

    @property
    def has_equal_groups(self) -> bool:
        """Whether all groups have equal numbers of channels."""
        return len({(conv.in_channels, conv.out_channels) for conv in self.convs}) == 1


class BlockShape(NamedTuple):
    """Segments of a depthwise block; None for what it lacks. ``gate``: squeeze-excite."""

    expand: Segment | None
    depthwise: Segment
    gate: Segment | None
    project: Segment


@lru_cache(maxsize=65536)
def block_shape(part: PartSegments) -> BlockShape | None:
    """The depthwise block that ``part`` is; None for any other part of a network.

    None also for one with a tensor that later parts read: in other forms it may be in pieces, or not be there.
    """
    if part.taps:
        return None
    segments = list(part.segments)
    gate = segments.pop(-2) if len(segments) > 2 and _is_gate(segments[-2]) else None
    if len(segments) not in (2, 3):
        return None
    *expand, depthwise, project = segments
    if not _is_depthwise(depthwise) or not all(_is_pointwise(segment) for segment in (*expand, project)):
        return None
    return BlockShape(expand[0] if expand else None, depthwise, gate, project)


@lru_cache(maxsize=65536)
def layer_of(segment: Segment) -> Layer | None:
    """The layer that ``segment`` is, None if it is something else."""
    ops = segment.ops
    if len(ops) == 1:
        return Layer(ops[0].path, ops, ops, ops[0].activation)
    if ops[0].kind == "split" and ops[-1].kind == "concat":
        return Layer(ops[-1].path, ops[1:-1], ops, ops[-1].activation)
    return None


def groups_of(segment: Segment) -> int:
    """Number of convolutions of the layer that ``segment`` is; 0 for something else."""
    layer = layer_of(segment)
    return len(layer.convs) if layer else 0


def _is_gate(segment: Segment) -> bool:
    return [op.kind for op in segment.ops] == ["pool", "conv", "conv", "scale"]


def _is_depthwise(segment: Segment) -> bool:
    layer = layer_of(segment)
    return layer is not None and all(conv.kind == "depthwise" for conv in layer.convs)


def _is_pointwise(segment: Segment) -> bool:
    layer = layer_of(segment)
    return layer is not None and all(conv.kind == "conv" and conv.kernel == conv.groups == 1 for conv in layer.convs)
