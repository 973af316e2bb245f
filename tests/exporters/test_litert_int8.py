"""Static int8 quantisation for LiteRT: which layers, one delegate, outputs near float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.arch.parts import MOBILENET_V3_SE, HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.exporters.graph import InferenceGraph, inference_graph

for _package in ("ai_edge_litert", "ai_edge_quantizer"):
    pytest.importorskip(_package, reason=f"{_package} is not installed: pip install 'nas[litert]'")

# MixConv with kernels beyond 25 taps, grouped pointwise, squeeze-excite, residual addition, attention.
BLOCKS = [
    ["ds_r1_k3_s1_c16_se0.25"],
    ["ir_r2_k3.7_a1.1_p1.1_s2_e3_c24_se0.5"],
    ["mqa_r1_k3_h2_d8_s1_c24", "er_r1_k3_s1_e2_c32"],
]
KEPT = {"conv_stem", "blocks.1.0.conv_pw.1", "blocks.1.1.conv_dw.0", "blocks.2.1.conv_exp", "classifier"}


def graph_of(activation: str) -> InferenceGraph:
    spec = ArchSpec.from_strings(
        activation, BLOCKS, stem=StemSpec(channels=16), head=HeadSpec(channels=64), resolution_px=32, classes=5,
        activation=activation, squeeze_excite=MOBILENET_V3_SE,
    )  # fmt: skip
    return inference_graph(spec, batch=2, provenance={"class_names": list("abcde")})


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)


def weights(path: Path) -> dict[str, Any]:
    """Tensors of weights by the path of their operation; pieces of a kernel by theirs."""
    from ai_edge_litert.schema_py_generated import Model, ModelT

    model = ModelT.InitFromObj(Model.GetRootAs(path.read_bytes(), 0))
    names = {tensor.name.decode(): tensor for tensor in model.subgraphs[0].tensors}
    return {name.removesuffix(".weight"): tensor for name, tensor in names.items() if name.endswith(".weight")}


@pytest.mark.parametrize("activation", ["relu", "swish", "hard_swish", "gelu", "mish"])
def test_layers_are_int8_per_channel_in_one_delegate(activation: str, images: np.ndarray, tmp_path: Path) -> None:
    from ai_edge_litert.schema_py_generated import TensorType

    from nas.exporters.litert.int8 import open_int8, write_int8
    from nas.exporters.litert.session import litert_interpreter, open_graph, open_model

    graph = graph_of(activation)
    (path,) = write_int8(graph, tmp_path / "net.tflite", [images], frozenset(KEPT))
    found = weights(path)
    layers = {op.path for op in graph.ops if op.weights or op.kind == "norm"}
    assert {name.partition(".piece")[0] for name in found} == layers
    assert {name for name, tensor in found.items() if tensor.type == TensorType.FLOAT32} == KEPT
    for name in found.keys() - KEPT:
        assert found[name].type == TensorType.INT8
        # Random weights: no two channels have the same range.
        channels = found[name].shape[3 if found[name].shape[0] == 1 and len(found[name].shape) == 4 else 0]
        assert found[name].quantization.scale.size == np.unique(found[name].quantization.scale).size == channels
    interpreter = litert_interpreter(path.read_bytes(), 1)
    assert [node["op_name"] for node in interpreter._get_ops_details()].count("DELEGATE") == 1
    exact, rounded = open_graph(graph)(images), open_model(path)(images)
    assert exact.dtype == rounded.dtype == np.float32
    assert 0 < np.abs(rounded - exact).max() < 0.1 * np.ptp(exact)
    assert 0 < np.abs(open_int8(graph, [images])(images) - exact).max() < 0.1 * np.ptp(exact)


def test_without_quantised_layers_the_outputs_are_those_of_float32(images: np.ndarray, tmp_path: Path) -> None:
    from nas.exporters.litert.int8 import write_int8
    from nas.exporters.litert.session import open_graph, open_model

    graph = graph_of("hard_swish")
    (path,) = write_int8(graph, tmp_path / "net.tflite", [images], frozenset(op.path for op in graph.ops))
    np.testing.assert_array_equal(open_model(path)(images), open_graph(graph)(images))


def test_the_metadata_of_float32_is_that_of_int8(images: np.ndarray) -> None:
    from ai_edge_litert.schema_py_generated import Model, ModelT

    from nas.exporters.litert.int8 import int8_model

    model = ModelT.InitFromObj(Model.GetRootAs(int8_model(graph_of("relu"), [images]), 0))
    found = {entry.name.decode(): bytes(model.buffers[entry.buffer].data) for entry in model.metadata}
    assert found["class_names"] == b'["a", "b", "c", "d", "e"]'


def test_mistakes_are_named(images: np.ndarray) -> None:
    from nas.exporters.litert.int8 import int8_model

    with pytest.raises(NasError, match=r"int8: needs at least one batch"):
        int8_model(graph_of("relu"), [])
    with pytest.raises(NasError, match=r"keep_float 'stem': is no operation of the network\."):
        int8_model(graph_of("relu"), [images], {"stem", "conv_stem"})


def test_nothing_is_printed(images: np.ndarray, capfd: pytest.CaptureFixture[str]) -> None:
    from nas.exporters.litert.int8 import open_int8

    open_int8(graph_of("relu"), [images])
    assert capfd.readouterr() == ("", "")


def test_tensors_without_a_range_get_one(images: np.ndarray) -> None:
    from nas.exporters.litert.int8 import open_int8
    from nas.exporters.litert.session import open_graph

    # A squeeze-excite whose ReLU never passes anything, and kernels that reach beyond a map of 2 px on all sides.
    spec = ArchSpec.from_strings(
        "dead", [["ds_r1_k3_s2_c16_se0.25"], ["ds_r1_k11_s2_c24"]], stem=StemSpec(channels=16),
        head=HeadSpec(channels=0), classes=5, squeeze_excite=MOBILENET_V3_SE,
    )  # fmt: skip
    graph = inference_graph(spec, batch=2, resolution_px=16)
    weights = {f"{op.path}.weight": graph.parameters(op)[0] for op in graph.ops if op.weights}
    weights |= {f"{op.path}.bias": graph.parameters(op)[1] for op in graph.ops if op.bias}
    for op in graph.ops:
        if op.norm:
            values = {"weight": 1, "bias": 0.1, "running_mean": 0, "running_var": 1}
            weights |= {f"{op.norm}.{name}": np.full(op.out_channels, value) for name, value in values.items()}
    weights["blocks.0.0.se.conv_reduce.bias"] -= 1e3
    graph = inference_graph(spec, weights=weights, batch=2, resolution_px=16)
    small = images[:, :, :16, :16]
    exact = open_graph(graph)(small)
    assert np.abs(open_int8(graph, [small])(small) - exact).max() < 0.1 * np.ptp(exact)
