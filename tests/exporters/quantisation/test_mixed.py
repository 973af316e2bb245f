"""Mixed precision: the layer that int8 spoils is found, stays float32, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.exporters.check import run_in_batches
from nas.exporters.formats import ImageBatch, Run, format_of, is_installed
from nas.exporters.graph import InferenceGraph, inference_graph
from nas.exporters.quantisation import PairedAccuracy, block_units, layer_units, write_mixed_int8
from nas.exporters.quantisation.comparison import FloatComparison, correct_images_of
from nas.exporters.rewriting.named import named_forms
from nas.model.weights import random_state_dict

BATCH = 16
SPEC = ArchSpec.from_strings(
    "small",
    [["ds_r1_k3_s1_c16"], ["ir_r2_k3.5_s2_e3_c24_se0.25"]],
    stem=StemSpec(channels=16),
    head=HeadSpec(channels=32),
    resolution_px=16,
    classes=5,
)
ONNX = format_of("onnx")


class Images:
    """Noise in memory, with the classes that a network finds in it."""

    def __init__(self, images: ImageBatch, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels

    def __iter__(self) -> Iterator[ImageBatch]:
        yield self.images


class Parts(Images):
    """Images in parts."""

    def __iter__(self) -> Iterator[ImageBatch]:
        yield from self.images


def noise(count: int, seed: int) -> ImageBatch:
    return np.random.default_rng(seed).standard_normal((count, 3, 16, 16), dtype=np.float32)


def graph_with_outlier(path: str | None = "blocks.1.1") -> InferenceGraph:
    """A network in which one channel of a depthwise convolution is far from the others, and is not used after it.

    With one scale for all channels of a tensor, as int8 activations have, the others are rounded to next to nothing,
    while float32 is what it would be without the outlier.
    """
    weights: dict[str, Any] = {name: tensor.numpy().copy() for name, tensor in random_state_dict(SPEC, 0).items()}
    if path:
        weights[f"{path}.bn2.bias"][3] += 20_000
        weights[f"{path}.conv_pwl.weight"][:, 3] = 0
    return inference_graph(SPEC, weights=weights, batch=BATCH)


def selection(graph: InferenceGraph, count: int = 320) -> Images:
    images = noise(count, 1)
    return Images(images, run_in_batches(ONNX.module().open_graph(graph), images, BATCH).argmax(axis=1))


def test_the_layer_that_int8_spoils_stays_float32(tmp_path: Path) -> None:
    graph = graph_with_outlier()
    images, steps = selection(graph), []
    found = write_mixed_int8(
        graph, ONNX, tmp_path / "mixed.onnx", calibration=noise(16, 0), selection=images, tolerance=0.02,
        on_progress=lambda done, total: steps.append((done, total)),
    )  # fmt: skip
    assert found.blocks[0].unit.name == "blocks.1.1" and found.blocks[0].error > 10 * found.blocks[1].error
    assert "blocks.1.1.conv_dw" in found.float_layers
    assert all(layer.startswith("blocks.1.1.") for layer in found.float_layers)
    assert found.int8.loss > 0.02 >= found.mixed.loss
    # The file itself is what the figures are of, and its other layers are int8.
    run = ONNX.module().open_model(found.files[0])
    assert found.mixed.images == len(images.labels)
    assert int(correct_images_of(run, images, BATCH).sum()) == found.mixed.correct
    model = onnx.load(found.files[0])
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert stored["blocks.1.1.conv_dw.0.weight"] == onnx.TensorProto.FLOAT
    assert stored["blocks.1.0.conv_dw.0.weight_quantized"] == onnx.TensorProto.INT8
    assert stored["blocks.0.0.conv_pw.weight_quantized"] == onnx.TensorProto.INT8
    assert steps and all(done <= total for done, total in steps)


@pytest.mark.parametrize(("name", "package"), [("litert", "ai_edge_quantizer"), ("openvino", "nncf")])
def test_mixed_precision_is_the_same_in_every_format(name: str, package: str, tmp_path: Path) -> None:
    if not is_installed(package):
        pytest.skip(f"needs {package}: pip install -e '.[{name}]'")
    form, graph = format_of(name), graph_with_outlier()
    images = selection(graph)
    found = write_mixed_int8(
        graph, form, tmp_path / f"mixed{form.suffix}", calibration=noise(16, 0), selection=images, tolerance=0.02
    )
    assert found.blocks[0].unit.name == "blocks.1.1"
    # Quantisers round a tensor where it is written (LiteRT) or where it is read (OpenVINO).
    assert {"blocks.1.1.conv_dw", "blocks.1.1.conv_pwl"} & set(found.float_layers)
    assert all(layer.startswith("blocks.1.1.") for layer in found.float_layers)
    run = form.module().open_model(found.files[0])
    assert int(correct_images_of(run, images, BATCH).sum()) == found.mixed.correct


def test_nothing_stays_float32_where_int8_is_accurate(tmp_path: Path) -> None:
    graph = graph_with_outlier(None)
    found = write_mixed_int8(
        graph, ONNX, tmp_path / "int8.onnx", calibration=noise(16, 0), selection=selection(graph), tolerance=0.2
    )
    assert found.float_layers == () and found.blocks == () and found.mixed == found.int8


def test_as_many_images_are_compared_as_it_takes() -> None:
    """Networks that lose a known share of the images, in parts of 100; the bounds are those of the normal."""
    parts, labels = np.zeros((40, 100, 1, 1, 1), dtype=np.float32), np.zeros(4000, dtype=np.int64)
    parts[:] = np.arange(4000, dtype=np.float32).reshape(40, 100, 1, 1, 1)
    images = Parts(parts, labels)

    def losing(share: float) -> Run:
        """Classify every image correctly but a ``share``, spread evenly."""

        def run(batch: ImageBatch) -> np.ndarray:
            wrong = np.floor((batch.ravel() + 1) * share) > np.floor(batch.ravel() * share)
            return np.stack([~wrong, wrong], axis=1).astype(np.float32)

        return run

    comparison = FloatComparison(losing(0.0), images, 100)
    for share, tolerance, compared in (
        (0.002, 0.05, 500),  # far below: 1 of 500
        (0.2, 0.05, 500),  # far above
        (0.045, 0.05, 4000),  # below by 0.005, where the error of 4,000 is sqrt(0.045 / 4000) = 0.0034
        (0.04, 0.05, 2000),  # by 0.01: errors 0.0088 of 500, 0.0062 of 1,000, 0.0044 of 2,000; 1.645 times is below it
    ):
        found = comparison.accuracy(losing(share), tolerance)
        assert (found.images, found.gained) == (compared, 0)
        assert found.loss == pytest.approx(share, abs=1e-3)
    # Those that float32 gets wrong count as gained.
    found = FloatComparison(losing(0.1), images, 100).accuracy(losing(0.0), 0.01)
    assert (found.lost, found.gained, found.images) == (0, 50, 500)


def test_units_partition_the_operations() -> None:
    graph = graph_with_outlier(None)
    blocks = block_units(graph)
    assert [unit.name for unit in blocks] == [
        "conv_stem", "blocks.0.0", "blocks.1.0", "blocks.1.1", "conv_head", "classifier",
    ]  # fmt: skip
    assert sum(len(unit.ops) for unit in blocks) == len(graph.ops)
    assert frozenset().union(*(unit.ops for unit in blocks)) == {op.path for op in graph.ops}
    layers = layer_units(graph, blocks[2].ops)
    assert [unit.name.removeprefix("blocks.1.0.") for unit in layers] == ["conv_pw", "conv_dw", "se", "conv_pwl"]
    assert frozenset().union(*(unit.ops for unit in layers)) == blocks[2].ops


def test_rewritten_blocks_are_units_too(tmp_path: Path) -> None:
    graph = inference_graph(SPEC, batch=BATCH, forms=named_forms(SPEC, ("merge_mixconv", "group_pointwise")))
    blocks = block_units(graph)
    assert [unit.name for unit in blocks] == [unit.name for unit in block_units(graph_with_outlier(None))]
    assert frozenset().union(*(unit.ops for unit in blocks)) == {op.path for op in graph.ops}
    (kept,) = (unit for unit in blocks if unit.name == "blocks.1.1")
    (path,) = ONNX.int8_module().write_int8(graph, tmp_path / "kept.onnx", [noise(BATCH, 0)], kept.ops)
    weights = {tensor.name for tensor in onnx.load(path).graph.initializer if tensor.name.startswith("blocks.")}
    floats = {name for name in weights if name.endswith(".weight")}
    assert floats and all(name.startswith("blocks.1.1.") for name in floats)


def test_a_paired_loss_is_that_of_the_table_of_the_two() -> None:
    float_correct = np.array([True] * 90 + [False] * 10)
    correct = np.array([True] * 84 + [False] * 6 + [True] * 2 + [False] * 8)
    found = PairedAccuracy.of(correct, float_correct)
    assert (found.correct, found.lost, found.gained) == (86, 6, 2)
    assert found.loss == pytest.approx(0.04)
    # Agresti and Min, 2005: half an image in each of the four cells, then Wald's formula.
    lost, gained, images = 6.5, 2.5, 102
    expected = ((lost + gained - (lost - gained) ** 2 / images) ** 0.5) / images
    assert found.loss_error == pytest.approx(expected)
