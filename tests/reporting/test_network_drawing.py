"""Tests of network drawings as XML: content, overlap, bounds.

Every block is drawn with what its spec says.
"""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import ImageFont

from nas.arch import zoo
from nas.arch.heads import detector, segmenter
from nas.arch.ops.network import network_ops
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.reporting.network_drawing.boxes import owner
from nas.reporting.network_drawing.draw import draw

DENSE = (
    detector(zoo.get("mobilenetv3_large_100"), 20, resolution_px=320),
    detector(zoo.get("mobilenetv2_100"), 3),
    segmenter(zoo.get("mixnet_s"), 19),
)
SVG = "{http://www.w3.org/2000/svg}"
NETWORKS = ("mixnet_s", "mixnet_xxl", "mobilenetv1_100", "mobilenetv3_large_100", "efficientnet_b4", "efficientnet_b7")

Rect = tuple[float, float, float, float]  # left, top, right, bottom


def parse(text: str) -> ET.Element:
    return ET.fromstring(text)


def boxes(svg: ET.Element) -> dict[str, ET.Element]:
    found = [group for group in svg.iter(f"{SVG}g") if "data-path" in group.attrib]
    assert len({group.attrib["data-path"] for group in found}) == len(found)
    return {group.attrib["data-path"]: group for group in found}


def texts(element: ET.Element) -> list[str]:
    return [item.text or "" for item in element.iter(f"{SVG}text")]


def corners(rect: ET.Element) -> Rect:
    x, y, width, height = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def page(svg: ET.Element) -> Rect:
    left, top, width, height = map(float, svg.attrib["viewBox"].split())
    return left, top, left + width, top + height


def overlap(one: Rect, other: Rect) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def mixed(*strings: str, name: str = "test") -> ArchSpec:
    stages = [[text] for text in strings]
    return ArchSpec.from_strings(name, stages, stem=StemSpec(channels=16), head=HeadSpec(channels=0))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_block_is_drawn_once_and_in_order(name: str) -> None:
    spec = zoo.get(name)
    paths = [path for path in boxes(parse(draw(spec))) if path.startswith("blocks.")]
    assert paths == [placed.path for placed in spec.placed_blocks()]
    assert len(paths) == spec.depth


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("latency", [None, {"conv_stem": 1.0}])
def test_boxes_do_not_overlap_or_leave_the_page(name: str, latency: dict[str, float] | None) -> None:
    svg = parse(draw(zoo.get(name), latency_by_path=latency))
    left, top, right, bottom = page(svg)
    assert right <= 1100
    frames = [corners(next(group.iter(f"{SVG}rect"))) for group in boxes(svg).values()]
    assert not any(overlap(one, other) for one, other in combinations(frames, 2))
    for rect in svg.iter(f"{SVG}rect"):
        x, y, x_end, y_end = corners(rect)
        assert left <= x <= x_end <= right and top <= y <= y_end <= bottom
    for text in svg.iter(f"{SVG}text"):
        assert left <= float(text.attrib["x"]) <= right and top <= float(text.attrib["y"]) <= bottom


def test_mixnet_s_matches_figure_5_of_the_paper() -> None:
    """Kernels, expansion, channels and sides of MixNet-S, read off the paper's figure."""
    svg = parse(draw(zoo.get("mixnet_s")))
    found = boxes(svg)
    last = texts(found["blocks.5.0"])
    assert last == ["MB6", "s2", "3×3", "5×5", "7×7", "9×9", "11×11", "c200", "swish", "SE 0.5"]
    assert texts(found["blocks.0.0"]) == ["DS", "3×3", "c16", "relu"]
    assert texts(found["blocks.1.1"]) == ["MB3", "3×3", "c24", "relu", "", "a1.1 p1.1"]
    everything = texts(svg)
    for side in ("112×112", "56×56", "28×28", "14×14", "7×7"):
        assert side in everything


@pytest.mark.parametrize("spec", DENSE, ids=lambda spec: spec.name)
def test_every_operation_of_a_dense_head_is_in_a_box(spec: ArchSpec) -> None:
    ops = [op.path for op in network_ops(spec)]
    shares = {path: 1.0 for path in ops}
    svg = parse(draw(spec, latency_by_path=shares))
    found = boxes(svg)
    assert {owner(path) for path in ops} == set(found)
    percents = [float(text[:-1]) for box in found.values() for text in texts(box) if text.endswith("%")]
    assert sum(percents) == pytest.approx(100, abs=0.05 * len(percents))
    frames = [corners(next(group.iter(f"{SVG}rect"))) for group in found.values()]
    assert not any(overlap(one, other) for one, other in combinations(frames, 2))


