"""The reference of exported files in NumPy, against torch's modules in float64."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch

from nas.arch import zoo
from nas.arch.parts import HEAD_KINDS, HeadSpec, StemSpec
from nas.arch.spec import NETWORK_ACTIVATIONS, ArchSpec
from nas.exporters.graph import inference_graph
from nas.exporters.reference import numpy_run, torch_run
from nas.model.build import build
from tests.exporters.dense_specs import dense_specs
from tests.exporters.test_onnx_graph import with_random_norms

STRINGS = (
    ["er_r1_k3_gs4_s2_e4_c24_se0.25", "cn_r1_k3_s1_c24_skip"],
    ["ir_r2_k3.5_a1.1_p1.1_s2_e3_c36_se0.5_dilated_nhs", "dsa_r1_k7_s1_c20_nr6", "ir_r1_k3.5_s1_e2_c20_nmi"],
    ["uir_r1_a5_k0_s2_e4_c24", "mqa_r1_k3_h3_v2_d8_s1_c24", "mqa_r1_k3_h2_d16_s1_c24", "uir_r1_a3_k3_s1_e4_c24"],
)


@pytest.mark.parametrize("strings", STRINGS)
@pytest.mark.parametrize(("padding", "activation"), [("symmetric", "gelu"), ("same", "swish")])
@pytest.mark.parametrize("head", [HeadSpec(channels=0), *(HeadSpec(channels=8, kind=kind) for kind in HEAD_KINDS)])
def test_it_is_torch_s_module_in_float64(strings: list[str], padding: str, activation: str, head: HeadSpec) -> None:
    assert activation in NETWORK_ACTIVATIONS
    spec = ArchSpec.from_strings(
        "odd", [strings], stem=StemSpec(channels=20, kernel=5), head=head, padding=padding, classes=5,
        activation=activation, resolution_px=19,
    )  # fmt: skip
    model = with_random_norms(build(spec)).double()
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    images = torch.randn(2, 3, 19, 19, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = model(images.double()).numpy()
    found = numpy_run(inference_graph(spec, weights=weights))(images.numpy())
    # Folded weights are rounded to float32, whose epsilon is 1.2e-7.
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_outputs_of_detectors_and_segmenters_are_torch_s(number: int, padding: str) -> None:
    spec = dense_specs(padding)[number]
    model = with_random_norms(build(spec)).double()
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    px = spec.resolution_px
    images = torch.randn(2, 3, px, px, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        outputs = model(images.double())
    expected = outputs if isinstance(outputs, tuple) else (outputs,)
    found = numpy_run(inference_graph(spec, weights=weights))(images.numpy())
    for one, other in zip(found if isinstance(found, tuple) else (found,), expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=1e-5 * np.abs(other.numpy()).max(), rtol=0)


def test_torch_runs_the_network_of_the_weights() -> None:
    model = with_random_norms(timm.create_model("mobilenetv3_small_050", num_classes=7))
    spec = zoo.get("mobilenetv3_small_050")
    spec = ArchSpec(**{name: getattr(spec, name) for name in spec.__dataclass_fields__} | {"classes": 7})
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
    with torch.inference_mode():
        expected = model(torch.from_numpy(images)).numpy()
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    np.testing.assert_array_equal(torch_run(spec, weights)(images), expected)
