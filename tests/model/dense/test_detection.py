"""Default boxes, outputs and detections of SSDLite against torchvision and closed formulas."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSDScoringHead
from torchvision.ops import box_convert

from nas.arch import zoo
from nas.arch.heads import SSDLiteHead, detector
from nas.core.errors import NasError
from nas.model.dense.detection import default_boxes, detections, find_boxes, flatten_outputs, grid_boxes

SIDES = (20, 10, 5, 3, 2, 1)


def test_default_boxes_are_those_of_torchvisions_ssdlite320() -> None:
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)
    maps = [torch.zeros(1, 1, side, side) for side in SIDES]
    (theirs,) = model.anchor_generator(ImageList(torch.zeros(1, 3, 320, 320), [(320, 320)]), maps)
    spec = detector(zoo.get("mobilenetv3_large_100"), 3, resolution_px=320)
    ours = default_boxes(spec)
    assert ours.shape == (3234, 4)
    torch.testing.assert_close(box_convert(ours, "cxcywh", "xyxy") * 320, theirs)
    assert torch.equal(default_boxes(replace(spec, resolution_px=64), 320), ours)


def test_three_boxes_of_the_lowest_map_are_tensorflows() -> None:
    boxes = grid_boxes(SSDLiteHead(extra_channels=(), lowest_anchors=3), (1, 1))
    root = math.sqrt(2)
    expected = [[0.5, 0.5, 0.1, 0.1], [0.5, 0.5, 0.2 * root, 0.2 / root], [0.5, 0.5, 0.2 / root, 0.2 * root]]
    torch.testing.assert_close(boxes[:3], torch.tensor(expected))
    assert len(boxes) == 3 + 6
    assert len(grid_boxes(SSDLiteHead(extra_channels=(), lowest_anchors=4), (1, 1))) == 4 + 6


@pytest.mark.parametrize("lowest", [3, 4, 6])
def test_boxes_of_the_map_for_small_objects_come_last(lowest: int) -> None:
    """They are those of torchvision's generator for a map of their scale before one of the smallest."""
    plain, further = (SSDLiteHead(lowest_anchors=lowest, c3_scale=scale) for scale in (None, 0.075))
    boxes = grid_boxes(further, (*SIDES, 40))
    count = len(grid_boxes(plain, SIDES))
    assert torch.equal(boxes[:count], grid_boxes(plain, SIDES))
    theirs = DefaultBoxGenerator([[2, 3], [2, 3]], scales=[0.075, 0.2, 1.0])
    (first,) = theirs(
        ImageList(torch.zeros(1, 3, 320, 320), [(320, 320)]), [torch.zeros(1, 1, 40, 40), torch.zeros(1, 1, 1, 1)]
    )
    torch.testing.assert_close(box_convert(boxes[count:], "cxcywh", "xyxy") * 320, first[: 40 * 40 * 6])
    assert len(boxes) == count + 40 * 40 * 6 and further.level_anchors == (*plain.level_anchors, 6)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_outputs_are_joined_in_torchvisions_order(layout: torch.memory_format) -> None:
    spec = detector(zoo.get("mobilenetv3_small_050"), 3, resolution_px=64)
    sides, anchors, generator = (4, 2, 1, 1, 1, 1), 6, torch.Generator().manual_seed(0)
    maps = [
        torch.randn(2, anchors * columns, side, side, generator=generator).contiguous(memory_format=layout)
        for columns in (4, 4)
        for side in sides
    ]
    logits, offsets = flatten_outputs(spec, maps)
    same = nn.ModuleList(nn.Identity() for _ in sides)
    assert torch.equal(logits, SSDScoringHead(same, 4)([one.contiguous() for one in maps[:6]]))
    assert torch.equal(offsets, SSDScoringHead(same, 4)([one.contiguous() for one in maps[6:]]))
    assert logits.shape[1] == len(default_boxes(spec))


def test_detections_are_those_of_torchvisions_whole_detector() -> None:
    torch.manual_seed(0)
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4).eval()
    images = torch.rand(2, 3, 320, 320)
    raw: list[torch.Tensor] = []
    heads = (model.head.classification_head, model.head.regression_head)
    hooks = [
        layer.register_forward_hook(lambda module, inputs, output: raw.append(output))
        for head in heads
        for layer in head.module_list
    ]
    with torch.inference_mode():
        for head in heads:
            for layer in head.module_list:
                nn.init.normal_(layer[1].weight, std=0.3)
        theirs = model(list(images))
    for hook in hooks:
        hook.remove()
    spec = detector(zoo.get("mobilenetv3_large_100"), 3, resolution_px=320)
    boxes_first = raw[:6] if raw[0].shape[1] == 24 and raw[6].shape[1] == 24 else []
    assert boxes_first  # 6 boxes with 4 offsets, and with 4 classes: as many channels
    # torchvision computes box offsets first.
    ours = detections(spec, [*raw[6:], *raw[:6]])
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.boxes * 320, other["boxes"], rtol=1e-4, atol=1e-2)
        torch.testing.assert_close(mine.scores, other["scores"])
        assert torch.equal(mine.labels + 1, other["labels"])


def test_a_box_is_decoded_by_ssds_formula_and_its_duplicate_removed() -> None:
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.4], [0.5, 0.5, 0.2, 0.4], [0.1, 0.1, 0.1, 0.1]])
    offsets = torch.tensor([[[1.0, -2.0, 1.0, -1.0], [1.0, -2.0, 1.0, -1.0], [-10.0, 0.0, 0.0, 0.0]]])
    logits = torch.log(torch.tensor([[[0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.4, 0.0001, 0.5999]]]))
    (found,) = find_boxes(logits, offsets, boxes, score_threshold=0.2)
    x, y = 0.5 + 0.1 * 0.2, 0.5 - 0.2 * 0.4
    width, height = 0.2 * math.exp(0.2), 0.4 * math.exp(-0.2)
    first = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    second = [0.0, 0.05, 0.05, 0.15]  # clipped at the image's edge
    torch.testing.assert_close(found.boxes, torch.tensor([first, second]))
    torch.testing.assert_close(found.scores, torch.tensor([0.8, 0.5999]))
    assert found.labels.tolist() == [0, 1]


def test_a_classifier_is_refused() -> None:
    with pytest.raises(NasError, match="is for classification, not for detection"):
        default_boxes(zoo.get("mobilenetv3_small_050"))
