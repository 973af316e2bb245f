"""Layers with weights of a network, and the channels they couple; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Final, Literal, NamedTuple

from nas.arch.ops.dense_head import class_layers
from nas.arch.parts import HeadSpec
from nas.arch.spec import ArchSpec

LayerKind = Literal["conv", "depthwise", "linear", "norm"]

CLASSIFIER: Final = "classifier"
STATISTICS: Final = ("running_mean", "running_var")  # of a batch norm; they are no parameters
COUNTER: Final = "num_batches_tracked"  # of a batch norm's steps; torch can load a state dict without it


class FilterGroup(NamedTuple):
    """Filters that read the same channels with the same kernel.

    They are the rows from ``row`` on of the tensor ``weight``, and map the channels ``inputs`` of the layer's input to
    ``outputs`` of its output; a depthwise one maps each to itself. ``kernel``: side of the weights; ``dilation``.
    """

    weight: str
    row: int
    inputs: range
    outputs: range
    kernel: int = 1
    dilation: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightLayer:
    """A convolution, linear layer or batch norm with what is trained together with it.

    ``path``: module path in timm, of a convolution in groups that of all groups. ``block``: path of its block, "" in
    stem and head; ``part``: type of the block, ``stem``, or the kind of head. ``inputs``, ``outputs``: indices of its
    sets of channels; the same for a depthwise convolution and a norm. ``bias``: whether it has one. ``norm``: path of
    the batch norm that follows or that it is, ``norm_eps`` its constant; ``scale``: path of the layer scale that
    follows; "" for none; ``activation``: that at the end, if any. ``gates``: whether its outputs multiply other
    channels, as the gate of a squeeze-excite. ``predicts``: whether its outputs are those of the network, so that each
    has its own meaning. ``reads``: paths of the layers whose outputs are added up to its input.
    """

    path: str
    kind: LayerKind
    block: str
    part: str
    groups: tuple[FilterGroup, ...]
    inputs: int
    outputs: int
    in_channels: int
    out_channels: int
    bias: bool = False
    norm: str = ""
    norm_eps: float = 0.0
    scale: str = ""
    activation: str | None = None
    gates: bool = False
    predicts: bool = False
    reads: tuple[str, ...] = ()

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of its weights in the state dict, one per MixConv group."""
        return tuple(dict.fromkeys(group.weight for group in self.groups))

    @property
    def kernels(self) -> tuple[int, ...]:
        """Sides of its weights in px, one per MixConv group."""
        sides = {group.weight: group.kernel for group in self.groups}
        return tuple(sides.values())

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of its tensors by name in the state dict."""
        shapes: dict[str, tuple[int, ...]] = {}
        for group in self.groups:  # the last of a tensor has its last rows
            inputs = 1 if self.kind == "depthwise" else len(group.inputs)
            sides = () if self.kind == "linear" else (group.kernel, group.kernel)
            shapes[group.weight] = (group.row + len(group.outputs), inputs, *sides)
        return shapes | dict.fromkeys(self.vectors, (self.out_channels,))

    @property
    def params(self) -> int:
        """Number of its parameters."""
        return sum([prod(shape) for name, shape in self.shapes.items() if not name.endswith(STATISTICS)])

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of its tensors with one element per output channel, in the state dict."""
        norm = (f"{self.norm}.{name}" for name in ("weight", "bias", *STATISTICS))
        return (
            *((f"{self.path}.bias",) if self.bias else ()),
            *(norm if self.norm else ()),
            *((f"{self.scale}.gamma",) if self.scale else ()),
        )


class ChannelRole(NamedTuple):
    """A layer that computes or reads a set of channels.

    Its outputs (or inputs) are the index (before, channel, after) of sides ``before``, size of the set, ``after``: 1
    both, unless they are pairs of attention head and channel.
    """

    layer: WeightLayer
    before: int = 1
    after: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CoupledChannels:
    """Channels of several tensors that a network can only lose together.

    ``size``: how many. ``producers``: the layers that compute them. ``consumers``: the layers that read them.
    """

    size: int
    producers: tuple[ChannelRole, ...]
    consumers: tuple[ChannelRole, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightLayers:
    """All layers of a network with weights, and its sets of coupled channels.

    ``layers``: by path, in execution order. ``sets``: by index. ``pairs``: sets that are all pairs of two other sets,
    head and channel of an attention, with the indices of the two. ``branch_ends``: path of the layer whose output is
    added to the input of a block, by the block's path.
    """

    layers: Mapping[str, WeightLayer]
    sets: Mapping[int, CoupledChannels]
    pairs: Mapping[int, tuple[int, int]]
    branch_ends: Mapping[str, str]


def class_predictions(arch: ArchSpec) -> dict[str, int]:
    """Map paths of layers that predict classes to the boxes that each predicts for."""
    return {CLASSIFIER: 1} if isinstance(arch.head, HeadSpec) else class_layers(arch.head)
