"""ONNX graphs of specs against the outputs of the timm modules."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from torch import nn

from nas.arch import zoo
from nas.arch.parts import HEAD_KINDS, HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.exporters.onnx.graph import to_onnx
from nas.model.build import build
from nas.model.timm_import.network import from_timm

# Summation order differs, and deep networks with random norms amplify it: the tolerance is relative to the output.
TOLERANCE = 1e-4


def with_random_norms(model: nn.Module, seed: int = 0) -> nn.Module:
    """Return ``model`` in eval mode with random norm parameters and statistics."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.weight, 0.7, 1.3), (module.bias, -0.3, 0.3), (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.6, 1.5),
            ):  # fmt: skip
                values.data.uniform_(low, high, generator=generator)
    return model.eval()


def run(graph: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": images})[0]


def check_same(spec: ArchSpec, model: nn.Module, px: int) -> None:
    with_random_norms(model)
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    images = torch.randn(2, 3, px, px, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = model(images).numpy()
    actual = run(to_onnx(spec, weights=weights, batch=2, resolution_px=px), images.numpy())
    np.testing.assert_allclose(actual, expected, atol=TOLERANCE * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize(
    "name",
    [
        "mixnet_s",
        "mobilenetv1_100",
        "mobilenetv2_050",
        "mobilenetv3_small_100",
        "semnasnet_050",
        "efficientnet_lite0",
        "tf_mobilenetv3_small_minimal_100",
    ],
)
@pytest.mark.parametrize("px", [64, 75])
def test_published_networks_give_timm_outputs(name: str, px: int) -> None:
    check_same(zoo.get(name), timm.create_model(name), px)


@pytest.mark.parametrize(
    "strings",
    [
        ["er_r2_k3_s2_e4_c24_se0.25", "cn_r1_k3_s1_c24_skip"],
        ["cn_r1_k5_s2_c16", "er_r1_k5_s1_e2_c16_noskip"],
        ["ir_r2_k3.5.7.9_s2_e4_c24_exponential_nsw", "ds_r1_k9.11_s1_c24_nmi"],
        ["ir_r2_k3.5.7_a1.1_p1.1_s2_e3_c36_se0.5_dilated_nhs", "dsa_r1_k7_s1_c20_dilated_nr6"],
        ["er_r1_k3_gs20_s2_e4_c24", "ir_r1_k3_gs8_s1_e2_c24", "cn_r1_k3_gs4_s1_c24_skip"],
        ["uir_r1_a3_k5_s2_e4_c24_se0.25", "uir_r2_k3_p3_s1_e2_c24_nsw", "uir_r1_k0_s1_e2_c24"],
        ["uir_r1_a5_k0_s2_e4_c24", "mqa_r1_k3_h3_v2_d8_s1_c24", "mqa_r1_k3_h2_d16_s1_c30", "cn_r1_k1_s1_c20"],
    ],
)
@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize("head", [HeadSpec(channels=0), *(HeadSpec(channels=40, kind=kind) for kind in HEAD_KINDS)])
def test_other_blocks_give_the_built_module_outputs(strings: list[str], padding: str, head: HeadSpec) -> None:
    spec = ArchSpec.from_strings(
        "odd", [strings], stem=StemSpec(channels=20, kernel=5), head=head, padding=padding, classes=11
    )
    check_same(spec, build(spec), 37)


@pytest.mark.parametrize("name", ["mobilenetv4_conv_small_050", "mobilenet_edgetpu_v2_xs", "tf_efficientnetv2_b0"])
def test_networks_read_from_timm_give_timm_outputs(name: str) -> None:
    model = timm.create_model(name)
    check_same(from_timm(model), model, 64)


def test_layer_scale_and_gelu_are_in_the_graph() -> None:
    strings = ["mqa_r2_k3_h3_v2_d8_s1_c16", "uir_r2_a3_k3_s1_e4_c24"]
    spec = ArchSpec.from_strings(
        "scaled", [strings], stem=StemSpec(channels=16), head=HeadSpec(channels=8), activation="gelu", layer_scale=0.5
    )
    check_same(spec, build(spec), 33)


def test_mish_is_finite_where_its_terms_overflow_or_vanish() -> None:
    stages = [["cn_r1_k1_s1_c1_nmi"]]
    spec = ArchSpec.from_strings(
        "mish",
        stages,
        stem=StemSpec(channels=1, kernel=1, stride=1),
        head=HeadSpec(channels=0),
        in_channels=1,
        classes=1,
    )
    values = np.array([-200.0, -30, -5, -1, 0, 1, 5, 19, 21, 200], dtype=np.float32)
    # Stem (relu), block and classifier pass one value through; the block's norm sets its sign.
    identity = {"weight": [1.0], "bias": [0.0], "running_mean": [0.0], "running_var": [1.0 - spec.norm.eps]}
    for value in values:
        sign = -1.0 if value < 0 else 1.0
        weights = {f"bn1.{key}": np.array(array) for key, array in identity.items()}
        weights |= {f"blocks.0.0.bn1.{key}": np.array(array) for key, array in identity.items()}
        weights["conv_stem.weight"] = np.ones((1, 1, 1, 1))
        weights["blocks.0.0.conv.weight"] = np.full((1, 1, 1, 1), sign)
        weights |= {"classifier.weight": np.ones((1, 1)), "classifier.bias": np.zeros(1)}
        image = np.full((1, 1, 1, 1), abs(value), dtype=np.float32)
        expected = nn.functional.mish(torch.tensor(float(value), dtype=torch.float64)).item()
        actual = run(to_onnx(spec, weights=weights, resolution_px=1), image).item()
        assert actual == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_random_weights_give_a_valid_graph_with_sane_outputs() -> None:
    spec = zoo.get("mixnet_s")
    graph = to_onnx(spec, batch=2, seed=3, resolution_px=64)
    onnx.checker.check_model(graph, full_check=True)
    images = np.random.default_rng(0).standard_normal((2, 3, 64, 64), dtype=np.float32)
    outputs = run(graph, images)
    assert outputs.shape == (2, 1000)
    assert 1e-3 < np.abs(outputs).mean() < 1e3
    assert graph == to_onnx(spec, batch=2, seed=3, resolution_px=64)
    assert graph != to_onnx(spec, batch=2, seed=4, resolution_px=64)


def test_weights_of_another_network_are_refused_by_name() -> None:
    spec = zoo.get("mobilenetv3_small_100")
    weights = {name: value.numpy() for name, value in build(spec).state_dict().items()}
    missing = {name: array for name, array in weights.items() if name != "conv_head.bias"}
    with pytest.raises(NasError, match=r"'conv_head\.bias' is missing"):
        to_onnx(spec, weights=missing, resolution_px=32)
    with pytest.raises(NasError, match=r"'conv_stem\.weight' has shape \(3, 3\)"):
        to_onnx(spec, weights={**weights, "conv_stem.weight": np.zeros((3, 3))}, resolution_px=32)
