"""Zero-cost scores against brute force, closed forms and finite differences."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.estimators.zero_cost.scores import zero_cost_scores
from nas.estimators.zero_cost.settings import SCORE_NAMES
from nas.estimators.zero_cost.synflow import synflow
from nas.estimators.zero_cost.zen import sensitivity, zen
from nas.model.build import build
from nas.training.results import TrainingError

IMAGES = 6
MIXED = [["ds_r1_k3_s1_c8_se0.25"], ["ir_r2_k3.5_s2_e2_c16_se0.25", "er_r1_k3_s1_e2_c16"], ["cn_r1_k1_s1_c8"]]
CPU = torch.device("cpu")
CONVS = ("conv_pw", "conv_dw", "conv_pwl")  # of an inverted residual


def network(stages: list[list[str]], **fields: Any) -> nn.Module:
    """Build a network of one input channel and three classes."""
    head = fields.pop("head", HeadSpec(channels=12))
    stem = fields.pop("stem", StemSpec(channels=8, stride=1))
    spec = ArchSpec.from_strings("net", stages, stem=stem, head=head, in_channels=1, classes=3)
    torch.manual_seed(0)
    return build(replace(spec, **fields))


def batch(side_px: int = 6) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(IMAGES, 1, side_px, side_px), torch.arange(IMAGES) % 3


def score(model: nn.Module, name: str, side_px: int = 6) -> float:
    return zero_cost_scores(model, *batch(side_px), [name], seed=0)[name]


def numeric_gradient(function: Callable[[], float], values: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Central differences of ``function`` with respect to ``values``, changed in place."""
    gradient = np.zeros_like(values)
    for index in np.ndindex(values.shape):
        before = values[index]
        values[index] = before + step
        above = function()
        values[index] = before - step
        gradient[index] = (above - function()) / (2 * step)
        values[index] = before
    return gradient


@pytest.mark.parametrize("activation", ["relu", "relu6", "swish", "hard_swish"])
def test_naswot_is_the_determinant_of_equal_codes(activation: str) -> None:
    model, (images, _) = network(MIXED, activation=activation), batch()
    kinds = nn.ReLU | nn.ReLU6 | nn.SiLU | nn.Hardswish
    reference, inputs = copy.deepcopy(model).train(), []
    for module in reference.modules():
        if isinstance(module, kinds):
            module.register_forward_pre_hook(lambda _, args: inputs.append(args[0].clone().flatten(1).detach()))
    reference(images)
    codes = torch.cat(inputs, dim=1).numpy() > 0
    kernel = [[codes.shape[1] - np.count_nonzero(one != two) for two in codes] for one in codes]
    expected = np.linalg.slogdet(np.array(kernel, dtype=float))
    assert len(inputs) == 12  # of stem and head, 7 in blocks, 3 in squeeze-excites
    assert score(model, "naswot") == pytest.approx(expected.logabsdet, rel=1e-9)
    assert score(model.to(memory_format=torch.channels_last), "naswot") == pytest.approx(expected.logabsdet, rel=1e-9)


def test_naswot_of_equal_images_is_refused() -> None:
    images = torch.ones(2, 1, 6, 6)
    message = r"^estimator\.zero_cost naswot: -inf for net-1; leave naswot out, or raise proxy\.width_multiplier or "
    with pytest.raises(TrainingError, match=message):
        zero_cost_scores(network(MIXED), images, torch.tensor([0, 1]), ["naswot"], seed=0, network="net-1")


def test_synflow_of_a_chain_is_the_product_of_absolute_weights() -> None:
    model = network([["cn_r1_k1_s1_c8"], ["cn_r1_k1_s1_c5"]], stem=StemSpec(channels=4, kernel=1, stride=1))
    matrices = [value.numpy() for name, value in model.state_dict().items() if value.ndim > 1]
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        for values in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):  # without effect
            values.uniform_(0.5, 2)
    flow = np.ones(1)
    for matrix in matrices:  # 1 x 1 convolutions and the classifier
        flow = np.abs(matrix.astype(float)).reshape(matrix.shape[:2]) @ flow
    assert len(matrices) == 5
    # Each layer's sum of weight * gradient is the whole flow (conservation, Tanaka et al.).
    assert score(model, "synflow", side_px=2) == pytest.approx(math.log(5 * flow.sum()), rel=1e-9)


