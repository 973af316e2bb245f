"""SynFlow: how much the weights of a network carry from its input to its output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nas.estimators.zero_cost.passes import batch_norms, is_weight, scoring_mode
from nas.model import linear_activations, without_squeeze_excite

# Image and gradient are scaled by 10^-100: of EfficientNet-B7, R is about 1e135, of deeper networks more than 1e308.
_LOG10_SCALE: Final = 100


def synflow(model: nn.Module, image_shape: Sequence[int], device: torch.device) -> float:
    """Return log(sum of abs(weight * dR/dweight)) over convolutions and linear layers.

    R is the sum of the logits for one image of ones, ``image_shape`` (C, H, W), with the absolute values of the
    weights (Tanaka et al. 2020, arXiv:2006.05467; as a score, without batch norm: Abdelfattah et al. 2021,
    arXiv:2101.08134). Activations are the identity, as ReLU is for positive inputs, biases 0, gates of squeeze-excite
    1. Larger predicts better. In float64, image and gradient scaled down; inf where a product of layers exceeds 1e400.
    """
    scale = 10.0**-_LOG10_SCALE
    image = torch.full((1, *image_shape), scale, dtype=torch.float64, device=device)
    with (
        torch.enable_grad(),
        scoring_mode(model, batch_statistics=False),
        linear_activations(model),
        without_squeeze_excite(model),
    ):
        weights, others = _linear_state(model)
        output: Tensor = functional_call(model, weights | others, (image,)).sum()
        gradients = torch.autograd.grad(output, list(weights.values()), torch.full_like(output, scale))
    flows = [(weight * gradient).sum() for weight, gradient in zip(weights.values(), gradients, strict=True)]
    return float(torch.stack(flows).detach().sum().log()) + 2 * _LOG10_SCALE * math.log(10)


def _linear_state(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the absolute weights of ``model``, and its other parameters and buffers.

    Float64. With the others, batch norms are the identity and biases 0.
    """
    others: dict[str, Tensor] = {}
    for name, norm in batch_norms(model).items():
        ones = torch.ones_like(norm.weight, dtype=torch.float64).detach()
        others |= {f"{name}.weight": ones, f"{name}.running_mean": 0 * ones, f"{name}.running_var": ones - norm.eps}
    weights = {}
    for name, parameter in model.named_parameters():
        values = parameter.detach().double().abs()
        if is_weight(parameter):
            weights[name] = values.requires_grad_()
        else:
            others.setdefault(name, 0 * values if name.endswith("bias") else values)
    return weights, others
