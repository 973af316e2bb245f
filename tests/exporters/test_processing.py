"""Random detectors and segmenters in files, and post-processing in them, against torch and torchvision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nas.arch.heads import detector, segmenter
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.exporters.formats import FORMATS, is_installed, outputs_of
from nas.exporters.graph import inference_graph
from nas.exporters.processing import dense_processing
from nas.model.build import build
from nas.model.dense.detection import detections
from tests.exporters.dense_specs import dense_specs
from tests.exporters.same_boxes import check_same_boxes
from tests.exporters.test_onnx_graph import with_random_norms
from tests.model.random_specs import specs

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
ANY_SIZE = 5  # of boxes that are compared: fewer would show nothing


def run_of(name: str, graph: Any) -> Any:
    if not all(map(is_installed, FORMATS[name].packages)):
        pytest.skip(f"{name} is not installed")
    return FORMATS[name].module().open_graph(graph)


def weights_of(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("name", ["onnx", "litert", "ncnn", "openvino"])
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(trunk=specs(), is_detector=st.booleans(), output_stride=st.sampled_from([8, 16, 32]))
def test_random_networks_with_heads_give_the_built_module_outputs(
    name: str, trunk: ArchSpec, is_detector: bool, output_stride: int
) -> None:
    try:
        spec = (detector if is_detector else segmenter)(trunk, 3, output_stride=output_stride)
        model = with_random_norms(build(spec))
    except NasError:  # the trunk has no map of the stride that the head reads
        assume(False)
    images = torch.randn(1, spec.in_channels, *[spec.resolution_px] * 2, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = model(images)
    found = outputs_of(run_of(name, inference_graph(spec, weights=weights_of(model)))(images.numpy()))
    for one, other in zip(found, expected if isinstance(expected, tuple) else (expected,), strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=1e-4 * float(other.abs().max()), rtol=0)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_pixels_become_the_boxes_and_masks_of_torch(name: str, number: int) -> None:
    spec = dense_specs()[number]
    model, px = with_random_norms(build(spec)), spec.resolution_px
    pixels = np.random.default_rng(0).integers(0, 256, (2, px, px, 3), dtype=np.uint8)
    graph = inference_graph(spec, weights=weights_of(model), batch=2)
    found = outputs_of(run_of(name, replace(graph, processing=dense_processing(spec, MEAN, STD)))(pixels))
    values = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        outputs = model((values - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))
    if spec.task == "segmentation":
        enlarged = torch.nn.functional.interpolate(outputs, (px, px), mode="bilinear", align_corners=False)
        assert (found[0] == enlarged.argmax(1).numpy()).mean() > 0.999 and found[0].dtype == np.uint8
        np.testing.assert_allclose(found[1], outputs.numpy(), atol=1e-4 * float(outputs.abs().max()))
        return
    for row, expected in enumerate(detections(spec, outputs, max_detections=110)):
        boxes, scores, labels = (output[row] for output in found)
        count = min(100, len(expected.scores))
        assert count > ANY_SIZE and not scores[count:].any()
        found_boxes = boxes[:count], scores[:count], labels[:count]
        check_same_boxes(found_boxes, expected, box_atol=1e-4, score_atol=1e-5)
