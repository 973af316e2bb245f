"""LiteRT models of specs against the outputs of the timm modules."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from nas.arch.ops.network import Op
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.exporters.formats import format_of, is_installed
from nas.exporters.graph import inference_graph
from nas.exporters.litert.fusion import fused_before_concats
from nas.model.build import build
from tests.exporters.format_contract import FormatContract
from tests.exporters.test_onnx_graph import with_random_norms
from tests.model.random_specs import specs

needs_litert = pytest.mark.skipif(
    not is_installed("ai_edge_litert"), reason="LiteRT is not installed: pip install -e '.[litert]'"
)
HEAD = HeadSpec(channels=0)


class TestLiteRt(FormatContract):
    NAME = "litert"


@needs_litert
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spec=specs())
def test_random_specs_give_the_built_module_outputs(spec: ArchSpec) -> None:
    from nas.exporters.litert.session import open_graph

    model = with_random_norms(build(spec))
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    shape = (2, spec.in_channels, spec.resolution_px, spec.resolution_px)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = model(images).numpy()
    actual = open_graph(inference_graph(spec, weights=weights, batch=2))(images.numpy())
    np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)


@needs_litert
@pytest.mark.parametrize(
    "strings",
    [
        ["ir_r2_k3.5.7.9.11_a1.1_p1.1_s2_e4_c24_se0.5_nhs", "ds_r1_k3_s1_c24_nsw", "dsa_r1_k5_s1_c20_nr6"],
        [
            "er_r1_k3_gs20_s2_e4_c24_nmi",
            "uir_r1_a3_k5_s2_e4_c24_se0.25",
            "mqa_r1_k3_h3_v2_d8_s1_c24",
            "cn_r1_k1_s1_c20",
        ],
    ],
)
def test_one_delegate_runs_the_whole_network(strings: list[str]) -> None:
    from nas.exporters.litert.graph import litert_model
    from nas.exporters.litert.session import litert_interpreter

    spec = ArchSpec.from_strings(
        "whole", [strings[:1], strings[1:2], strings[2:]], stem=StemSpec(channels=20), head=HeadSpec(channels=40)
    )
    spec = replace(spec, activation="gelu")
    interpreter = litert_interpreter(litert_model(inference_graph(spec, resolution_px=33)), 1)
    nodes = interpreter._get_ops_details()
    (delegate,) = (node for node in nodes if node["op_name"] == "DELEGATE")
    computed = {int(index) for node in nodes for index in node["outputs"]}
    assert not computed & set(delegate["inputs"].tolist())  # nothing is computed before it,
    assert delegate["outputs"].tolist() == [interpreter.get_output_details()[0]["index"]]  # nor after


@needs_litert
def test_a_squeeze_excite_of_matrix_products_is_the_one_of_convolutions() -> None:
    from nas.exporters.litert.session import open_graph

    spec = ArchSpec.from_strings(
        "squeezed", [["ds_r1_k3_s2_c24_se0.25"]], stem=StemSpec(channels=16), head=HEAD, classes=4
    )
    graph = inference_graph(spec, seed=1, resolution_px=16)  # random weights are those of a path, whatever the kind
    ops = tuple(op._replace(kind="linear") if ".se.conv_" in op.path else op for op in graph.ops)
    assert ops != graph.ops
    images = np.random.default_rng(0).standard_normal(graph.input_shape, dtype=np.float32)
    other = open_graph(replace(graph, ops=ops))(images)
    np.testing.assert_allclose(other, open_graph(graph)(images), rtol=1e-4)


@needs_litert
def test_a_model_says_its_signature_layout_and_metadata(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_litert.schema_py_generated import Model, ModelT

    from nas.exporters.litert.session import open_model, write_model

    spec = ArchSpec.from_strings("told", [["ds_r1_k3_s2_c16"]], stem=StemSpec(channels=16), head=HEAD, classes=2)
    graph = inference_graph(spec, batch=3, resolution_px=20, provenance={"class_names": ["cat", "dog"]})
    path = tmp_path / "told.tflite"
    assert write_model(graph, path) == (path,)
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["input"], "outputs": ["output"]}}
    assert interpreter.get_input_details()[0]["shape"].tolist() == [3, 20, 20, 3]
    images = np.random.default_rng(0).standard_normal(graph.input_shape, dtype=np.float32)
    direct = interpreter.get_signature_runner()(input=images.transpose(0, 2, 3, 1))["output"]
    np.testing.assert_array_equal(open_model(path)(images), direct)
    model = ModelT.InitFromObj(Model.GetRootAs(path.read_bytes(), 0))
    found = {entry.name.decode(): bytes(model.buffers[entry.buffer].data) for entry in model.metadata}
    assert found.pop("TFLITE_METADATA")[4:8] == b"M001"
    assert {name: text.decode() for name, text in found.items()} == graph.metadata
    assert "cat" in found["class_names"].decode()
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode().splitlines() == ["cat", "dog"]


def field(table: Any, number: int) -> int:
    """Position of a field of a flatbuffer's table."""
    return table.Pos + table.Offset(4 + 2 * number)


