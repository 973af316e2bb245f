"""Static int8 quantisation: operators run in int8 kernels, outputs near float32."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from nas.arch.parts import MOBILENET_V3_SE, HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.exporters.onnx.graph import INPUT, to_onnx
from nas.exporters.onnx.static_int8 import quantize_int8

# Every type of block and data movement with an int8 kernel: MixConv, grouped pointwise, squeeze-excite, residual.
BLOCKS = [["ds_r1_k3_s1_c16_se0.25"], ["ir_r2_k3.5_a1.1_p1.1_s2_e3_c24_se0.5"], ["er_r1_k3_s1_e2_c32"]]


def network(activation: str, **fields: object) -> ArchSpec:
    return ArchSpec.from_strings(
        activation,
        BLOCKS,
        stem=StemSpec(channels=16),
        head=HeadSpec(channels=64),
        resolution_px=32,
        classes=5,
        activation=activation,
        **fields,
    )


def session(model: onnx.ModelProto, optimised: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if optimised:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def kernels(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """Count the operator types in the graph that ONNX Runtime executes."""
    session(model, folder / "optimised.onnx")
    return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)


@pytest.mark.parametrize("activation", ["relu", "relu6", "swish"])
def test_all_of_a_network_runs_in_int8_kernels(activation: str, images: np.ndarray, tmp_path: Path) -> None:
    model = to_onnx(network(activation), batch=2)
    convolutions = sum(node.op_type == "Conv" for node in model.graph.node)
    executed = kernels(quantize_int8(model, [images]), tmp_path)
    assert executed["QLinearConv"] == convolutions
    assert executed["QGemm"] == 1
    # Only the input is quantised and only the logits are dequantised.
    assert (executed["QuantizeLinear"], executed["DequantizeLinear"]) == (1, 1)
    assert not {"Conv", "FusedConv", "Gemm", "Sigmoid", "Add", "Mul"} & set(executed)


def test_hard_swish_has_no_int8_kernel_but_its_convolutions_do(images: np.ndarray, tmp_path: Path) -> None:
    model = to_onnx(network("hard_swish", squeeze_excite=MOBILENET_V3_SE), batch=2)
    convolutions = sum(node.op_type == "Conv" for node in model.graph.node)
    executed = kernels(quantize_int8(model, [images]), tmp_path)
    assert executed["QLinearConv"] == convolutions
    assert executed["HardSigmoid"] > 0


def test_output_is_near_float32_and_the_input_graph_is_unchanged(images: np.ndarray) -> None:
    model = to_onnx(network("swish"), batch=2)
    before = model.SerializeToString(deterministic=True)
    int8 = quantize_int8(model, [images])
    assert model.SerializeToString(deterministic=True) == before
    (exact,), (rounded,) = (session(graph).run(None, {INPUT: images}) for graph in (model, int8))
    assert np.corrcoef(exact.ravel(), rounded.ravel())[0, 1] > 0.99


def test_weights_have_a_scale_per_output_channel(images: np.ndarray) -> None:
    model = to_onnx(network("relu"), batch=2)
    constants = {
        tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in quantize_int8(model, [images]).graph.initializer
    }
    weight = onnx.numpy_helper.to_array(
        next(tensor for tensor in model.graph.initializer if tensor.name == "conv_stem.weight")
    )
    assert constants["conv_stem.weight_quantized"].dtype == np.int8
    np.testing.assert_allclose(constants["conv_stem.weight_scale"], np.abs(weight).max(axis=(1, 2, 3)) / 127, rtol=0.01)
