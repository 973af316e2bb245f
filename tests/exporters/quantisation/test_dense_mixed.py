"""Mixed precision of detectors and segmenters: by their own score, with the error of its paired difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from nas.arch.heads import detector, segmenter
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.exporters.check import FileScore, run_in_batches
from nas.exporters.deployment import quantised
from nas.exporters.formats import ImageBatch, Run, format_of, is_installed, outputs_of
from nas.exporters.graph import InferenceGraph, inference_graph
from nas.exporters.processing import Processing
from nas.exporters.quantisation import (
    PairedFileScore,
    Sensitivity,
    block_units,
    layer_units,
    mixed,
    quantisation_rows,
    write_mixed_int8,
)
from nas.exporters.quantisation.comparison import ScoreComparison
from nas.model.weights import random_state_dict

TRUNK = ArchSpec.from_strings(
    "small",
    [["ds_r1_k3_s2_c16"], ["ds_r1_k3_s2_c16"], ["ir_r1_k3_s2_e2_c24"], ["ir_r1_k3_s2_e2_c32"]],
    stem=StemSpec(channels=16),
    head=HeadSpec(channels=32),
    resolution_px=64,
    classes=4,
)
SEGMENTER = segmenter(TRUNK, classes=4, resolution_px=64)
DETECTOR = replace(detector(TRUNK, classes=2, resolution_px=64, extra_channels=(32,)), name="cells")
ONNX = format_of("onnx")
BATCH = 8


def graph_with_outlier(spec: ArchSpec, norm: str = "", reader: str = "") -> InferenceGraph:
    """A network in which one channel behind ``norm`` is far from the others, and not used by ``reader``."""
    weights: dict[str, Any] = {name: tensor.numpy().copy() for name, tensor in random_state_dict(spec, 0).items()}
    if norm:
        for name in ("weight", "bias"):
            weights[f"{norm}.{name}"] /= 1000  # what is behind it is multiplied again; ReLU6 would clip a large one
        weights[f"{norm}.bias"][3] += 5
        weights[f"{reader}.weight"] *= 1000
        weights[f"{reader}.weight"][:, 3] = 0
    return inference_graph(spec, weights=weights, batch=BATCH)


def noise(count: int, seed: int) -> ImageBatch:
    return np.random.default_rng(seed).standard_normal((count, 3, 64, 64), dtype=np.float32)


class Images:
    """Noise whose truth is what float32 finds; ``compare`` gives a score of each image, (N,)."""

    def __init__(self, graph: InferenceGraph, metric: str, compare: Callable[..., Any], count: int = 32) -> None:
        self.images, self._metric, self._compare = noise(count, 1), metric, compare
        self._truth = outputs_of(run_in_batches(ONNX.module().open_graph(graph), self.images, BATCH))

    def __len__(self) -> int:
        return len(self.images)

    def score(self, run: Run, batch: int, count: int) -> FileScore:
        found = outputs_of(run_in_batches(run, self.images[:count], batch))
        return score_of(self._compare(found, [one[:count] for one in self._truth]), self._metric)


def score_of(values: Any, metric: str = "miou") -> FileScore:
    """The mean of scores of images, each a group: then the jackknife's error is that of a mean."""
    deviations = (values.mean() - values) / np.sqrt(len(values) * (len(values) - 1))
    error = values.std(ddof=1) / np.sqrt(len(values))
    return FileScore(
        metric=metric, accuracy=values.mean(), standard_error=error, images=len(values), metrics={},
        deviations=tuple(deviations.tolist()),
    )  # fmt: skip


def same_pixels(found: Any, truth: Any) -> Any:
    """Share of the pixels with the same class, once no class is more frequent than the others."""
    mean = truth[0].mean((0, 2, 3), keepdims=True)
    return ((found[0] - mean).argmax(1) == (truth[0] - mean).argmax(1)).mean((1, 2))


def same_classes(found: Any, truth: Any) -> Any:
    """Share of the default boxes of the first map with the same of three classes."""
    shape = (len(found[0]), -1, 3, *found[0].shape[2:])
    return (found[0].reshape(shape).argmax(2) == truth[0].reshape(shape).argmax(2)).mean((1, 2, 3))


