"""Coupled channels of a network, found by following its operations; without torch.

Channels that an addition, a product, a depthwise convolution or a norm combines one to one are coupled: a network can
only lose all of them or none. All outputs of a stage with shortcuts are one set of such channels, the hidden channels
of a block are another, and so are those between the two convolutions of a squeeze-excite.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import accumulate
from typing import Final, cast

from nas.arch.heads import LRASPPHead
from nas.arch.ops.dense_head import LAST_CONV, class_layers
from nas.arch.ops.network import Op, network_ops, output_ops
from nas.arch.parts import HeadSpec
from nas.arch.spec import ArchSpec
from nas.model.weights.layers import (
    ChannelRole,
    CoupledChannels,
    FilterGroup,
    LayerKind,
    WeightLayer,
    WeightLayers,
)

_CONV_POOL: Final = "conv_pool"
_BLOCK_PARTS: Final = 3  # "blocks", stage and position in the stage: the first parts of a block's path


@lru_cache(maxsize=256)
def weight_layers(spec: ArchSpec) -> WeightLayers:
    """List the layers of ``spec`` with weights, and couple their channels."""
    return _Builder(spec).build()


class _Builder:
    """Follows the channels through the operations of a network."""

    def __init__(self, spec: ArchSpec) -> None:
        self.eps = spec.norm.eps
        self.types: dict[str, str] = {placed.path: placed.block.type for placed in spec.placed_blocks()}
        self.dilations = {placed.path: placed.dilation for placed in spec.placed_blocks()}
        self.head, self.predictions = _head_parts(spec)
        self.ops = list(network_ops(spec))
        self.whole_of = {path: op for op in self.ops if op.kind == "concat" for path in op.inputs}
        self.gates = {op.inputs[1] for op in self.ops if op.kind == "scale"}
        self.parent: list[int] = []  # of each set, in a forest of joined sets
        self.size: list[int] = []
        self.values: dict[str, int] = {"": self.new_set(spec.in_channels)}  # set of each tensor's channels
        self.starts: dict[str, int] = {}  # first channel of each part of a split
        self.pairs: dict[int, tuple[int, int]] = {}
        self.branch_ends: dict[str, str] = {}
        self.groups_of: dict[str, list[Op]] = {}  # operations of each layer, and its sets
        self.ends: dict[str, tuple[int, int]] = {}
        self.activations: dict[str, str | None] = {}
        self.terms: dict[str, tuple[str, ...]] = {"": ()}  # layers whose outputs are added up to a tensor

    def new_set(self, size: int) -> int:
        self.parent.append(len(self.parent))
        self.size.append(size)
        return len(self.parent) - 1

    def root(self, index: int) -> int:
        while self.parent[index] != index:
            index = self.parent[index]
        return index

    def build(self) -> WeightLayers:
        for op in self.ops:
            if op.kind == "concat":  # the end of a layer in groups
                continue
            source = self.values[op.inputs[0]]
            if op.kind == "split":
                for part, start in enumerate(accumulate(op.parts[:-1], initial=0)):
                    name = f"{op.path}:{part}"
                    self.values[name], self.starts[name] = source, start
                    self.terms[name] = self.terms[op.inputs[0]]
            elif op.kind == "matmul":
                self.add_product(op)
            elif op.weights or op.kind == "norm":
                self.add_layer(op)
            else:
                for name in op.inputs[1:]:
                    self.parent[self.root(self.values[name])] = self.root(source)
                self.values[op.path] = source
                added = op.inputs if op.kind == "add" else op.inputs[:1]  # of a product the second is a gate
                self.terms[op.path] = tuple([path for name in added for path in self.terms[name]])
                block = op.path.rpartition(".")[0]
                if op.kind == "add" and block in self.types:  # a segmenter's head adds its logits
                    self.branch_ends[block] = op.inputs[0]
        return self.result()

    def add_layer(self, op: Op) -> None:
        """Add the layer of ``op``, or ``op`` to its layer as a group."""
        whole = self.whole_of.get(op.path, op)
        if whole.path not in self.groups_of:
            source = self.values[op.inputs[0]]
            outputs = source if op.kind in ("depthwise", "norm") else self.new_set(whole.out_channels)
            self.values[whole.path] = outputs
            self.ends[whole.path] = (source, outputs)
            self.activations[whole.path] = whole.activation
            self.terms[whole.path] = (whole.path,)
        self.groups_of.setdefault(whole.path, []).append(op)

    def add_product(self, op: Op) -> None:
        """Relate the channels of one of the two products of an attention."""
        first, second = (self.values[name] for name in op.inputs)
        self.terms[op.path] = self.terms[op.inputs[1]]
        if op.activation == "softmax":  # queries, which have heads, and keys; a logit has a head and a position
            self.values[op.path] = heads = self.new_set(op.groups)
            self.pairs[first] = (heads, second)
        else:  # logits and values
            self.values[op.path] = self.new_set(op.out_channels)
            self.pairs[self.values[op.path]] = (first, second)

    def result(self) -> WeightLayers:
        """Layers, sets and pairs with the indices of the joined sets."""
        pairs = {self.root(one): (self.root(outer), self.root(inner)) for one, (outer, inner) in self.pairs.items()}
        layers = {path: self.layer(path) for path in self.groups_of}
        producers: dict[int, list[ChannelRole]] = {}
        consumers: dict[int, list[ChannelRole]] = {}
        for layer in layers.values():
            for index, found in ((layer.outputs, producers), (layer.inputs, consumers)):
                for one, role in self.roles(layer, index, pairs):
                    found.setdefault(one, []).append(role)
        sets = {
            index: CoupledChannels(
                size=self.size[index],
                producers=tuple(producers.get(index, ())),
                consumers=tuple(consumers.get(index, ())),
            )
            for index in {self.root(index) for index in range(len(self.size))} - set(pairs)
        }
        return WeightLayers(layers=layers, sets=sets, pairs=pairs, branch_ends=self.branch_ends)

    def layer(self, path: str) -> WeightLayer:
        ops = self.groups_of[path]
        inputs, outputs = (self.root(index) for index in self.ends[path])
        first, block = ops[0], ".".join(path.split(".")[:_BLOCK_PARTS])
        block = block if block in self.types else ""
        return WeightLayer(
            path=path,
            kind=cast(LayerKind, first.kind),
            block=block,
            part=self.types.get(block, "stem" if path == "conv_stem" else self.head_part(path)),
            groups=tuple(self.filter_groups(ops, self.dilations.get(block, 1))),
            inputs=inputs,
            outputs=outputs,
            in_channels=self.size[inputs],
            out_channels=self.size[outputs],
            bias=first.bias,
            norm=first.norm,
            norm_eps=self.eps,
            activation=self.activations[path],
            scale=first.scale,
            reads=self.terms[first.inputs[0]],
            gates=path in self.gates,
            predicts=first.kind == "linear" or path in self.predictions,
        )

    def head_part(self, path: str) -> str:
        """Kind of the head's part that the layer ``path`` is in."""
        if self.predictions and path == LAST_CONV:
            return _CONV_POOL  # the same convolution as that of a classifier that pools after it
        return self.predictions.get(path, self.head)

    def filter_groups(self, ops: Iterable[Op], dilation: int) -> Iterator[FilterGroup]:
        """Groups of a layer whose operations are ``ops``.

        ``dilation``: by which they are dilated in place of a stride, and which changes no weights: their taps are as
        far apart in the image as before.
        """
        done = 0  # outputs of the groups before
        for op in ops:
            start = self.starts.get(op.inputs[0], 0)
            ins, outs = op.in_channels // op.groups, op.out_channels // op.groups
            for group in range(op.groups if op.kind != "norm" else 0):
                inputs, outputs = (range(size * group, size * (group + 1)) for size in (ins, outs))
                yield FilterGroup(
                    f"{op.path}.weight", outputs.start, _moved(inputs, start), _moved(outputs, done),
                    op.kernel, op.dilation // dilation,
                )  # fmt: skip
            done += op.out_channels

    def roles(
        self, layer: WeightLayer, index: int, pairs: Mapping[int, tuple[int, int]]
    ) -> Iterator[tuple[int, ChannelRole]]:
        """The sets that the set ``index`` consists of, with the layer's role for each."""
        if index not in pairs:
            yield index, ChannelRole(layer)
            return
        outer, inner = pairs[index]
        yield outer, ChannelRole(layer, 1, self.size[inner])
        yield inner, ChannelRole(layer, self.size[outer], 1)


def _head_parts(spec: ArchSpec) -> tuple[str, dict[str, str]]:
    """Kind of the head, and that of its predictions by path, of a dense head alone.

    Predictions of boxes are the same if their default boxes are.
    """
    head = spec.head
    if isinstance(head, HeadSpec):
        return f"{head.kind}{'' if head.channels else ' without convolution'}", {}
    if isinstance(head, LRASPPHead):
        return head.kind, dict.fromkeys(class_layers(head), f"{head.kind} classes")
    boxes = f"{head.kind} {head.lowest_anchors} {head.aspect_ratios}"
    further = f".{head.levels - 1}.conv" if head.c3_scale is not None else ""
    return head.kind, {
        path: f"{boxes} C3" if further and path.endswith(further) else boxes for path in output_ops(spec)
    }


def _moved(channels: range, by: int) -> range:
    return range(channels.start + by, channels.stop + by)
