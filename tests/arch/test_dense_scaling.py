"""Scaling, shrinking and rewriting of detectors and segmenters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.files import dump_scaled_spec, parse_spec
from nas.arch.heads import LRASPPHead, SSDLiteHead, backbone, detector, segmenter
from nas.arch.rewrites import deep_hswish, efficient_last_stage
from nas.arch.scaling.family import formula_member
from nas.arch.scaling.published_families import find_family
from nas.arch.scaling.shrinking import shrink_dimensions, smallest_network
from nas.arch.scaling.transform import Compound, Scaling, head_channels, scale
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError

DENSE = [
    build(zoo.get(name), 7, **options)
    for name in ("mobilenetv3_large_100", "mixnet_s", "efficientnet_b0")
    for build, options in ((detector, {}), (segmenter, {"output_stride": 8}), (segmenter, {"channels": 64}))
]


@pytest.mark.parametrize("spec", DENSE, ids=lambda spec: spec.name)
def test_width_scales_trunk_and_head_depth_and_resolution_the_trunk(spec: ArchSpec) -> None:
    scaled = scale(spec, Scaling(width=0.5, depth=2.0, resolution_px=96, dropout=0.3))
    trunk = scale(backbone(spec), Scaling(width=0.5, depth=2.0, resolution_px=96))
    assert backbone(scaled).stages == trunk.stages and scaled.stem == trunk.stem
    assert head_channels(scaled.head) == tuple(channels // 2 for channels in head_channels(spec.head))
    assert (scaled.task, scaled.resolution_px, scaled.total_stride) == (spec.task, 96, spec.total_stride)
    assert scaled.dropout == spec.dropout  # which is before a classifier
    kept = scale(spec, Scaling())
    assert kept.arch_id == spec.arch_id


def test_a_fixed_head_is_the_convolution_after_the_last_stage_alone() -> None:
    scaling = Scaling(width=0.5, head="fixed")
    scaled = scale(detector(zoo.get("mixnet_s"), 7), scaling).head
    assert isinstance(scaled, SSDLiteHead)
    assert (scaled.channels, scaled.extra_channels) == (1536, (256, 128, 128, 64))
    small = scale(segmenter(zoo.get("mixnet_s"), 7), Scaling(width=0.1, divisor=1)).head
    assert isinstance(small, LRASPPHead) and small.filters == 13  # of 128, to whole channels


@pytest.mark.parametrize("spec", DENSE, ids=lambda spec: spec.name)
def test_a_scaled_spec_file_gives_the_same_network(spec: ArchSpec) -> None:
    scaling = Scaling(width=0.7, depth=1.4, resolution_px=160, divisor=4)
    assert parse_spec(dump_scaled_spec(spec, scaling)).arch == scale(spec, scaling)


def test_compound_scaling_of_a_detector() -> None:
    spec = detector(zoo.get("efficientnet_b0"), 20)
    member = formula_member(spec, Compound(), 2)
    assert member.arch.task == "detection" and member.arch.dropout == 0
    # 1.1^2 of 512, 256, 256, 128 and 1280, to the nearest multiple of 8; 1.15^2 of 224 px to a multiple of 4.
    assert head_channels(member.arch.head) == (1552, 616, 312, 312, 152)
    assert member.arch.resolution_px == 296


def test_the_family_of_a_dense_network_is_that_of_its_trunk() -> None:
    for name in ("mobilenetv3_small_100", "mixnet_m", "efficientnet_b0", "mobilenetv4_conv_small"):
        if name not in zoo.names():
            continue
        unnamed = replace(zoo.get(name), name="mine")
        for build in (detector, segmenter):
            assert find_family(build(unnamed, 3)) == find_family(unnamed)


@pytest.mark.parametrize("spec", DENSE, ids=lambda spec: spec.name)
def test_every_dimension_shrinks_one_thing_and_keeps_task_and_strides(spec: ArchSpec) -> None:
    dimensions = shrink_dimensions(spec)
    names = {one.name for one in dimensions if one.kind == "head"}
    own = {"extra.0", "extra.1", "extra.2", "extra.3"} if spec.task == "detection" else {"filters"}
    assert names == (own | {""} if spec.head.channels else own)
    for one in dimensions:
        smaller = one.at(one.sizes[-1])
        assert (smaller.task, smaller.total_stride) == (spec.task, spec.total_stride)
        assert complexity(smaller).macs < complexity(spec).macs
    assert smallest_network(spec).total_stride == spec.total_stride


def test_a_shrunk_stage_keeps_the_stride_that_is_a_dilation() -> None:
    spec = segmenter(zoo.get("mobilenetv2_100"), 3, output_stride=8)
    (dimension,) = [one for one in shrink_dimensions(spec, kinds=("width",)) if one.name == "blocks.6.0"]
    smaller = dimension.at(64)
    assert [stage.blocks[0].stride for stage in smaller.stages] == [stage.blocks[0].stride for stage in spec.stages]


def test_the_efficient_last_stage_is_a_classifier_s() -> None:
    spec = detector(zoo.get("mobilenetv2_100"), 3)
    with pytest.raises(NasError, match=r"^head 'pool_conv': is the end of a classifier, and '.*' is for detection; "):
        efficient_last_stage(spec)
    assert deep_hswish(spec, 0.5).after.head == spec.head
