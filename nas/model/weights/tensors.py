"""Tensors of a layer of the target network from those of the source's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from nas.model.weights.channel_maps import ChannelMap
from nas.model.weights.layers import FilterGroup, WeightLayer

State: TypeAlias = Mapping[str, Tensor]


class CarriedTensor(NamedTuple):
    """A tensor of the target network, and how many of its elements are the source's."""

    value: Tensor
    carried: int


def carry_vector(name: str, outputs: ChannelMap, state: State, initial: State) -> CarriedTensor:
    """Carry the tensor ``name`` with one value per output channel (C,).

    New channels have those of ``initial``.
    """
    value = _select(state[name], outputs, 0)
    if outputs.new:
        value[outputs.new] = initial[name][outputs.new].to(value.dtype)
    return CarriedTensor(value, len(outputs.sources) - len(outputs.new))


def carry_filters(
    layer: WeightLayer, other: WeightLayer, inputs: ChannelMap, outputs: ChannelMap, state: State, initial: State
) -> dict[str, CarriedTensor]:
    """Carry the weights of the source's layer ``other`` to ``layer``.

    By name in the state dict. Kernels are cropped around their centre or padded by zeros: a tap of the target has the
    weight of the source's tap at the same distance from the centre, dilations included. Filters of new outputs are
    those of ``initial``. In all others the weights of new inputs are 0, and so are those of inputs that the source's
    filter does not read because they are in another group.
    """
    if layer.groups == other.groups and inputs.is_identity and outputs.is_identity:
        return {name: CarriedTensor(state[name].clone(), state[name].numel()) for name in layer.weights}
    columns = None if layer.kind == "depthwise" else inputs
    if len(layer.groups) == len(other.groups) == 1:
        (group,), (old_group,) = layer.groups, other.groups
        return {group.weight: _carry_all(group, old_group, columns, outputs, state, initial)}
    owners = [index for index, group in enumerate(other.groups) for _ in group.outputs]
    parts: dict[str, list[CarriedTensor]] = defaultdict(list)
    for group in layer.groups:
        parts[group.weight].append(_carry_group(group, other.groups, owners, columns, outputs, state, initial))
    return {
        name: CarriedTensor(torch.cat([part.value for part in found]), sum([part.carried for part in found]))
        for name, found in parts.items()
    }


def _carry_all(
    group: FilterGroup,
    other: FilterGroup,
    inputs: ChannelMap | None,
    outputs: ChannelMap,
    state: State,
    initial: State,
) -> CarriedTensor:
    """Carry the only filters of a layer; ``inputs``: None for depthwise ones."""
    value, taps = _carry_taps(_select(state[other.weight], outputs, 0), other, group)
    columns = 1
    if inputs is not None:
        value = value if inputs.is_identity else _select(value, inputs, 1)
        columns = len(inputs.sources) - len(inputs.new)
        if inputs.new:
            value[:, inputs.new] = 0
    if outputs.new:
        value[outputs.new] = initial[group.weight][outputs.new].to(value.dtype)
    return CarriedTensor(value, (len(outputs.sources) - len(outputs.new)) * columns * taps)


def _carry_group(
    group: FilterGroup,
    others: Sequence[FilterGroup],
    owners: Sequence[int],
    inputs: ChannelMap | None,
    outputs: ChannelMap,
    state: State,
    initial: State,
) -> CarriedTensor:
    """Carry one of several groups of filters.

    ``owners``: group of each of the source's filters. ``inputs``: None for depthwise filters.
    """
    channels = outputs.sources[group.outputs.start : group.outputs.stop]
    read = None if inputs is None else inputs.sources[group.inputs.start : group.inputs.stop]
    rows: dict[int, list[int]] = defaultdict(list)  # by group of the source
    for row, channel in enumerate(channels):
        rows[owners[channel] if channel >= 0 else -1].append(row)
    pieces = []
    for owner, found in rows.items():
        if owner < 0:
            fresh = initial[group.weight][group.row : group.row + len(channels)][found]
            pieces.append(CarriedTensor(fresh.to(state[others[0].weight].dtype), 0))
        else:
            pieces.append(_carry_rows(group, others[owner], [channels[row] for row in found], read, state))
    value = pieces[0].value if len(pieces) == 1 else torch.cat([piece.value for piece in pieces])
    order = [row for found in rows.values() for row in found]
    if order != sorted(order):
        value = value[torch.tensor(order).argsort()]
    return CarriedTensor(value, sum([piece.carried for piece in pieces]))


def _carry_rows(
    group: FilterGroup, other: FilterGroup, channels: Sequence[int], read: Sequence[int] | None, state: State
) -> CarriedTensor:
    """Filters of the source's ``channels``, which are in its group ``other``.

    ``read``: source channels that the target's group reads, None for depthwise filters.
    """
    weight = state[other.weight]
    filters = weight.index_select(0, _index(channels, other.outputs.start - other.row, weight))
    filters, taps = _carry_taps(filters, other, group)
    if read is None:
        return CarriedTensor(filters, len(channels) * taps)
    to = [column for column, channel in enumerate(read) if channel in other.inputs]
    found = filters.index_select(1, _index([read[column] for column in to], other.inputs.start, weight))
    if len(to) < len(read):
        value = filters.new_zeros(len(channels), len(read), *filters.shape[2:])
        value[:, to] = found
        found = value
    return CarriedTensor(found, len(channels) * len(to) * taps)


def _index(channels: Sequence[int], start: int, like: Tensor) -> Tensor:
    """Index tensor of ``channels`` counted from ``start``, on the device of ``like``."""
    return torch.tensor(channels, dtype=torch.long, device=like.device) - start


def _carry_taps(weight: Tensor, other: FilterGroup, group: FilterGroup) -> tuple[Tensor, int]:
    """Kernels of ``group`` from the kernels ``weight`` (out, in, k, k) of ``other``.

    Also the number of taps of a kernel that both have.
    """
    if (group.kernel, group.dilation) == (other.kernel, other.dilation):
        return weight, group.kernel**2
    taps = {other.dilation * (tap - other.kernel // 2): tap for tap in range(other.kernel)}
    wanted = [group.dilation * (tap - group.kernel // 2) for tap in range(group.kernel)]
    to = torch.tensor([tap for tap, distance in enumerate(wanted) if distance in taps])
    of = torch.tensor([taps[distance] for distance in wanted if distance in taps])
    value = weight.new_zeros(*weight.shape[:2], group.kernel, group.kernel)
    value[..., to[:, None], to] = weight[..., of[:, None], of]
    return value, len(of) ** 2


def _select(tensor: Tensor, channels: ChannelMap, dim: int) -> Tensor:
    """Copy the source channels of ``tensor`` along ``dim``; any for new ones."""
    return tensor.clone() if channels.is_identity else tensor.index_select(dim, channels.index.to(tensor.device))
