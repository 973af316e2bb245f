"""Tests of the dimensions by which networks shrink."""

from __future__ import annotations

import itertools

import pytest

from nas.arch import ArchSpec, HeadSpec, StemSpec, can_skip, zoo
from nas.arch.complexity import complexity
from nas.arch.scaling.shrinking import SHRINK_KINDS, shrink_dimensions, smallest_network
from nas.core.errors import SpecError

NAMES = ("mobilenetv1_100", "mobilenetv2_100", "mnasnet_100", "mobilenetv3_large_100", "mixnet_s", "efficientnet_b0")


def small(*stages: str, **fields: object) -> ArchSpec:
    settings = {"stem": StemSpec(channels=16), "head": HeadSpec(channels=64), "resolution_px": 64, **fields}
    return ArchSpec.from_strings("small", [stage.split() for stage in stages], **settings)


def hidden(arch: ArchSpec) -> list[int]:
    return [placed.hidden_channels for placed in arch.placed_blocks()]


def widths(arch: ArchSpec) -> list[int]:
    return [placed.block.channels for placed in arch.placed_blocks()]


def shortcuts(arch: ArchSpec) -> list[bool]:
    return [
        bool(placed.block.skip) and can_skip(placed.block, placed.stride, placed.in_channels)
        for placed in arch.placed_blocks()
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_size_costs_less_the_smaller_it_is(name: str) -> None:
    arch = zoo.get(name)
    for dimension in shrink_dimensions(arch, divisor=32):
        shown = [dimension.size, *dimension.sizes]
        assert shown == sorted(set(shown), reverse=True)
        networks = [arch, *(dimension.at(size) for size in dimension.sizes)]
        costs = [complexity(one).macs for one in networks]
        assert costs == sorted(costs, reverse=True), dimension.label(dimension.sizes[0])
        assert all(one.classes == arch.classes for one in networks)


def test_each_kind_changes_its_own_size_alone() -> None:
    arch = small("ds_r1_k3_s1_c16", "ir_r3_k5_s2_e4_c24_se0.25", "ir_r2_k3.5.7_s2_e3_c40")
    assert (hidden(arch), widths(arch)) == ([16, 64, 96, 96, 72, 120], [16, 24, 24, 24, 40, 40])
    found = {(one.kind, one.name): one for one in shrink_dimensions(arch)}
    expansion = found["expansion", "blocks.1.1"].at(80)
    assert (hidden(expansion), widths(expansion)) == ([16, 64, 80, 96, 72, 120], widths(arch))
    width = found["width", "blocks.1.0 to 2"].at(16)  # the hidden channels that follow stay
    assert (hidden(width), widths(width)) == (hidden(arch), [16, 16, 16, 16, 40, 40])
    kernel = found["kernel", "blocks.1.2"].at(3)
    assert [one.block.kernels for one in kernel.placed_blocks()][1:4] == [(5,), (5,), (3,)]
    group = found["group", "blocks.2.1"].at(2)
    assert [one.block.kernels for one in group.placed_blocks()][4:] == [(3, 5, 7), (3, 5)]
    block = found["block", "blocks.1"].at(1)
    assert (hidden(block), widths(block)) == ([16, 64, 72, 120], [16, 24, 40, 40])
    assert found["head", ""].at(48).head.channels == 48
    assert found["resolution", ""].at(48).resolution_px == 48
    assert {kind for kind, _ in found} == set(SHRINK_KINDS)


def test_widths_that_are_equal_by_chance_bring_no_shortcut() -> None:
    arch = small("ir_r1_k3_s2_e4_c24", "ir_r1_k3_s1_e4_c40")
    assert shortcuts(arch) == [False, False]
    width = next(one for one in shrink_dimensions(arch) if (one.kind, one.name) == ("width", "blocks.1.0"))
    same = width.at(24)
    assert widths(same) == [24, 24] and shortcuts(same) == [False, False]
    assert [one.kind for one in shrink_dimensions(same) if one.name == "blocks.1"] == []  # nothing to drop


def test_the_stem_keeps_its_channels_where_a_shortcut_ties_it() -> None:
    arch = zoo.get("mixnet_s")  # its first block has a shortcut
    assert shortcuts(arch)[0]
    named = [one.name for one in shrink_dimensions(arch, kinds=("width",))]
    assert not any(name.startswith("blocks.0") for name in named)
    assert "blocks.1.0 to 1" in named


def test_widths_follow_the_divisor_and_hidden_channels_timm() -> None:
    for dimension in shrink_dimensions(zoo.get("mobilenetv2_100"), kinds=("width", "expansion", "head"), divisor=4):
        by = 8 if dimension.kind == "expansion" else 4
        assert all(size % by == 0 for size in dimension.sizes)


def test_the_input_side_has_a_lower_end() -> None:
    (sides,) = shrink_dimensions(zoo.get("mobilenetv2_100"), kinds=("resolution",), least_px=200)
    assert sides.sizes == (216, 208, 200)
    (small_sides,) = shrink_dimensions(small("ds_r1_k3_s1_c16"), kinds=("resolution",), least_px=56)
    assert small_sides.sizes == (62, 60, 58, 56)


@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_network_has_nothing_left_to_shrink(name: str) -> None:
    arch = zoo.get(name)
    smallest = smallest_network(arch, least_px=96)
    assert shrink_dimensions(smallest, least_px=96) == []
    assert complexity(smallest).macs < 0.02 * complexity(arch).macs
    assert shortcuts(smallest).count(True) <= shortcuts(arch).count(True)


def test_every_pair_of_changes_fits_together() -> None:
    arch = small("ds_r1_k3_s1_c16", "ir_r2_k3.5_s2_e4_c24", "ir_r2_k5_s2_e3_c40")
    dimensions = shrink_dimensions(arch, kinds=("expansion", "width", "kernel", "group", "head", "resolution"))
    for first, second in itertools.permutations(dimensions, 2):
        after = first.at(first.sizes[0])
        again = {(one.kind, one.name): one for one in shrink_dimensions(after)}
        if (second.kind, second.name) in again:
            both = again[second.kind, second.name].at(second.sizes[0])
            assert complexity(both).macs < min(complexity(arch).macs, complexity(after).macs)


def test_unknown_kinds_are_named() -> None:
    with pytest.raises(SpecError, match="depth"):
        shrink_dimensions(zoo.get("mobilenetv2_100"), kinds=("depth",))
