"""Carry the weights of one network to another that contains it or is part of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from math import sqrt

import torch
from torch import Tensor

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, quoted
from nas.model.weights.channel_maps import ChannelMaps, match_layers
from nas.model.weights.coupling import weight_layers
from nas.model.weights.importance import Importance, weighted_input_norm
from nas.model.weights.layers import COUNTER, STATISTICS, WeightLayer, WeightLayers
from nas.model.weights.report import CarriedLayer, CarriedWeights
from nas.model.weights.tensors import CarriedTensor, State, carry_filters, carry_vector


def carry_weights(
    source: ArchSpec,
    state: State,
    target: ArchSpec,
    initial: State | None,
    *,
    importance: Importance = weighted_input_norm,
) -> CarriedWeights:
    """Carry weights to ``target`` wherever it contains ``source`` or is part of it.

    ``state``: state dict of the source. ``initial``: that of a newly built target on the same device, of which all is
    taken that the source lacks, and the data types; None where the source lacks nothing, as in shrinking.

    Blocks continue those at the same position of the same stage if they have the same type, the head one of the same
    kind, the classifier one with as many classes, the stem one with as many input channels. Of coupled channels (a
    stage's outputs, a block's hidden channels, an attention's heads, ...) those with the highest ``importance`` are
    kept in their order; a channel stays in the MixConv group that has its kernel, and in the group of a grouped
    convolution that connects it. Kernels are cropped around their centre or padded by zeros. Running statistics are
    carried with their channels. Activations, strides and paddings are the target's.

    In evaluation, a smaller target computes what the source computes with the removed channels set to 0 after norm and
    activation, removed taps and connections between groups set to 0, and removed blocks replaced by their shortcuts. A
    larger one computes the same function: old filters read new channels with weight 0, filters that compute new
    channels are those of ``initial``, and the last norm of new blocks with a shortcut is 0 (``zero_init_residual``).
    Neither holds where other layers are drawn anew, and for blocks of ``changed_shortcuts``.

    Raises: NasError for networks with different numbers of stages or only one layer scale, for a state dict that lacks
    a tensor of its network or has one of another shape, and where ``initial`` is None but needed.
    """
    _check_networks(source, target)
    before, after = weight_layers(source), weight_layers(target)
    _check_tensors(source, before, state)
    if initial is not None:
        _check_tensors(target, after, initial)
    with torch.no_grad():
        carrier = _Carrier(before, after, state, _NoWeights(target) if initial is None else initial, importance)
        rows = tuple([carrier.carry(layer) for layer in after.layers.values()])
        _zero_new_blocks(after, carrier.continued, carrier.result)
    return CarriedWeights(
        state=carrier.result,
        layers=rows,
        left_out={path: layer.params for path, layer in before.layers.items() if path not in carrier.matches},
        changed_shortcuts=tuple(
            [block for block in carrier.continued if (block in before.branch_ends) != (block in after.branch_ends)]
        ),
    )


def _check_networks(source: ArchSpec, target: ArchSpec) -> None:
    """Check that blocks can be matched. Raises: NasError."""
    if len(source.stages) != len(target.stages):
        raise NasError(
            f"weights of {source.name}: it has {len(source.stages)} stages, {target.name} has {len(target.stages)}; "
            "weights are carried between networks with the same number of stages."
        )
    if (source.layer_scale is None) != (target.layer_scale is None):
        raise NasError(
            f"weights of {source.name}: layer_scale is {quoted(source.layer_scale)}, that of {target.name} "
            f"{quoted(target.layer_scale)}; give both networks one, or none."
        )


class _NoWeights(Mapping[str, Tensor]):
    """Stands for initial weights that are not given."""

    def __init__(self, target: ArchSpec) -> None:
        self.name = target.name

    def __getitem__(self, name: str) -> Tensor:
        raise NasError(f"weights of {self.name}: nothing can be carried to {name}; give initial weights.")

    def __contains__(self, name: object) -> bool:
        return False

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[str]:
        return iter(())


class _Carrier:
    """Carries layer by layer; ``result`` is the state dict so far."""

    def __init__(
        self, before: WeightLayers, after: WeightLayers, state: State, initial: State, importance: Importance
    ) -> None:
        self.matches = match_layers(before, after)
        self.continued = dict.fromkeys(layer.block for layer in self.matches.values())  # blocks
        self.maps = ChannelMaps(before, after, self.matches, state, importance)
        self.before, self.after, self.state, self.initial = before, after, state, initial
        self.result: dict[str, Tensor] = {}

    def carry(self, layer: WeightLayer) -> CarriedLayer:
        row = CarriedLayer(
            path=layer.path,
            block=layer.block,
            params=layer.params,
            channels=(layer.in_channels, layer.out_channels),
            kernels=layer.kernels,
        )
        counters = [f"{layer.norm}.{COUNTER}"] if layer.norm else []
        other = self.matches.get(layer.path)
        if other is None:
            names = [*layer.shapes, *(name for name in counters if name in self.initial)]
            self.result.update({name: self.initial[name].clone() for name in names})
            return row
        inputs, outputs = self.maps.inputs(layer, other), self.maps.outputs(layer, other)
        carried = carry_filters(layer, other, inputs, outputs, self.state, self.initial)
        if layer.outputs in self.after.pairs:
            carried = {name: self.keep_logits(layer, other, tensor) for name, tensor in carried.items()}
        carried |= {name: carry_vector(name, outputs, self.state, self.initial) for name in layer.vectors}
        self.result.update({name: self.as_initial(name, tensor.value) for name, tensor in carried.items()})
        for name in counters:
            found = self.state if name in self.state else self.initial
            if name in found:
                self.result[name] = found[name].clone()
        return replace(
            row,
            carried_params=sum([tensor.carried for name, tensor in carried.items() if not name.endswith(STATISTICS)]),
            source_params=other.params,
            source_channels=(other.in_channels, other.out_channels),
            source_kernels=other.kernels,
            inputs=inputs.sources,
            outputs=outputs.sources,
        )

    def as_initial(self, name: str, value: Tensor) -> Tensor:
        """``value`` in the data type of the target's tensor ``name``."""
        return value.to(self.initial[name].dtype) if self.initial else value

    def keep_logits(self, layer: WeightLayer, other: WeightLayer, queries: CarriedTensor) -> CarriedTensor:
        """Adapt the filters ``queries`` of an attention to another number of channels.

        A logit is divided by the root of the number; queries are multiplied by what that changes. The queries of old
        heads in new channels are 0, so that new channels add nothing to a logit.
        """
        heads, channels = self.after.pairs[layer.outputs]
        old_heads, old_channels = self.before.pairs[other.outputs]
        size, old_size = self.after.sets[channels].size, self.before.sets[old_channels].size
        if size == old_size:
            return queries
        old_head = torch.tensor(self.maps.sets(heads, old_heads).sources) >= 0
        old_channel = torch.tensor(self.maps.sets(channels, old_channels).sources) >= 0
        value = queries.value.reshape(len(old_head), size, *queries.value.shape[1:])
        value[old_head] *= sqrt(size / old_size)
        value[old_head[:, None] & ~old_channel] = 0
        return queries._replace(value=value.flatten(0, 1))


def _zero_new_blocks(after: WeightLayers, continued: Collection[str], result: dict[str, Tensor]) -> None:
    """Zero the last norm (or layer) of new blocks with a shortcut.

    They begin as the identity."""
    for block, path in after.branch_ends.items():
        if block not in continued:
            layer = after.layers[path]
            for name in (f"{layer.norm}.weight", f"{layer.norm}.bias") if layer.norm else layer.weights:
                result[name].zero_()


def _check_tensors(spec: ArchSpec, layers: WeightLayers, state: Mapping[str, Tensor]) -> None:
    """Check that ``state`` has every tensor of ``spec`` in its shape.

    Raises: NasError.
    """
    for layer in layers.layers.values():
        for name, shape in layer.shapes.items():
            if name not in state:
                raise NasError(f"weights of {spec.name}: have no tensor {name}; give those of this network.")
            if tuple(state[name].shape) != shape:
                found, wanted = ("x".join(map(str, sides)) for sides in (state[name].shape, shape))
                raise NasError(
                    f"weights of {spec.name}: {name} is {found}, the network has {wanted}; give those of this network."
                )
