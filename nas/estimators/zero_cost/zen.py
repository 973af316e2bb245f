"""Zen-score: how much a random network of a structure changes with its input."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nas.estimators.zero_cost.passes import batch_norms, is_weight, scoring_mode
from nas.model import without_shortcuts, without_squeeze_excite

_IMAGES: Final = 16  # per repeat, as in the authors' code
_REPEATS: Final = 4
_STEP: Final = 0.01  # alpha in algorithm 1


def zen(
    model: nn.Module,
    image_shape: Sequence[int],
    device: torch.device,
    *,
    seed: int,
    images: int = _IMAGES,
    repeats: int = _REPEATS,
) -> float:
    """Return the Zen-score, the mean of ``repeats`` draws of weights and inputs.

    Lin et al. 2021, arXiv:2102.01063, algorithm 1: log(delta) + sum over batch norms of log(sigma). Weights, inputs x
    and steps e, (``images``, *``image_shape``), are standard normal; delta is the mean over images of the Euclidean
    norm of f(x) - f(x + 0.01 e), f the maps before pooling, without shortcuts and squeeze-excite. sigma^2 is the mean
    over channels of the variance of a batch norm's input, which compensates for what the norm divides by. Larger
    predicts better. Of the weights of ``model`` only their shapes are used.
    """
    generator = torch.Generator(device).manual_seed(seed)
    draws = []
    for _ in range(repeats):
        weights = random_weights(model, generator)
        inputs = torch.randn((2, images, *image_shape), generator=generator, device=device)
        draws.append(sensitivity(model, weights, *inputs))
    return fmean(draws)


def random_weights(model: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """Return parameters by name: standard normal weights, biases of 0, all else 1."""
    parameters = {}
    for name, parameter in model.named_parameters():
        if is_weight(parameter):
            parameters[name] = torch.randn(parameter.shape, generator=generator, device=generator.device)
        else:
            fill = torch.zeros_like if name.endswith("bias") else torch.ones_like
            parameters[name] = fill(parameter)
    return parameters


def sensitivity(model: nn.Module, weights: dict[str, Tensor], images: Tensor, steps: Tensor) -> float:
    """Return log(delta) + sum(log(sigma)) of algorithm 1 for given weights.

    ``weights``: the parameters of ``model`` by name. ``images`` x and ``steps`` e: float32 (B, C, H, W).
    """
    with (
        torch.no_grad(),
        scoring_mode(model, batch_statistics=True),
        without_shortcuts(model),
        without_squeeze_excite(model),
    ):
        state = {name: weights[name] for name, _ in model.named_parameters()}
        state |= {name: torch.zeros_like(buffer) for name, buffer in model.named_buffers()}
        features = _features(model, state, images)
        # With running variances of 0 before the pass, those after it are momentum * the variance of the batch.
        means = {name: state[f"{name}.running_var"].double().mean() for name in batch_norms(model)}
        sigmas = [(means[name] / norm.momentum).sqrt() for name, norm in batch_norms(model).items()]
        moved = _features(model, state, images + _STEP * steps)
    delta = (features - moved).double().flatten(1).norm(dim=1).mean()
    return float(torch.stack([delta, *sigmas]).log().sum())


def _features(model: nn.Module, state: dict[str, Tensor], images: Tensor) -> Tensor:
    features: Tensor = functional_call(_Features(model), {f"model.{name}": x for name, x in state.items()}, (images,))
    return features


class _Features(nn.Module):
    """The maps (N, C, H, W) of a timm model before pooling."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Map ``images`` (N, C, H, W) to the last maps."""
        features: Tensor = self.model.forward_features(images)
        return features
