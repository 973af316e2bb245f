"""Detectors and segmenters against torchvision's: parameters, multiply-adds, outputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.heads import detector, segmenter
from nas.arch.ops import output_ops
from nas.arch.spec import ArchSpec
from nas.model.build import build
from tests.model.torch_counts import counts, without_storage
from tests.model.torchvision_dense import (
    SSD_NORM,
    DetectorMaps,
    randomise,
    renamed,
    segmenter_logits,
    ssd_maps,
)

SIZES: Final = {"large": "mobilenetv3_large_100", "small": "mobilenetv3_small_100"}


def network(size: str) -> ArchSpec:
    return zoo.get(SIZES[size])


def our_detector(size: str, classes: int, *, halved: bool) -> ArchSpec:
    return detector(replace(network(size), norm=SSD_NORM), classes, resolution_px=320, halve=halved)


def images(px: int) -> Tensor:
    return torch.randn(2, 3, px, px, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def outputs_of(ours: nn.Module, theirs: nn.Module, px: int) -> tuple[Any, Any]:
    """Outputs of both with the weights of ``theirs``, in float64."""
    randomise(theirs)
    ours.load_state_dict(renamed(theirs, ours), strict=True)
    with torch.inference_mode():
        return ours.double().eval()(images(px)), theirs.double().eval()(images(px))


def test_the_whole_detector_of_torchvision() -> None:
    with without_storage():
        theirs = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    spec = our_detector("large", 90, halved=True)
    cost = complexity(spec)
    assert (cost.params, cost.macs, cost.activations) == counts(ssd_maps(theirs), 3, 320)
    assert cost.params == sum(parameter.numel() for parameter in theirs.parameters()) == 3440060
    with without_storage():
        assert counts(build(spec), 3, 320) == (cost.params, cost.macs, cost.activations)


@pytest.mark.parametrize("halved", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_detectors_have_torchvisions_costs(size: str, halved: bool) -> None:
    spec = our_detector(size, 20, halved=halved)
    with without_storage():
        theirs = DetectorMaps(size, 21, halved=halved)
    px = 320 if halved else 193
    cost = complexity(spec, px)
    assert (cost.params, cost.macs, cost.activations) == counts(theirs, 3, px)


@pytest.mark.parametrize("halved", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_detectors_have_torchvisions_outputs(size: str, halved: bool) -> None:
    spec = our_detector(size, 3, halved=halved)
    found, expected = outputs_of(build(spec), DetectorMaps(size, 4, halved=halved), 128)
    assert len(found) == len(expected) == len(output_ops(spec))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("size", SIZES)
def test_segmenters_have_torchvisions_parameters(size: str) -> None:
    with without_storage():
        theirs = segmenter_logits(size, 21)
    spec = segmenter(network(size), 21, resolution_px=520)
    params, macs, _ = counts(theirs, 3, 520)
    cost = complexity(spec)
    assert cost.params == params
    # It classifies the map after enlarging it from 33 to 65 px.
    assert macs - cost.macs == 128 * 21 * (65**2 - 33**2)
    with without_storage():
        assert counts(build(spec), 3, 520) == (cost.params, cost.macs, cost.activations)


def test_the_whole_segmenter_of_torchvision_has_as_many_parameters() -> None:
    with without_storage():
        theirs = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)
    params = sum(parameter.numel() for parameter in theirs.parameters())
    assert complexity(segmenter(network("large"), 21)).params == params == 3221538


@pytest.mark.parametrize("px", [128, 72])
@pytest.mark.parametrize("size", SIZES)
def test_segmenters_have_torchvisions_outputs(size: str, px: int) -> None:
    """Of its parts with the low-level map of the last block of stride 8."""
    spec = segmenter(network(size), 5, filters=64)
    found, expected = outputs_of(build(spec), segmenter_logits(size, 5, filters=64), px)
    assert found.shape == (2, 5, px // 8, px // 8)
    torch.testing.assert_close(found, expected)
