"""Static int8 quantisation: operators run in int8 kernels, outputs near float32."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

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
    np.testing.assert_allclose(constants["conv_stem.weight_scale"], np.abs(weight).max(axis=(1, 2, 3)) / 64, rtol=0.01)


def test_no_sum_of_two_products_overflows_16_bits(images: np.ndarray) -> None:
    """x86 without VNNI adds the products of two 8-bit activations and weights in 16 bits, and saturates."""
    model = quantize_int8(to_onnx(network("relu"), batch=2), [images])
    weights = [
        onnx.numpy_helper.to_array(tensor).astype(int)
        for tensor in model.graph.initializer
        if tensor.name.endswith(".weight_quantized")
    ]
    assert len(weights) > 10
    assert max(2 * 255 * np.abs(weight).max() for weight in weights) <= 2**15


@pytest.mark.parametrize("sign", [1, -1])
def test_large_sums_are_exact_in_the_kernels_of_this_processor(sign: int) -> None:
    """A 1x1 convolution of equal weights and the largest activations: 64 products of the same sign."""
    weight = helper.make_tensor("w", onnx.TensorProto.FLOAT, [8, 64, 1, 1], np.full(512, sign / 64, np.float32))
    graph = helper.make_graph(
        [helper.make_node("Conv", [INPUT, "w"], ["y"], "conv")],
        "sums",
        [helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, [1, 64, 8, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 8, 8, 8])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    images = np.ones((1, 64, 8, 8), np.float32)
    (found,) = session(quantize_int8(model, [images, -images / 255])).run(None, {INPUT: images})
    np.testing.assert_allclose(found, sign, atol=0.01)  # half a step of an output in 8 bits is 1 / 510
