"""Independent cost counts by torch: the oracle for ``nas.arch.complexity``."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from unittest.mock import patch

import torch
from timm.layers import LayerScale2d, SelectAdaptivePool2d
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.utils.flop_counter import FlopCounterMode

COMPUTING = (nn.Conv2d, nn.Linear, SelectAdaptivePool2d)
COMPUTING_CALLS = ("mean", operator.mul, operator.add, torch.cat)


def counts(model: nn.Module, in_channels: int, px: int) -> tuple[int, int, int]:
    """Return (parameters, multiply-adds, activations) of a meta-device module.

    The input is (1, in_channels, px, px).
    """
    outputs: list[int] = []
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.numel()))
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    with FlopCounterMode(display=False) as counter, torch.no_grad(), _quick_norms():
        model.eval()(torch.empty(1, in_channels, px, px, device="meta"))
    for hook in hooks:
        hook.remove()
    flops = counter.get_total_flops()
    assert flops % 2 == 0  # a multiply-add is two of them
    return sum(parameter.numel() for parameter in model.parameters()), flops // 2, sum(outputs)


@contextmanager
def without_storage() -> Iterator[None]:
    """Context that builds modules on the meta device and skips weight initialisation."""
    names = ("normal_", "uniform_", "kaiming_uniform_", "kaiming_normal_", "trunc_normal_", "ones_", "zeros_")
    with torch.device("meta"), ExitStack() as stack:
        for name in names:
            stack.enter_context(patch.object(nn.init, name, lambda tensor, *_args, **_kwargs: tensor))
        yield


def _quick_norms() -> AbstractContextManager[object]:
    """Patch batch norms to the identity.

    They change no count, and are slow on the meta device.
    """
    return patch.object(nn.functional, "batch_norm", lambda images, *_args, **_kwargs: images)


class _Tracer(fx.Tracer):
    """Tracer with convolutions, norms, layer scales and poolings as leaves."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        whole = isinstance(module, (*COMPUTING, nn.BatchNorm2d, LayerScale2d))
        return whole or super().is_leaf_module(module, qualified_name)


def peak_memory_bytes(model: nn.Module, in_channels: int, px: int) -> int:
    """Peak sum of live float32 tensors in the traced graph of a meta-device module.

    The input is (1, in_channels, px, px). Convolutions, linear layers, pooling, multiplication, addition and
    concatenation allocate a tensor; anything else (norm, layer scale, activation, gate, split, flatten, identity)
    works in place or is a view of its first argument.
    """
    graph = _Tracer().trace(model.eval())
    module = fx.GraphModule(model, graph)
    with _quick_norms():
        ShapeProp(module).propagate(torch.empty(1, in_channels, px, px, device="meta"))
    nodes = [node for node in graph.nodes if node.op != "output"]
    tensor: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        allocates = node.op == "placeholder" or _computes(node, model)
        tensor[node] = node if allocates else tensor[node.all_input_nodes[0]]
    last_read = {
        tensor[source]: index
        for index, node in enumerate(nodes)
        if tensor[node] is node
        for source in node.all_input_nodes
    }
    sizes = {node: 4 * node.meta["tensor_meta"].shape.numel() for node in nodes if tensor[node] is node}
    peak, alive = 0, dict[fx.Node, int]()
    for index, node in enumerate(nodes):
        if tensor[node] is node:
            alive[node] = sizes[node]
            if node.op != "placeholder":
                peak = max(peak, sum(alive.values()))
            alive = {made: size for made, size in alive.items() if last_read.get(made, -1) > index}
    return peak


def _computes(node: fx.Node, model: nn.Module) -> bool:
    if node.op == "call_module":
        return isinstance(model.get_submodule(str(node.target)), COMPUTING)
    return node.target in COMPUTING_CALLS