def test_synflow_ignores_activations_and_squeeze_excite() -> None:
    model = network(MIXED)
    plain = network([[text.replace("_se0.25", "") for text in stage] for stage in MIXED], activation="hard_swish")
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if ".se." not in name})
    assert synflow(model, (1, 6, 6), CPU) == pytest.approx(synflow(plain, (1, 6, 6), CPU), rel=1e-12)


def test_synflow_of_deep_networks_does_not_overflow() -> None:
    def chain(depth: int) -> nn.Module:
        layers = [nn.Linear(1, 1, bias=False) for _ in range(depth)]
        for layer in layers:
            nn.init.constant_(layer.weight, -10)
        return nn.Sequential(nn.Flatten(), *layers)

    assert score(chain(380), "synflow", side_px=1) == pytest.approx(math.log(380) + 380 * math.log(10), rel=1e-9)
    with pytest.raises(TrainingError, match="synflow: inf"):
        score(chain(500), "synflow", side_px=1)


def test_gradient_scores_match_finite_differences() -> None:
    model = network([["ds_r1_k3_s1_c4"]], stem=StemSpec(channels=4, stride=1), activation="swish")
    images, labels = batch(4)
    reference = copy.deepcopy(model).double().train()
    norms, products = 0.0, 0.0
    for parameter in reference.parameters():
        if parameter.ndim > 1:
            values = parameter.detach().numpy()
            with torch.no_grad():
                gradient = numeric_gradient(
                    lambda: float(functional.cross_entropy(reference(images.double()), labels)), values
                )
            norms += np.linalg.norm(gradient)
            products += np.abs(values * gradient).sum()
    scores = zero_cost_scores(model, images, labels, ["snip", "grad_norm"], seed=0)
    assert list(scores) == ["snip", "grad_norm"]
    assert scores == pytest.approx({"snip": products, "grad_norm": norms}, rel=1e-4)


def test_jacob_cov_is_the_formula_on_numeric_jacobians() -> None:
    model = network([["ds_r1_k3_s1_c4"]], activation="swish")
    images = batch(4)[0].double().numpy()
    reference = copy.deepcopy(model).double().train()
    with torch.no_grad():
        jacobian = numeric_gradient(lambda: float(reference(torch.from_numpy(images)).sum()), images)
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(jacobian.reshape(IMAGES, -1)))
    expected = -sum(math.log(value + 1e-5) + 1 / (value + 1e-5) for value in eigenvalues)
    assert score(model, "jacob_cov", side_px=4) == pytest.approx(expected, rel=1e-3)


def test_zen_is_the_compensated_change_of_the_maps() -> None:
    """Images of 1 px make every layer a matrix, so that numpy can follow algorithm 1."""
    model = network([["ir_r2_k1_s1_e2_c4_se0.25"]], stem=StemSpec(channels=4, kernel=1, stride=1))
    rng = np.random.default_rng(0)
    shapes = {name: value.shape for name, value in model.named_parameters()}
    weights = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    weights |= {name: np.ones(shape) for name, shape in shapes.items() if "bn" in name and name.endswith("weight")}
    weights |= {name: np.zeros(shape) for name, shape in shapes.items() if name.endswith("bias")}
    blocks = [(f"blocks.0.{index}.{conv}", conv != "conv_pwl") for index in (0, 1) for conv in CONVS]
    layers = [("conv_stem", True), *blocks, ("conv_head", True)]
    sigmas: list[float] = []

    def maps(x: np.ndarray) -> np.ndarray:
        for name, is_active in layers:
            weight = weights[f"{name}.weight"][:, :, 0, 0]
            x = x * weight[:, 0] if name.endswith("conv_dw") else x @ weight.T
            sigmas.append(math.sqrt(x.var(axis=0, ddof=1).mean()))
            x = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)
            x = x.clip(min=0) if is_active else x
        return x

    images, steps = rng.normal(size=(2, 16, 1))
    delta = np.linalg.norm(maps(images) - maps(images + 0.01 * steps), axis=1).mean()
    expected = math.log(delta) + sum(map(math.log, sigmas[: len(layers)]))
    tensors = {name: torch.tensor(value, dtype=torch.float32) for name, value in weights.items()}
    pixels = torch.tensor(np.stack([images, steps])[..., None, None], dtype=torch.float32)
    assert sensitivity(model, tensors, *pixels) == pytest.approx(expected, rel=1e-3)


