"""Activations of a timm module; contexts without some of its layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from timm.layers import get_act_layer
from torch import Tensor, nn

from nas.arch.spec import NETWORK_ACTIVATIONS


def activation_layers(model: nn.Module) -> list[nn.Module]:
    """Return the activations of ``model`` in the order of its modules.

    Those between convolutions and inside squeeze-excite, without its gates.
    """
    kinds = tuple(get_act_layer(name) for name in NETWORK_ACTIVATIONS)
    return [module for module in model.modules() if isinstance(module, kinds)]


@contextmanager
def linear_activations(model: nn.Module) -> Iterator[None]:
    """Context in which every activation of ``model`` is the identity."""
    layers = activation_layers(model)
    try:
        for layer in layers:
            layer.forward = _identity  # of this module alone, not of its class
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


@contextmanager
def without_shortcuts(model: nn.Module) -> Iterator[None]:
    """Context in which the blocks of ``model`` have no shortcut."""
    blocks: list[Any] = [module for module in model.modules() if getattr(module, "has_skip", False)]
    try:
        for block in blocks:
            block.has_skip = False
        yield
    finally:
        for block in blocks:
            block.has_skip = True


@contextmanager
def without_squeeze_excite(model: nn.Module) -> Iterator[None]:
    """Context in which the gates of squeeze-excite in ``model`` are 1."""
    blocks: list[Any] = [module for module in model.modules() if isinstance(getattr(module, "se", None), nn.Module)]
    layers = [block.se for block in blocks]
    try:
        for block in blocks:
            block.se = nn.Identity()
        yield
    finally:
        for block, layer in zip(blocks, layers, strict=True):
            block.se = layer


def _identity(x: Tensor) -> Tensor:
    return x
