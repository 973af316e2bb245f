"""Families: published members exactly, formula members by hand, and dropout."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.scaling.family import dropout_at, family, published_member
from nas.arch.scaling.transform import Compound
from nas.core.errors import NasError
from tests.arch.published import reference

EFFICIENTNET = reference("efficientnet")
B0, MIXNET_S = zoo.get("efficientnet_b0"), zoo.get("mixnet_s")


def test_the_published_family_is_efficientnet_b0_to_b8() -> None:
    members = family(B0, "published", range(9))
    for phi, member in enumerate(members):
        row: dict[str, Any] = EFFICIENTNET["models"][f"b{phi}"]
        assert (member.cost.params, member.cost.macs) == (row["exact_params"], row["exact_macs"])
        assert (member.factors.depth, member.factors.width) == (row["depth"], row["width"])
        assert (member.arch.resolution_px, member.arch.dropout) == (row["resolution"], row["dropout"])
        assert member.arch.drop_path == 0.2  # survival probability 0.8 for all
        assert member.arch == zoo.get(f"efficientnet_b{phi}")


def test_l2() -> None:
    member, row = published_member(B0, "l2"), EFFICIENTNET["models"]["l2"]
    assert (member.cost.params, member.cost.macs) == (row["exact_params"], row["exact_macs"])
    assert member.arch == zoo.get("efficientnet_l2")


def test_lite_has_coefficients_of_its_own() -> None:
    lite = zoo.get("efficientnet_lite0")
    assert [member.arch for member in family(lite, "published", range(5))] == [
        zoo.get(f"efficientnet_lite{index}") for index in range(5)
    ]


def test_efficientnet_v2_has_coefficients_of_its_own() -> None:
    """Sides in training and multipliers of google/automl's effnetv2_configs.py; there is no B4."""
    v2 = replace(B0, name="tf_efficientnetv2_b0", resolution_px=192)
    members = family(v2, "published", range(4))
    assert [member.arch.name for member in members] == [f"tf_efficientnetv2_b{index}" for index in range(4)]
    assert [member.arch.resolution_px for member in members] == [192, 192, 208, 240]
    assert [member.factors[:2] for member in members] == [(1.0, 1.0), (1.1, 1.0), (1.2, 1.1), (1.4, 1.2)]
    assert [member.arch.stages[0].blocks[0].channels for member in members] == [16, 16, 16, 16]
    with pytest.raises(NasError, match="the published members are b0 to b3, at whole phi from 0 to 3"):
        family(v2, "published", [4])


def test_published_coefficients_on_another_baseline() -> None:
    """MixNet-S at B3's 1.2, 1.4 and 300/224.

    Its rules round depth to nearest and keep the head.
    """
    member = published_member(MIXNET_S, "b3")
    blocks = [block for stage in member.arch.stages for block in stage.blocks]
    assert member.arch.name == "mixnet_s_b3"
    assert [stage.depth for stage in member.arch.stages] == [1, 3, 6, 4, 4, 4]  # 1.4 times 1, 2, 4, 3, 3, 3
    assert [block.channels for block in blocks] == [24, 32, 32, 48, 48, 96, 96, 144, 144, 240, 240]
    assert (member.arch.resolution_px, member.arch.head.channels, member.arch.dropout) == (300, 1536, 0.3)


def test_members_by_the_formula() -> None:
    members = family(B0, Compound())
    assert [member.phi for member in members] == list(range(8))
    assert members[0].arch.arch_id == B0.arch_id
    # 224 * 1.15^phi to the nearest multiple of 4: 257.6, 296.2, 340.7, 391.8, 450.5, 518.1, 595.8
    assert [member.arch.resolution_px for member in members] == [224, 256, 296, 340, 392, 452, 520, 596]
    assert [member.arch.dropout for member in members] == [0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.5]
    assert members[2].arch.name == "efficientnet_b0_phi2"
    assert members[2].cost == complexity(members[2].arch)
    assert len({member.arch.arch_id for member in members}) == 8


def test_dropout_is_as_published_and_never_below_the_baseline_s() -> None:
    rows = EFFICIENTNET["models"]
    assert [dropout_at(phi) for phi in range(9)] == [rows[f"b{phi}"]["dropout"] for phi in range(9)]
    assert dropout_at(0, 0.25) == 0.25
    assert dropout_at(12, 0.6) == dropout_at(0, 0.6) == 0.6
    assert dropout_at(7, 0.0) == 0.5


@pytest.mark.parametrize("phi", [1.5, 9, -1])
def test_unpublished_phi(phi: float) -> None:
    with pytest.raises(NasError, match=rf"phi {phi:g}: the published members are b0 to b8, at whole phi from 0 to 8"):
        family(B0, "published", [phi])


def test_invalid_members() -> None:
    with pytest.raises(NasError, match="unknown family member 'b10': choose from b0"):
        published_member(B0, "b10")
    with pytest.raises(NasError, match=r"phi -12\.5: must be a number of at least -12 and at most 12"):
        family(B0, Compound(), [-12.5])
