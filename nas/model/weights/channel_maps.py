"""Which channels of a source network the channels of a target network continue."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from nas.arch.rounding import split_channels
from nas.model.weights.importance import Importance
from nas.model.weights.labels import ChannelLabels, choose_channels
from nas.model.weights.layers import WeightLayer, WeightLayers

_Side: TypeAlias = Literal["inputs", "outputs"]


class ChannelMap:
    """Source channel of each target channel, -1 for a channel that is new.

    ``sources``: by target channel, no source channel twice. ``size``: number of source channels.
    """

    def __init__(self, sources: Sequence[int], size: int) -> None:
        self.sources, self.size = tuple(sources), size

    @cached_property
    def is_identity(self) -> bool:
        """Whether every channel stays what and where it is."""
        return self.sources == tuple(range(self.size))

    @cached_property
    def new(self) -> list[int]:
        """Target channels without a source."""
        return [index for index, source in enumerate(self.sources) if source < 0]

    @cached_property
    def index(self) -> Tensor:
        """The sources as an index tensor, 0 for new channels."""
        return torch.tensor(self.sources).clamp_(min=0)


def match_layers(before: WeightLayers, after: WeightLayers) -> dict[str, WeightLayer]:
    """The source's layer that each target layer continues, by the target's path.

    It has the same path in a block of the same type (or a head of the same kind) and is of the same kind. The stem must
    have the same input channels, the classifier the same classes, predictions of boxes the same default boxes.
    """
    matches = {}
    for path, layer in after.layers.items():
        other = before.layers.get(path)
        if other is None or _signature(other) != _signature(layer):
            continue
        if layer.part == "stem" and layer.in_channels != other.in_channels:
            continue
        if layer.predicts and layer.out_channels != other.out_channels:
            continue
        matches[path] = other
    return matches


def _signature(layer: WeightLayer) -> tuple[object, ...]:
    return layer.part, layer.kind, layer.bias, layer.norm


class ChannelMaps:
    """Channel maps between two networks with the layers ``matches``.

    Where the target has fewer channels of a set, the most important ones of the source are kept, in their order. A
    channel stays in the group of a grouped convolution that connects it, and in the group of a MixConv that has its
    kernel; channels whose kernel is gone fill places of other kernels, the largest first.
    """

    def __init__(
        self,
        before: WeightLayers,
        after: WeightLayers,
        matches: Mapping[str, WeightLayer],
        state: Mapping[str, Tensor],
        importance: Importance,
    ) -> None:
        self._before, self._after, self._state, self._importance = before, after, state, importance
        self._scores: dict[int, Tensor] = {}
        self._maps: dict[tuple[int, int], ChannelMap] = {}
        self._kept_groups: dict[tuple[int, int, int], list[int]] = {}
        self._grouped: dict[tuple[int, int], list[tuple[WeightLayer, WeightLayer, _Side]]] = defaultdict(list)
        for path, other in matches.items():
            layer = after.layers[path]
            if len(layer.groups) > 1 or len(other.groups) > 1:
                self._grouped[layer.outputs, other.outputs].append((layer, other, "outputs"))
                if layer.kind != "depthwise":
                    self._grouped[layer.inputs, other.inputs].append((layer, other, "inputs"))

    def outputs(self, layer: WeightLayer, other: WeightLayer) -> ChannelMap:
        """Map of the outputs of the target's ``layer`` to those of the source's."""
        return self.sets(layer.outputs, other.outputs)

    def inputs(self, layer: WeightLayer, other: WeightLayer) -> ChannelMap:
        """Map of the inputs of the target's ``layer`` to those of the source's."""
        return self.sets(layer.inputs, other.inputs)

    def sets(self, after: int, before: int) -> ChannelMap:
        """Map of a set of the target's channels to a set of the source's, by index."""
        found = self._maps.get((after, before))
        if found is None:
            found = self._maps[after, before] = self._new_map(after, before)
        return found

    def _new_map(self, after: int, before: int) -> ChannelMap:
        if after in self._after.pairs:
            (outer, inner), (old_outer, old_inner) = self._after.pairs[after], self._before.pairs[before]
            return _all_pairs(self.sets(outer, old_outer), self.sets(inner, old_inner))
        size, old_size = self._after.sets[after].size, self._before.sets[before].size
        grouped = self._grouped.get((after, before), [])
        changed = size != old_size or any(_parts(layer, side) != _parts(other, side) for layer, other, side in grouped)
        if grouped and changed:
            sources = choose_channels([self._labels(*one) for one in grouped], self._score(before).tolist())
        elif size < old_size:
            order = torch.sort(self._score(before), descending=True, stable=True).indices
            sources = order[:size].sort().values.tolist()
        else:
            sources = [*range(old_size), *[-1] * (size - old_size)]
        return ChannelMap(sources, old_size)

    def _score(self, before: int) -> Tensor:
        """Importance of the channels of a set of the source."""
        if before not in self._scores:
            self._scores[before] = self._importance(self._before.sets[before], self._state)
        return self._scores[before]

    def _labels(self, layer: WeightLayer, other: WeightLayer, side: _Side) -> ChannelLabels:
        """Labels of the channels on one ``side`` of a layer with groups.

        Of a depthwise convolution kernels and dilations. Of others the group: where the target has fewer, the source's
        are joined if that is possible; else the source's channels are divided as the target's.
        """
        sizes, old_sizes = ([len(getattr(group, side)) for group in one.groups] for one in (layer, other))
        if layer.kind == "depthwise":
            names, old_names = ([(group.kernel, group.dilation) for group in one.groups] for one in (layer, other))
            return ChannelLabels(_repeated(old_names, old_sizes), _repeated(names, sizes), True)
        count, old_count = len(sizes), len(old_sizes)
        labels: Sequence[Hashable] = range(count)
        old_labels: Sequence[Hashable] = range(old_count)
        if count != old_count and _group_sizes(layer) == _group_sizes(other):
            labels = self._choose_groups(layer, other)
        elif old_count % count == 0:
            old_labels = [group * count // old_count for group in range(old_count)]
        else:
            old_labels, old_sizes = labels, [*split_channels(sum(old_sizes), count)]
        return ChannelLabels(_repeated(old_labels, old_sizes), _repeated(labels, sizes), False)

    def _choose_groups(self, layer: WeightLayer, other: WeightLayer) -> list[Hashable]:
        """Name of the source's group that each group of ``layer`` continues.

        Groups have the same sizes in both, their number differs: of fewer the most important ones are kept.
        """
        count, old_count = len(layer.groups), len(other.groups)
        if count > old_count:
            return [group if group < old_count else f"new {group}" for group in range(count)]
        ends = ((layer.inputs, other.inputs, count), (layer.outputs, other.outputs, count))
        for end in ends:  # a set that another grouped convolution has chosen groups of
            if end in self._kept_groups:
                return list(self._kept_groups[end])
        ins, outs = self._score(other.inputs).tolist(), self._score(other.outputs).tolist()
        scores = [sum(ins[i] for i in group.inputs) + sum(outs[i] for i in group.outputs) for group in other.groups]
        kept = sorted(sorted(range(old_count), key=lambda group: -scores[group])[:count])
        self._kept_groups.update(dict.fromkeys(ends, kept))
        return list(kept)


def _parts(layer: WeightLayer, side: _Side) -> list[tuple[range, int, int]]:
    """Channels of each group on one side, with kernel and dilation."""
    return [(getattr(group, side), group.kernel, group.dilation) for group in layer.groups]


def _group_sizes(layer: WeightLayer) -> set[tuple[int, int]]:
    return {(len(group.inputs), len(group.outputs)) for group in layer.groups}


def _repeated(names: Sequence[Hashable], sizes: Sequence[int]) -> list[Hashable]:
    return [name for name, size in zip(names, sizes, strict=True) for _ in range(size)]


def _all_pairs(outer: ChannelMap, inner: ChannelMap) -> ChannelMap:
    """Map of all pairs (outer, inner) of channels; new where one of the two is."""
    sources = [
        first * inner.size + second if first >= 0 and second >= 0 else -1
        for first in outer.sources
        for second in inner.sources
    ]
    return ChannelMap(sources, outer.size * inner.size)