@pytest.mark.parametrize(
    ("spec", "norm", "reader", "unit", "metric", "compare"),
    [
        (SEGMENTER, "blocks.0.0.bn1", "blocks.0.0.conv_pw", "blocks.0.0", "miou", same_pixels),
        (DETECTOR, "class_heads.0.bn", "class_heads.0.conv", "class_heads.0", "map", same_classes),
    ],
)
def test_the_block_that_int8_spoils_stays_float32(
    spec: ArchSpec, norm: str, reader: str, unit: str, metric: str, compare: Any, tmp_path: Path
) -> None:
    graph = graph_with_outlier(spec, norm, reader)
    images = Images(graph, metric, compare)
    processing = Processing(mean=(0.5,) * 3, std=(0.25,) * 3)
    whole = replace(graph, processing=processing) if metric == "miou" else graph
    found = write_mixed_int8(
        whole, ONNX, tmp_path / "mixed.onnx", calibration=noise(16, 0), selection=images, tolerance=0.1
    )
    assert found.blocks[0].unit.name == unit and found.blocks[0].error > 5 * found.blocks[1].error
    assert found.float_layers and all(layer.startswith(f"{unit}.") for layer in found.float_layers)
    assert found.int8.loss > 0.1 >= found.mixed.loss
    assert found.int8.metric_name == {"miou": "mIoU", "map": "AP"}[metric]
    # The file is what the figures are of; it alone has the processing.
    stored = {tensor.name: tensor.data_type for tensor in onnx.load(found.files[0]).graph.initializer}
    assert stored[f"{reader}.weight"] == onnx.TensorProto.FLOAT
    assert stored["conv_stem.weight_quantized"] == onnx.TensorProto.INT8
    run = ONNX.module().open_model(found.files[0])
    if whole.processing is None:
        assert images.score(run, BATCH, len(images)).accuracy == pytest.approx(found.mixed.accuracy)
    else:
        pixels = np.random.default_rng(2).integers(0, 256, (BATCH, 64, 64, 3), dtype=np.uint8)
        mask, logits = outputs_of(run(pixels))
        assert mask.shape == (BATCH, 64, 64) and logits.shape[:2] == (BATCH, 4)


@pytest.mark.parametrize(("name", "package"), [("litert", "ai_edge_quantizer"), ("openvino", "nncf")])
def test_every_format_keeps_parts_of_a_detector_in_float32(name: str, package: str, tmp_path: Path) -> None:
    if not is_installed(package):
        pytest.skip(f"needs {package}: pip install -e '.[{name}]'")
    form, graph = format_of(name), graph_with_outlier(DETECTOR, "class_heads.0.bn", "class_heads.0.conv")
    images = noise(BATCH, 0)
    errors: list[float] = []
    exact = outputs_of(form.module().open_graph(graph)(images))[0]
    for kept in (frozenset(), block_units(graph)[-1].ops, next_unit(graph, "class_heads.0")):
        path, *_ = form.int8_module().write_int8(graph, tmp_path / f"{len(errors)}{form.suffix}", [images], kept)
        found = outputs_of(form.module().open_model(path)(images))[0]
        errors.append(float(np.square(found - exact).mean() ** 0.5 / exact.std()))
    assert errors[2] < 0.2 < 0.5 * min(errors[:2])


def next_unit(graph: InferenceGraph, name: str) -> frozenset[str]:
    (unit,) = (unit for unit in block_units(graph) if unit.name == name)
    return unit.ops


def test_what_loses_more_whichever_blocks_stay_float32_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        mixed, "sensitivities", lambda graph, units, *others: [Sensitivity(unit=unit, error=1) for unit in units[:4]]
    )
    graph = graph_with_outlier(DETECTOR)
    images = Images(graph, "map", lambda found, truth: np.full(8, float(np.array_equal(found[0], truth[0]))), 8)
    with pytest.raises(mixed.NoMixedInt8Error, match=r"tolerance 0\.01: cells loses more AP in int8, whichever"):
        write_mixed_int8(graph, ONNX, tmp_path / "mixed.onnx", calibration=noise(8, 0), selection=images)
    assert not any(tmp_path.iterdir())