def items(table: Any, number: int) -> list[int]:
    """Positions of the items of four bytes of a vector."""
    start = table.Vector(field(table, number) - table.Pos)
    return list(range(start, start + 4 * table.VectorLen(field(table, number) - table.Pos), 4))


@needs_litert
def test_standard_metadata_are_those_of_their_schema() -> None:
    # Field numbers of metadata_schema.fbs; MediaPipe 1.2.3 classifies images with such a file, labels included.
    from flatbuffers import encode, number_types
    from flatbuffers.table import Table

    from nas.exporters.litert.task_metadata import classifier_metadata

    content = classifier_metadata("net", 3, {"mean": [0.5, 0.25, 0], "std": [1, 1, 0.5]}, has_labels=True)

    def root() -> Any:
        return Table(content, encode.Get(number_types.UOffsetTFlags.packer_type, content, 0))

    def first(table: Any, number: int) -> Any:
        return Table(content, table.Indirect(items(table, number)[0]))

    def inner(table: Any, number: int) -> Any:
        return Table(content, table.Indirect(field(table, number)))

    def floats(table: Any, number: int) -> list[float]:
        return [table.Get(number_types.Float32Flags, position) for position in items(table, number)]

    assert root().String(field(root(), 0)) == b"net"
    subgraph = first(root(), 3)
    image, logits = first(subgraph, 2), first(subgraph, 3)
    options = inner(first(image, 4), 1)
    assert floats(options, 0) == [127.5, 63.75, 0]  # of bytes
    assert floats(options, 1) == [255, 255, 127.5]
    color = inner(inner(image, 3), 1)
    assert color.Get(number_types.Int8Flags, field(color, 0)) == 1  # RGB
    file = first(logits, 6)
    assert file.String(field(file, 0)) == b"labels.txt"
    assert file.Get(number_types.Int8Flags, field(file, 2)) == 2  # TENSOR_AXIS_LABELS


@needs_litert
def test_parts_of_a_split_that_nothing_reads_are_not_written() -> None:
    from nas.exporters.litert.nodes import NodeBuilder

    builder = NodeBuilder("split")
    builder.tensor("x", (1, 2, 2, 6))
    builder.split("x", ["x:0", "x:1", "x:2"], (1, 2, 3), read={"x:0", "x:2"})
    assert builder.computed == ["x:0", "x:2"]
    assert builder.shape("x:2") == (1, 2, 2, 3)


def test_activations_of_a_concat_move_into_convolutions_that_nothing_else_reads() -> None:
    conv = Op("conv", "a", ("",), 8, 4, 5, 5)
    other = Op("depthwise", "b", ("",), 8, 8, 5, 5)
    concat = Op("concat", "c", ("a", "b"), 12, 12, 5, 5, activation="relu6")
    moved = [op.activation for op in fused_before_concats((conv, other, concat))]
    assert moved == ["relu6", "relu6", None]
    for ops in (
        (conv, other, concat._replace(activation="swish")),  # no convolution applies it
        (conv, other._replace(activation="relu"), concat),
        (conv, other, concat, Op("add", "d", ("a", "a"), 8, 4, 5, 5)),  # which reads it without the activation
        (conv, other, concat._replace(inputs=("", "b"))),
    ):
        assert fused_before_concats(ops) == ops


def test_without_its_package_the_format_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.exporters.formats.find_spec", lambda name: None)
    with pytest.raises(NasError, match=r"ai_edge_litert is not installed; pip install 'nas\[litert\]'"):
        format_of("litert").module()
