"""Tests of detectors and segmenters as specs: maps, counts, files, and refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nas.arch import zoo
from nas.arch.complexity import complexity, layers
from nas.arch.files import dump_spec, parse_spec
from nas.arch.heads import LRASPPHead, SSDLiteHead, backbone, dense_network, detector, segmenter, taps
from nas.arch.heads.settings import HeadSettings
from nas.arch.ops.network import network_ops, output_ops
from nas.arch.parts import HeadSpec
from nas.arch.scaling.transform import Scaling, scale
from nas.arch.spec import ArchSpec
from nas.core.errors import SpecError

LARGE = zoo.get("mobilenetv3_large_100")


def network(*stages: list[str], stem_stride: int = 2) -> ArchSpec:
    spec = zoo.get("mobilenetv2_100")
    stem = replace(spec.stem, stride=stem_stride)
    return ArchSpec.from_strings("own", stages, stem=stem, head=HeadSpec(channels=64), resolution_px=64)


@pytest.mark.parametrize("ratios", [(), (2.0,), (2.0, 3.0), (1.5, 2.0, 3.0)])
def test_the_first_map_has_the_boxes_of_the_others_whatever_the_ratios(ratios: tuple[float, ...]) -> None:
    spec = HeadSettings(aspect_ratios=ratios).network(LARGE, "detection", 3)
    assert isinstance(spec.head, SSDLiteHead)
    assert set(spec.head.level_anchors) == {2 + 2 * len(ratios)}


def test_c4_is_the_expansion_of_the_block_with_the_last_stride() -> None:
    """MobileNetV3, section 6.3: layer 13 of Large expands 112 to 672 channels at stride 16."""
    (tap,) = taps(detector(LARGE, 90))
    assert (tap.block, tap.inner, tap.channels, tap.stride) == ("blocks.5.0", "conv_pw", 672, 16)
    (tap,) = taps(detector(LARGE, 90, tap="output"))
    assert (tap.block, tap.inner, tap.channels, tap.stride) == ("blocks.4.1", "", 112, 16)


def test_c3_is_that_of_the_stride_before() -> None:
    """At stride 8: layer 8 of Large expands 40 to 240 channels (MobileNetV3, table 1)."""
    c3, c4 = taps(detector(LARGE, 90, c3_scale=0.1))
    assert (c3.block, c3.inner, c3.channels, c3.stride) == ("blocks.3.0", "conv_pw", 240, 8)
    assert (c4,) == taps(detector(LARGE, 90))
    c3, c4 = taps(detector(LARGE, 90, tap="output", c3_scale=0.1))
    assert (c3.block, c3.inner, c3.channels, c3.stride) == ("blocks.2.2", "", 40, 8)
    assert (c4,) == taps(detector(LARGE, 90, tap="output"))


def test_the_map_for_small_objects_costs_two_separable_convolutions() -> None:
    """On 240 channels at 40 x 40 px: depthwise 3x3, norm, 1x1 with bias to 6 boxes of 91 classes and of 4 values."""
    plain, further = (complexity(detector(LARGE, 90, resolution_px=320, c3_scale=scale)) for scale in (None, 0.1))
    outputs = 6 * 91 + 6 * 4
    assert further.params - plain.params == 2 * 240 * (9 + 2) + (240 + 1) * outputs
    assert further.macs - plain.macs == 40 * 40 * 240 * (2 * 9 + outputs)


def test_detectors_without_it_keep_their_hashes_and_files() -> None:
    """Of the version before the field."""
    spec = detector(zoo.get("mobilenetv3_small_050"), 3, resolution_px=256)
    assert spec.arch_id == "f9b5d8672755"
    assert "c3_scale" not in dump_spec(spec)
    assert detector(zoo.get("mobilenetv3_small_050"), 3, resolution_px=256, c3_scale=0.1).arch_id != spec.arch_id


def test_a_block_without_expansion_gives_the_map_before_it() -> None:
    (tap,) = taps(detector(network(["ds_r1_k3_s1_c16"], ["ds_r2_k3_s2_c24"]), 3))
    assert (tap.block, tap.inner, tap.channels, tap.stride) == ("blocks.0.0", "", 16, 2)


def test_the_maps_of_ssdlite_halve_down_to_one_pixel() -> None:
    """At 320 px: 20, 10, 5, 3, 2, 1 (the maps of torchvision's SSDLite320)."""
    spec = detector(LARGE, 90, resolution_px=320)
    ops = {op.path: op for op in network_ops(spec)}
    outputs = [ops[path] for path in output_ops(spec)]
    assert [op.out_px for op in outputs] == [20, 10, 5, 3, 2, 1] * 2
    assert [op.out_channels for op in outputs] == [6 * 91] * 6 + [6 * 4] * 6


def test_halving_halves_every_map_behind_c4() -> None:
    """MobileNetV3, section 6.3: 160 to 80 channels, 960 to 480; C4 and what is before stay."""
    whole, half = (detector(LARGE, 90, halve=halve) for halve in (False, True))
    before, after = ([placed for placed in spec.placed_blocks()] for spec in (whole, half))
    channels = [(one.block.channels, other.block.channels) for one, other in zip(before, after, strict=True)]
    assert channels[-4:] == [(160, 80), (160, 80), (160, 80), (960, 480)]
    assert all(one == other for one, other in channels[:-4])
    assert [one.hidden_channels for one in after[-4:-1]] == [672, 480, 480]


@pytest.mark.parametrize("output_stride", (8, 16, 32))
def test_strides_beyond_the_output_stride_become_dilations(output_stride: int) -> None:
    spec = segmenter(LARGE, 19, resolution_px=512, output_stride=output_stride)
    last = list(spec.placed_blocks())[-2]
    assert last.dilation == 32 // output_stride
    ops = {op.path: op for op in network_ops(spec)}
    assert ops["aspp_conv"].in_px == 512 // output_stride == 512 // spec.total_stride
    assert ops["logits"].out_px == 64
    plain = segmenter(LARGE, 19, resolution_px=512, output_stride=32)
    assert complexity(spec).params == complexity(plain).params


@pytest.mark.parametrize("name", ("mobilenetv1_100", "mobilenetv2_100", "mixnet_s", "efficientnet_b0"))
@pytest.mark.parametrize("output_stride", (8, 16, 32))
def test_costs_are_those_of_the_layers(name: str, output_stride: int) -> None:
    arch = zoo.get(name)
    for tap in ("expansion", "output"):
        for c3_scale in (None, 0.1):
            _agrees(detector(arch, 20, resolution_px=160, output_stride=output_stride, tap=tap, c3_scale=c3_scale))
    for low in (4, 8, 16):
        if low <= output_stride:
            _agrees(segmenter(arch, 19, resolution_px=160, output_stride=output_stride, low_stride=low))


def _agrees(spec: ArchSpec) -> None:
    cost, rows = complexity(spec), layers(spec)
    assert sum(row.params for row in rows) == cost.params
    assert sum(row.macs for row in rows) == cost.macs
    assert max(row.live_bytes for row in rows) == cost.peak_memory_bytes


@pytest.mark.parametrize(
    "spec",
    (
        detector(LARGE, 3, halve=True, lowest_anchors=3, aspect_ratios=(2.0, 3.0, 4.0), extra_channels=(64, 32)),
        detector(LARGE, 3, c3_scale=0.07),
        segmenter(LARGE, 11, filters=64, output_stride=8),
    ),
    ids=("ssdlite", "ssdlite_c3", "lraspp"),
)
def test_spec_files_round_trip(spec: ArchSpec) -> None:
    read = parse_spec(dump_spec(spec)).arch
    assert read == spec
    assert read.arch_id == spec.arch_id


def test_each_choice_of_a_head_is_another_network() -> None:
    specs = [
        LARGE,
        detector(LARGE, 3),
        detector(LARGE, 4),
        detector(LARGE, 3, halve=True),
        detector(LARGE, 3, output_stride=16),
        detector(LARGE, 3, tap="output"),
        detector(LARGE, 3, head_width=0.5),
        segmenter(LARGE, 3),
        segmenter(LARGE, 3, output_stride=8),
    ]
    assert len({spec.arch_id for spec in specs}) == len(specs)


def test_the_backbone_has_the_stages_and_the_last_convolution() -> None:
    spec = zoo.get("mobilenetv2_100")
    assert backbone(detector(spec, 3)).head == HeadSpec(channels=1280)
    assert backbone(segmenter(spec, 3)).head == HeadSpec(channels=0)
    assert backbone(detector(spec, 3)).stages == spec.stages
    assert backbone(spec) is spec


def test_a_network_keeps_the_head_that_it_has_for_the_task() -> None:
    spec = detector(LARGE, 3, halve=True)
    again = dense_network(spec, "detection", 7, resolution_px=96)
    assert (again.head, again.classes, again.resolution_px) == (spec.head, 7, 96)
    with pytest.raises(SpecError, match="its head is for detection, not for segmentation"):
        dense_network(spec, "segmentation", 7)


def test_proxies_scale_trunk_and_keep_the_head() -> None:
    scaled = scale(segmenter(LARGE, 11), Scaling(width=0.25, resolution_px=96, divisor=2))
    assert scaled.task == "segmentation"
    assert scaled.resolution_px == 96
    assert complexity(scaled).params < complexity(segmenter(LARGE, 11)).params / 3


@pytest.mark.parametrize(
    ("make", "text"),
    (
        (lambda: detector(network(["ds_r1_k3_s1_c16"]), 3), "no block has stride 2"),
        (lambda: segmenter(network(["ds_r1_k3_s2_c16"]), 3), "has no map of stride 8; it has 2, 4"),
        (lambda: detector(detector(LARGE, 3), 3), "its head is for detection; give a network with a classifier"),
        (lambda: SSDLiteHead(extra_channels="512"), "extra_channels '512': must be a list"),
        (lambda: SSDLiteHead(aspect_ratios=(0.5,)), "aspect_ratios 0.5: must be above 1"),
        (lambda: SSDLiteHead(lowest_anchors=5), "lowest_anchors 5: must be 3, 4 or 6 with 2 ratios"),
        (lambda: SSDLiteHead(lowest_anchors=6, aspect_ratios=(2.0,)), "must be 3 or 4 with 1 ratio in aspect_ratios"),
        (lambda: detector(LARGE, 3, aspect_ratios="2"), "aspect_ratios '2': must be a list of at most 4 numbers"),
        (lambda: SSDLiteHead(lowest_anchors=3, aspect_ratios=()), "lowest_anchors 3: must be 2 with 0 ratios"),
        (lambda: SSDLiteHead(min_scale=0.9, max_scale=0.2), "min_scale 0.9, max_scale 0.2"),
        (lambda: SSDLiteHead(output_stride=12), "unknown output_stride 12: choose from 8, 16, 32"),
        (lambda: SSDLiteHead(tap="input"), "unknown tap 'input'"),
        (lambda: SSDLiteHead(c3_scale=0.2), r"c3_scale 0.2: must be above 0 and below min_scale \(0.2\), or null"),
        (lambda: SSDLiteHead(c3_scale=0.0), "c3_scale 0.0: must be above 0"),
        (
            lambda: detector(network(["ds_r1_k3_s1_c16"], ["ds_r2_k3_s2_c24"]), 3, c3_scale=0.1),
            "'own_ssdlite': a detector needs maps of three strides; 1 block has stride 2; leave c3_scale out",
        ),
        (lambda: LRASPPHead(filters=0), "filters 0: must be a whole number of at least 1"),
        (lambda: LRASPPHead(low_stride=16, output_stride=8), "low_stride 16: must be 4, 8 or 16, and at most"),
        (lambda: LRASPPHead(activation="tanh"), "unknown activation 'tanh'"),
    ),
)
def test_mistakes_are_named(make, text: str) -> None:
    with pytest.raises(SpecError, match=text):
        make()


def test_an_unknown_field_of_a_head_file_is_named() -> None:
    text = dump_spec(detector(LARGE, 3)).replace("min_scale", "least_scale")
    with pytest.raises(SpecError, match=r"head\.least_scale: unknown field"):
        parse_spec(text)