def test_as_many_images_are_scored_as_it_takes() -> None:
    """Networks whose images lose 0 or 2 * share in turn: the error of a loss is share / sqrt(n - 1)."""

    class Losing:
        def __len__(self) -> int:
            return 3000

        def score(self, run: Run, batch: int, count: int) -> FileScore:
            return score_of(1 - np.tile([0.0, 2 * float(np.ravel(run(count))[0])], count // 2))

    def constant(value: float) -> Run:
        return lambda _: np.full(1, value, np.float32)

    comparison = ScoreComparison(constant(0), Losing(), 1)
    for share, tolerance, images in (
        (0.01, 0.05, 500),  # far below
        (0.2, 0.05, 500),  # far above
        (0.049, 0.05, 3000),  # below by 0.001, where the error of 3,000 is 0.0009
        (0.047, 0.05, 1000),  # by 0.003: errors 0.0021 of 500, 0.0015 of 1,000; 1.645 times is below it
    ):
        found = comparison.accuracy(constant(share), tolerance)
        assert found.images == images and found.loss == pytest.approx(share)
        assert found.loss_error == pytest.approx(share / np.sqrt(images - 1))


def test_too_few_images_are_refused() -> None:
    assert [*map(len, quantisation_rows(205, 1, 0))] == [102, 103]
    assert [*map(len, quantisation_rows(9000, 1, 0))] == [128, 4000]
    assert [*map(len, quantisation_rows(9000, 400_000, 0))] == [128, 1000]  # 400 MB
    for count in (0, 1):
        with pytest.raises(NasError, match=rf"at least 2 train images, .* and there (is|are) {count}; add images"):
            quantisation_rows(count, 1, 0)


def test_a_loss_without_a_known_error_is_neither_above_nor_below() -> None:
    one = FileScore(metric="map", accuracy=0.5, standard_error=None, images=1, metrics={})
    found = PairedFileScore(images=1, score=one, float_score=replace(one, accuracy=0.9))
    assert found.loss == pytest.approx(0.4) and found.loss_error == np.inf
    assert not found.is_above(0.01) and not found.is_below(0.9)


@pytest.mark.parametrize(("layers", "said"), [(("aspp_conv",), "1 layer stays"), (("a", "b"), "2 layers stay")])
def test_the_layers_that_stay_float32_are_told_with_what_they_save(layers: tuple[str, ...], said: str) -> None:
    before = score_of(np.array([0.5, 0.7, 0.6]))
    int8, kept = (
        PairedFileScore(images=3, score=replace(before, accuracy=value), float_score=before) for value in (0.5, 0.59)
    )
    found = mixed.MixedInt8(
        files=(), float_layers=layers, float_ops=frozenset(layers), int8=int8, mixed=kept, blocks=(), tolerance=0.01
    )
    text = quantised._layers_text(found, 12)
    assert f"12 train images; {said} float32 ({', '.join(layers)})" in text
    assert "everything in int8 changes mIoU by -10.00 ± 0.00 points (3 images), this form by -1.00 ± 0.00" in text


@pytest.mark.parametrize("spec", [SEGMENTER, DETECTOR])
def test_units_partition_the_operations(spec: ArchSpec) -> None:
    graph = inference_graph(spec)
    blocks = block_units(graph)
    assert sum(len(unit.ops) for unit in blocks) == len(graph.ops)
    assert frozenset().union(*(unit.ops for unit in blocks)) == {op.path for op in graph.ops}
    names = [unit.name for unit in blocks if not unit.name.startswith("blocks.")]
    if spec is DETECTOR:
        heads = {f"{kind}_heads.{level}" for kind in ("class", "box") for level in range(3)}
        assert {*names} == heads | {"extra.0", "conv_stem", "conv_head"}
        layers = [unit.name for unit in layer_units(graph, next_unit(graph, "class_heads.0"))]
        assert layers == ["class_heads.0.conv_dw", "class_heads.0.conv"]