def test_the_map_for_small_objects_has_a_group() -> None:
    svg = parse(draw(detector(zoo.get("mobilenetv3_small_050"), 3, resolution_px=256, c3_scale=0.1)))
    assert [texts(svg).count(f"Head, {name}") for name in ("C3", "C4", "C5", "map 6", "map 7")] == [1, 1, 1, 1, 0]


def test_a_detector_has_a_group_for_each_map() -> None:
    svg = parse(draw(DENSE[0]))
    found, everything = boxes(svg), texts(svg)
    assert everything.count("Head, C4") == everything.count("Head, map 6") == 1
    anchors, classes = 6, 20 + 1
    assert texts(found["class_heads.0"]) == ["Class", "3×3", f"c{anchors * classes}", "relu6"]
    assert texts(found["extra.0"]) == ["Extra", "s2", "3×3", "c512", "relu6"]
    maps = {int(path[-1]) for path in found if path.startswith("box_heads.")}
    assert maps == set(range(6))


def test_a_pool_conv_head_pools_before_its_convolution() -> None:
    paths = list(boxes(parse(draw(zoo.get("mobilenetv3_large_100")))))
    assert paths[0] == "conv_stem"
    assert paths[-3:] == ["global_pool", "conv_head", "classifier"]


def test_universal_bottlenecks_and_attention_are_drawn() -> None:
    stage = ["uir_r1_a3_k5_s2_e4_c24", "uir_r1_k0_s1_e2_c24", "mqa_r1_k3_h2_v2_d8_s1_c24", "cn_r1_k3_gs8_s1_c24"]
    spec = ArchSpec.from_strings("v4", [stage], stem=StemSpec(channels=16), head=HeadSpec(channels=0))
    drawn_texts = [texts(box) for path, box in boxes(parse(draw(spec))).items() if path.startswith("blocks.")]
    wanted = (("UIB4", "3×3", "5×5"), ("UIB2", "1×1"), ("MQA", "3×3", "h2 d8"), ("Conv", "3×3", "gs8"))
    for words, expected in zip(drawn_texts, wanted, strict=True):
        assert set(expected) <= set(words)


def test_shortcuts_are_drawn_where_the_block_adds_its_input() -> None:
    spec = zoo.get("mixnet_s")
    drawn = {path for path, group in boxes(parse(draw(spec))).items() if group.find(f"{SVG}path") is not None}
    adds = {
        placed.path
        for placed in spec.placed_blocks()
        if placed.block.skip and placed.stride == 1 and placed.in_channels == placed.block.channels
    }
    assert drawn == adds


def bar_heights(spec: ArchSpec) -> list[float]:
    group = boxes(parse(draw(spec)))["blocks.0.0"]
    rects = [rect for rect in group.iter(f"{SVG}rect") if rect.find(f"{SVG}title") is not None]
    return [float(rect.attrib["height"]) for rect in rects]


def test_bars_grow_with_the_share_of_channels_and_fill_the_box() -> None:
    """Bars of 78 units: 13 each for text, the rest by share of the channels.

    96 channels halve to 48, 24, 12, 12, which share the remaining 26 units.
    """
    heights = bar_heights(mixed("ir_r1_k3.5.7.9_s1_e6_c16_exponential"))
    assert heights == pytest.approx([13 + 26 * share for share in (0.5, 0.25, 0.125, 0.125)])
    assert bar_heights(mixed("ir_r1_k3.5_s1_e6_c16")) == pytest.approx([39, 39])


def test_a_dilated_kernel_is_named_as_it_is_and_coloured_as_far_as_it_reaches() -> None:
    dilated = boxes(parse(draw(mixed("ir_r1_k3.9_s1_e6_c16_dilated"))))["blocks.0.0"]
    dense = boxes(parse(draw(mixed("ir_r1_k3.9_s1_e6_c16"))))["blocks.0.0"]
    assert "3×3 d4" in texts(dilated)
    fills = [[rect.attrib["fill"] for rect in group.iter(f"{SVG}rect")] for group in (dilated, dense)]
    assert fills[0] == fills[1]


def test_latency_is_shown_as_share_of_the_whole() -> None:
    """3 of 4 ms in a block, by two of its operations, and 1 ms in the classifier."""
    latency = {"blocks.0.0.conv_dw.0": 1.0, "blocks.0.0.conv_pwl": 2.0, "classifier": 1.0}
    svg = parse(draw(mixed("ir_r1_k3.5_s1_e6_c16"), latency_by_path=latency))
    found = boxes(svg)
    assert "75.0%" in texts(found["blocks.0.0"])
    assert "25.0%" in texts(found["classifier"])
    assert "0.0%" in texts(found["conv_stem"])
    assert "3.00 ms" in texts(svg)
    assert "4.00 ms predicted" in "".join(svg.itertext())


