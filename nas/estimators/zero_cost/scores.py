"""Zero-cost scores of a network at its initial weights, from one batch of images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from nas.estimators.zero_cost.passes import copied_buffers, is_weight, scoring_mode
from nas.estimators.zero_cost.settings import LABELLED_SCORES
from nas.estimators.zero_cost.synflow import synflow
from nas.estimators.zero_cost.zen import zen
from nas.model import activation_layers
from nas.training.results import TrainingError

_BATCH: Final = ("naswot", *LABELLED_SCORES, "jacob_cov")
_JACOB_COV_EPSILON: Final = 1e-5  # of the authors


def zero_cost_scores(
    model: nn.Module, images: Tensor, labels: Tensor, names: Sequence[str], *, seed: int, network: str = "the network"
) -> dict[str, float]:
    """Score ``model`` at its present weights, by name; larger predicts better for all.

    ``model``: a timm module as ``nas.model.build.build`` makes it. ``images``: float32 (B, C, H, W), normalised.
    ``labels``: int64 (B,), for ``grad_norm`` and ``snip``. ``names``: of ``SCORE_NAMES``. ``seed``: of the random
    weights and inputs of ``zen``. ``network``: its name for messages. Parameters, gradients, buffers and mode of the
    model stay as they are. Dropout is off and batch norms use the statistics of the batch, except in ``synflow``.

    ``naswot``: log(abs(det(K))), K the number of equal activation codes of two images (Mellor et al. 2021,
    arXiv:2006.04647v3: number of units less the Hamming distance). The code of a unit is 1 where the input of its
    activation is positive and 0 elsewhere, for swish, hard-swish, GELU and ReLU6 as for ReLU.
    ``grad_norm``: sum over convolutions and linear layers of the Euclidean norm of the gradient g of the cross entropy
    with respect to the layer's weights w (Abdelfattah et al. 2021, arXiv:2101.08134).
    ``snip``: sum of abs(w * g) over the same weights (connection sensitivity, Lee et al. 2019, arXiv:1810.02340; its
    sum as a score: Abdelfattah).
    ``jacob_cov``: -sum(log(v + 1e-5) + 1 / (v + 1e-5)) over the eigenvalues v of the correlations between images of
    the gradient of the summed logits with respect to the image (Mellor et al. 2020, arXiv:2006.04647v1).
    ``synflow``: see ``nas.estimators.zero_cost.synflow``. ``zen``: see ``nas.estimators.zero_cost.zen``.

    Raises: TrainingError for a score that is not finite.
    """
    scores = _batch_scores(model, images, labels, [name for name in names if name in _BATCH])
    if "synflow" in names:
        scores["synflow"] = synflow(model, images.shape[1:], images.device)
    if "zen" in names:
        scores["zen"] = zen(model, images.shape[1:], images.device, seed=seed)
    for name, score in scores.items():
        if not math.isfinite(score):
            raise TrainingError(
                f"estimator.zero_cost {name}: {score} for {network}; leave {name} out, or raise "
                "proxy.width_multiplier or proxy.resolution_px."
            )
    return {name: scores[name] for name in names}


def _batch_scores(model: nn.Module, images: Tensor, labels: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Compute scores of ``_BATCH``: one forward pass, one backward pass per loss."""
    if not names:
        return {}
    needs_labels, needs_jacobian = any(name in LABELLED_SCORES for name in names), "jacob_cov" in names
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    weights = [parameter.requires_grad_(needs_labels) for parameter in parameters.values() if is_weight(parameter)]
    images = images.detach().requires_grad_(needs_jacobian)
    kernel = _Kernel(len(images), images.device)
    with (
        torch.set_grad_enabled(needs_labels or needs_jacobian),
        scoring_mode(model, batch_statistics=True),
        kernel.recorded(model if "naswot" in names else None),
    ):
        logits: Tensor = functional_call(model, parameters | copied_buffers(model), (images,))
    scores = {"naswot": kernel.log_determinant()}
    if needs_labels:
        loss = functional.cross_entropy(logits, labels)
        gradients = torch.autograd.grad(loss, weights, retain_graph=needs_jacobian)
        scores["grad_norm"] = float(sum(gradient.double().norm() for gradient in gradients))
        products = zip(weights, gradients, strict=True)
        scores["snip"] = float(sum((weight.detach() * gradient).double().abs().sum() for weight, gradient in products))
    if needs_jacobian:
        scores["jacob_cov"] = _jacob_cov(*torch.autograd.grad(logits.sum(), images))
    return {name: scores[name] for name in names}


class _Kernel:
    """Number of equal activation codes of every two of ``count`` images."""

    def __init__(self, count: int, device: torch.device) -> None:
        self._both = torch.zeros(count, count, dtype=torch.float64, device=device)  # units active for both images
        self._units = 0

    @contextmanager
    def recorded(self, model: nn.Module | None) -> Iterator[None]:
        """Context that adds the codes of all activations of ``model``; None: of none."""
        layers = [] if model is None else activation_layers(model)
        handles = [layer.register_forward_pre_hook(self._add) for layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def log_determinant(self) -> float:
        """Return the log-determinant; -inf where two images have equal codes."""
        active = self._both.diagonal()
        kernel = 2 * self._both - active - active[:, None] + self._units
        if int((kernel == self._units).sum()) > len(kernel):  # singular, which rounding may hide
            return -math.inf
        sign, value = torch.linalg.slogdet(kernel)
        return float(value) if sign > 0 else -math.inf

    @torch.no_grad()
    def _add(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        (x,) = inputs
        # channels_last maps are flattened without a copy. Sums of zeros and ones are exact in float32 up to 2^24.
        codes = torch.gt(x, 0, out=torch.empty_like(x)).movedim(1, -1).flatten(1)
        self._both += codes @ codes.T
        self._units += codes.shape[1]


def _jacob_cov(jacobian: Tensor) -> float:
    """Score the gradients (B, C, H, W) of the images."""
    correlations = torch.corrcoef(jacobian.flatten(1).double())
    if not bool(correlations.isfinite().all()):  # an image without influence
        return math.nan
    eigenvalues = torch.linalg.eigvalsh(correlations).clamp(min=0) + _JACOB_COV_EPSILON
    return -float((eigenvalues.log() + 1 / eigenvalues).sum())