def test_zen_depends_on_structure_and_seed_alone() -> None:
    model = network(MIXED)
    expected = zen(model, (1, 6, 6), CPU, seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    assert zen(model, (1, 6, 6), CPU, seed=3) == expected
    assert zen(model, (1, 6, 6), CPU, seed=4) != expected


def test_scores_leave_the_model_unchanged() -> None:
    model = network(MIXED, dropout=0.5, drop_path=0.5)
    model.train()
    model.get_submodule("blocks.0").eval()
    model.conv_head.weight.requires_grad_(False)  # type: ignore[union-attr,operator]
    model.classifier.weight.grad = gradient = torch.ones_like(model.classifier.weight)  # type: ignore[union-attr,arg-type,assignment]

    def state() -> list[Any]:
        return [
            (name, module.training, sorted(vars(module)), getattr(module, "has_skip", None), dict(module._modules))
            for name, module in model.named_modules()
        ] + [len(module._forward_pre_hooks) for module in model.modules()]

    before, tensors = state(), copy.deepcopy(model.state_dict())
    first = zero_cost_scores(model, *batch(), SCORE_NAMES, seed=0)
    assert zero_cost_scores(model, *batch(), SCORE_NAMES, seed=0) == first  # no dropout either
    for name in SCORE_NAMES:
        with pytest.raises(RuntimeError, match="to have 1 channels, but got 2"):
            zero_cost_scores(model, torch.ones(IMAGES, 2, 6, 6), batch()[1], [name], seed=0)
    assert state() == before
    assert all(torch.equal(value, tensors[name]) for name, value in model.state_dict().items())
    assert model.classifier.weight.grad is gradient  # type: ignore[union-attr]
    assert torch.equal(gradient, torch.ones_like(gradient))
    others = [parameter for parameter in model.parameters() if parameter is not model.classifier.weight]
    assert all(parameter.grad is None for parameter in others)
    assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == ["conv_head.weight"]


@pytest.mark.parametrize("name", [name for name in SCORE_NAMES if name != "zen"])  # zen has weights of its own
def test_scores_that_are_not_finite_are_named(name: str) -> None:
    model = network(MIXED)
    nn.init.constant_(model.conv_stem.weight, math.nan)  # type: ignore[union-attr,arg-type]
    with pytest.raises(TrainingError, match=rf"estimator\.zero_cost {name}: (nan|-inf) for the network; leave {name}"):
        score(model, name)


def test_all_block_types_have_scores() -> None:
    stages = [
        ["ds_r1_k3_s2_c8", "dsa_r1_k3_s1_c8"],
        ["ir_r1_k3.5_s1_e2_c16", "uir_r1_a3_k5_s1_e2_c16"],
        ["mqa_r1_k3_h2_s1_d8_c16", "er_r1_k3_s1_e2_c16"],
    ]
    model = network(stages, head=HeadSpec(kind="pool_conv", channels=12), layer_scale=0.1, activation="gelu")
    scores = zero_cost_scores(model, *batch(), SCORE_NAMES, seed=0)
    assert list(scores) == list(SCORE_NAMES)
    assert all(map(math.isfinite, scores.values()))


@pytest.mark.parametrize("name", ["naswot", "synflow", "snip", "zen"])
def test_a_wider_and_deeper_network_scores_higher(name: str) -> None:
    small = network([["ir_r1_k3_s1_e2_c8"], ["ir_r1_k3_s2_e4_c8"]])
    large = network([["ir_r1_k3_s1_e2_c8"], ["ir_r4_k3_s2_e4_c32"]])
    assert score(small, name, side_px=8) < score(large, name, side_px=8)
