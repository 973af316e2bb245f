"""Criteria of the importance of channels, by which those to keep are chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import pi, sqrt
from typing import Final, TypeAlias

import torch
from torch import Tensor

from nas.model.weights.layers import ChannelRole, CoupledChannels, WeightLayer

# Importance (size,) of each of a set of coupled channels, from the state dict of their network: the larger, the
# longer a channel is kept. Of equally important channels the first are kept.
Importance: TypeAlias = Callable[[CoupledChannels, Mapping[str, Tensor]], Tensor]

_SMALLEST: Final = 1e-12  # standard deviation of a channel that is always the same


def weighted_input_norm(channels: CoupledChannels, state: Mapping[str, Tensor]) -> Tensor:
    """Importance of channels by what the layers that read them get from them.

    For a layer, the L2 norm of the weights that read the channel times the channel's root mean square: to first order,
    how much its outputs change when the channel is set to zero (Wanda, arXiv:2306.11695, equation 1, for whole
    channels). The root mean square follows from the batch norm before: values are normal with its bias as mean and its
    weight as deviation, rectified where an activation follows, and those that a shortcut adds up are independent. Of
    several layers, each in units of its root mean square over the channels, the root mean square. Channels that none
    reads with weights (attention keys) have their ``filter_norm``.

    It needs no images, and kept more accuracy than ``filter_norm``, which favours channels that vary little, and than
    random channels (tests/benchmarks/RESULTS.md).
    """
    computed = {role.layer.path: role for role in channels.producers}
    total = torch.zeros(channels.size)
    for role in channels.consumers:
        if role.layer.kind in ("depthwise", "norm"):  # its outputs are the same channels
            continue
        squares = _by_channel(_column_squares(role.layer, state), role, channels.size)
        terms = [computed[path] for path in role.layer.reads if path in computed]
        if terms:
            squares = squares * sum(_by_channel(_mean_squares(one.layer, state), one, channels.size) for one in terms)
        total = total + _in_units_of_mean(squares)
    return total.sqrt() if total.any() else filter_norm(channels, state)


def filter_norm(channels: CoupledChannels, state: Mapping[str, Tensor]) -> Tensor:
    """Importance of channels by the L2 norm of the filters that compute them.

    The batch norm that follows is folded in: a filter is multiplied by weight / sqrt(running_var + eps). Of several
    layers, each in units of its root mean square, the root mean square. Gates of squeeze-excite do not count. Source,
    with the L1 norm of one layer: Li et al., Pruning Filters for Efficient ConvNets, arXiv:1608.08710, section 3.1.
    """
    total = torch.zeros(channels.size)
    for role in channels.producers:
        if role.layer.groups and not role.layer.gates:
            total = total + _in_units_of_mean(_by_channel(_folded_squares(role.layer, state), role, channels.size))
    return total.sqrt()


def _filter_squares(layer: WeightLayer, state: Mapping[str, Tensor]) -> Tensor:
    """Squared norms (out channels,) of a layer's filters."""
    return torch.cat([_weight(state, name).flatten(1).square().sum(1) for name in layer.weights])


def _folded_squares(layer: WeightLayer, state: Mapping[str, Tensor]) -> Tensor:
    """Squared norms (out channels,) of a layer's filters, the batch norm folded in."""
    squares = _filter_squares(layer, state)
    if layer.norm:
        weight, variance = (_weight(state, f"{layer.norm}.{name}") for name in ("weight", "running_var"))
        squares = squares * weight.square() / (variance + layer.norm_eps)
    return squares


def _column_squares(layer: WeightLayer, state: Mapping[str, Tensor]) -> Tensor:
    """Squared norms (in channels,) of the weights that read each input of a layer."""
    squares = torch.zeros(layer.in_channels)
    for group in layer.groups:
        filters = _weight(state, group.weight)[group.row : group.row + len(group.outputs)]
        columns = filters.flatten(2) if filters.ndim > 2 else filters[..., None]
        squares[group.inputs.start : group.inputs.stop] += columns.square().sum((0, 2))
    return squares


def _mean_squares(layer: WeightLayer, state: Mapping[str, Tensor]) -> Tensor:
    """Mean squares (out channels,) of a layer's outputs.

    Those of a layer without a batch norm are of inputs with a mean square of 1.
    """
    if not layer.norm:
        return _filter_squares(layer, state)
    deviation, mean = (_weight(state, f"{layer.norm}.{name}") for name in ("weight", "bias"))
    if layer.scale:
        deviation, mean = (values * _weight(state, f"{layer.scale}.gamma") for values in (deviation, mean))
    squares = mean.square() + deviation.square()
    if layer.activation is None:
        return squares
    deviation = deviation.abs().clamp(min=_SMALLEST)  # the other activations differ little from a rectifier
    ratio = mean / deviation
    density = torch.exp(-ratio.square() / 2) / sqrt(2 * pi)
    below: Tensor = torch.special.ndtr(ratio)
    return squares * below + mean * deviation * density


def _weight(state: Mapping[str, Tensor], name: str) -> Tensor:
    return state[name].detach().float().cpu()


def _by_channel(values: Tensor, role: ChannelRole, size: int) -> Tensor:
    """Sum ``values`` of a layer's outputs or inputs to one per channel of a set."""
    return values.reshape(role.before, size, role.after).sum((0, 2))


def _in_units_of_mean(squares: Tensor) -> Tensor:
    mean = squares.mean()
    return squares / mean if mean > 0 else squares