def lightness(fill: str) -> float:
    """Of sRGB as a grey picture has it (ITU-R BT.601), 0 to 255."""
    return sum(weight * int(fill[at : at + 2], 16) for weight, at in ((0.299, 1), (0.587, 3), (0.114, 5)))


def test_kernel_sizes_are_distinguishable_in_greyscale() -> None:
    drawn = boxes(parse(draw(mixed("ir_r1_k1.3.5.7.9.11.13_s1_e6_c16"))))["blocks.0.0"]
    fills = [rect.attrib["fill"] for rect in drawn.iter(f"{SVG}rect") if rect.find(f"{SVG}title") is not None]
    assert len(fills) == 7
    falls = np.diff([lightness(fill) for fill in fills])
    assert (falls < -25).all()


def test_a_longer_strip_is_a_darker_one() -> None:
    latency = {f"blocks.0.{index}.conv_dw": value for index, value in enumerate((4.0, 1.0, 3.0, 2.0))}
    found = boxes(parse(draw(mixed("ir_r4_k3_s1_e6_c16"), latency_by_path=latency)))
    strips = [list(found[f"blocks.0.{index}"].iter(f"{SVG}rect"))[-1] for index in (1, 3, 2, 0)]
    assert [float(strip.attrib["width"]) for strip in strips] == pytest.approx([14.5, 29, 43.5, 58])
    assert (np.diff([lightness(strip.attrib["fill"]) for strip in strips]) < -20).all()


@pytest.mark.parametrize("name", [*NETWORKS, "mobilenetv3_small_100"])
def test_words_stay_on_the_page_in_a_wide_font(name: str) -> None:
    svg = parse(draw(zoo.get(name), latency_by_path={"conv_stem": 123.0}))
    fonts = Path(matplotlib.get_data_path(), "fonts", "ttf")
    for text in svg.iter(f"{SVG}text"):
        face = "DejaVuSans-Bold.ttf" if text.get("font-weight") == "700" else "DejaVuSans.ttf"
        drawn = ImageFont.truetype(fonts / face, 10 * float(text.attrib["font-size"])).getlength(text.text or "") / 10
        width = min(drawn, float(text.get("textLength", "inf")))
        left = float(text.attrib["x"]) - (width / 2 if text.get("text-anchor") == "middle" else 0)
        assert left >= 0 and left + width <= page(svg)[2], text.text


def test_the_legend_explains_what_is_drawn_and_nothing_else() -> None:
    drawn_texts = " ".join(texts(parse(draw(zoo.get("mixnet_s")))))
    for words in ("DS: depthwise separable", "MB6: inverted bottleneck, expansion 6", "SE 0.5: squeeze-excite", "arc:"):
        assert words in drawn_texts
    plain = " ".join(texts(parse(draw(mixed("cn_r1_k3_s1_c24")))))
    assert not any(words in plain for words in ("bottleneck", "squeeze", "arc:", "strip:"))


def test_latencies_of_zero_divide_nothing() -> None:
    assert "0.0%" in draw(mixed("cn_r1_k3_s1_c16"), latency_by_path={"classifier": 0.0})


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_an_impossible_latency_is_refused_by_its_path(value: float) -> None:
    with pytest.raises(NasError, match=r"'blocks\.0\.0\.conv_pw'"):
        draw(mixed("ir_r1_k3_s1_e6_c16"), latency_by_path={"blocks.0.0.conv_pw": value})


def test_a_stage_longer_than_a_row_goes_on_in_the_next() -> None:
    svg = parse(draw(mixed("ir_r40_k3_s1_e6_c16")))
    assert page(svg)[2] <= 1100
    assert "Stage 0, continued" in texts(svg)
    assert len(boxes(svg)) == 40 + 3


@pytest.mark.parametrize("name", ["</title><script>alert(1)</script>", "a & b", "nul\0 bell\a", "x" * 160, "日本"])
def test_any_name_gives_well_formed_xml(name: str) -> None:
    svg = parse(draw(dataclasses.replace(zoo.get("mixnet_s"), name=name)))
    assert not list(svg.iter(f"{SVG}script"))


def test_a_reader_who_cannot_see_gets_title_and_description() -> None:
    spec = zoo.get("mixnet_s")
    svg = parse(draw(spec))
    assert svg.attrib["role"] == "img"
    assert svg[0].tag == f"{SVG}title" and svg[0].text == "Network mixnet_s"
    description = svg.find(f"{SVG}desc")
    assert description is not None
    assert all(text in description.text for strings in spec.strings for text in strings)
