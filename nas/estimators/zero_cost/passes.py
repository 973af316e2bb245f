"""Modes and copied buffers for passes that leave a network unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def scoring_mode(model: nn.Module, *, batch_statistics: bool) -> Iterator[None]:
    """Context in which ``model`` has no dropout; its modes are restored afterwards.

    ``batch_statistics``: batch norms use the mean and variance of the batch, as in training.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        for norm in batch_norms(model).values():
            norm.training = batch_statistics
        yield
    finally:
        for module, training in modes:
            module.training = training


def batch_norms(model: nn.Module) -> dict[str, Any]:
    """Return the batch norms of ``model`` by module name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}


def copied_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of all buffers by name, for a pass that would update them."""
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def is_weight(parameter: Tensor) -> bool:
    """Whether a parameter is the weight of a convolution or linear layer.

    The others, of norms, biases and layer scale, have one number per channel.
    """
    return parameter.ndim > 1
