"""Source networks without the channels, taps and connections that a target lacks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nas.arch.ops.network import Op, network_ops
from nas.arch.spec import ArchSpec
from nas.model.build import build
from nas.model.weights import CarriedLayer, CarriedWeights, carry_weights


def random_network(spec: ArchSpec, seed: int) -> nn.Module:
    """Module of ``spec`` in evaluation at float64; its norms and biases are random."""
    torch.manual_seed(seed)
    model = build(spec, dropout=0, drop_path=0).double().eval()
    for name, value in model.state_dict().items():
        if name.endswith(("running_var", "gamma")) or (value.ndim == 1 and name.endswith("weight")):
            value.uniform_(0.5, 1.5)
        elif name.endswith(("running_mean", "bias")):
            value.normal_(std=0.3)
        elif name.endswith("num_batches_tracked"):
            value.fill_(7)
    return model


def carry(model: nn.Module, source: ArchSpec, target: ArchSpec, **arguments: Any) -> CarriedWeights:
    """Carry the weights of ``model`` to ``target``, whose own are random too."""
    return carry_weights(source, model.state_dict(), target, random_network(target, 1).state_dict(), **arguments)


def loaded(spec: ArchSpec, carried: CarriedWeights) -> nn.Module:
    """Module of the target ``spec`` with its carried weights."""
    model = build(spec, dropout=0, drop_path=0).double().eval()
    model.load_state_dict(carried.state)
    return model


def logits(model: nn.Module, spec: ArchSpec, resolution_px: int = 24) -> Tensor:
    """Logits of three random images."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(3, spec.in_channels, resolution_px, resolution_px, generator=generator, dtype=torch.double)
    with torch.inference_mode():
        outputs: Tensor = model(images)
    assert outputs.std() > 0
    return outputs


def whole_layers(spec: ArchSpec) -> Iterator[tuple[str, list[Op]]]:
    """Path and operations of each layer with weights; several if it has groups."""
    ops = list(network_ops(spec))
    whole_of = {path: op.path for op in ops if op.kind == "concat" for path in op.inputs}
    layers: dict[str, list[Op]] = {}
    for op in ops:
        if op.weights or op.kind == "norm":
            layers.setdefault(whole_of.get(op.path, op.path), []).append(op)
    yield from layers.items()


def masked_source(model: nn.Module, source: ArchSpec, target: ArchSpec, carried: CarriedWeights) -> nn.Module:
    """The module of ``source`` with everything set to zero that ``target`` lacks.

    Channels by hooks after norm and activation, taps and connections in the weights; blocks that it lacks, which need a
    shortcut, are the identity.
    """
    model = copy.deepcopy(model)
    rows = {row.path: row for row in carried.layers}
    targets = dict(whole_layers(target))
    for path, ops in whole_layers(source):
        if path not in targets:
            continue
        row, channels = rows[path], sum(op.out_channels for op in ops)
        continued = [channel for channel in row.outputs if channel >= 0]
        assert len(row.outputs) == row.channels[1] and len(set(continued)) == len(continued)
        kept = torch.zeros(channels, dtype=torch.double)
        kept[continued] = 1
        if ops[0].kind == "linear":
            assert kept.all()
        else:
            model.get_submodule(ops[0].norm or path).register_forward_hook(_masking(kept))
        if path.endswith("attn.query.proj"):  # what a removed head adds to the output, whatever its queries
            heads = model.get_submodule(path.replace("query", "output"))
            heads.register_forward_pre_hook(_masking_input(_kept_heads(source, path, kept)))
        if any(op.kernel > 1 for op in ops):
            _zero_taps(model, ops, targets[path], row)
        if ops[0].kind == "conv" and len(targets[path]) + targets[path][0].groups > 2:
            _zero_connections(model, ops, targets[path], row)
    stages: Any = model.get_submodule("blocks")
    for stage, wanted in zip(stages, target.stages, strict=True):
        assert all(block.has_skip for block in stage[wanted.depth :])
        del stage[wanted.depth :]
    return model


def _masking(kept: Tensor) -> Callable[..., Tensor]:
    return lambda module, args, output: output * kept[:, None, None]


def _masking_input(kept: Tensor) -> Callable[..., tuple[Tensor]]:
    return lambda module, args: (args[0] * kept[:, None, None],)


def _kept_heads(spec: ArchSpec, queries: str, kept: Tensor) -> Tensor:
    """1 for every channel of a head that keeps a query, 0 for the others."""
    block = next(placed.block for placed in spec.placed_blocks() if queries.startswith(f"{placed.path}."))
    heads = kept.reshape(block.heads, block.key_channels).amax(1)
    return heads.repeat_interleave(block.key_channels)


def _zero_taps(model: nn.Module, ops: Sequence[Op], targets: Sequence[Op], row: CarriedLayer) -> None:
    """Zero the taps of kernels at which the kernel that continues them has none."""
    kernels = [(op.kernel, op.dilation) for op in targets for _ in range(op.out_channels)]
    wanted = dict(zip(row.outputs, kernels, strict=True))
    channel = 0
    for op in ops:
        weight: Any = model.get_submodule(op.path).weight
        for filters in weight.data:
            side, dilation = wanted.get(channel, (op.kernel, op.dilation))
            there = {dilation * (tap - side // 2) for tap in range(side)}
            for tap in range(op.kernel):
                if op.dilation * (tap - op.kernel // 2) not in there:
                    filters[:, tap] = 0
                    filters[:, :, tap] = 0
            channel += 1


def _zero_connections(model: nn.Module, ops: Sequence[Op], targets: Sequence[Op], row: CarriedLayer) -> None:
    """Zero the weights between channels that are in different groups of the target."""
    group_of_input, group_of_output = (
        {
            channel: group
            for channel, group in zip(
                channels,
                [
                    (number, inner)
                    for number, op in enumerate(targets)
                    for inner in range(op.groups)
                    for _ in range(getattr(op, side) // op.groups)
                ],
                strict=True,
            )
            if channel >= 0
        }
        for channels, side in ((row.inputs, "in_channels"), (row.outputs, "out_channels"))
    )
    first_input = first_output = 0
    for op in ops:
        weight: Any = model.get_submodule(op.path).weight
        ins, outs = op.in_channels // op.groups, op.out_channels // op.groups
        for index, filters in enumerate(weight.data):
            group = group_of_output.get(first_output + index)
            for column in range(ins):
                channel = first_input + index // outs * ins + column
                if group_of_input.get(channel, group) != group:
                    filters[column] = 0
        first_input, first_output = first_input + op.in_channels, first_output + op.out_channels
