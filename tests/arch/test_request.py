"""Scaling requests: phi, multipliers, targets, and contradictions among them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.rewrites import Rewrites
from nas.arch.scaling.family import dropout_at, formula_member
from nas.arch.scaling.request import ScalingRequest, target_measures
from nas.arch.scaling.rounding_rules import FAMILY_RULES, RoundingOverrides, RoundingRules
from nas.arch.scaling.rules import DIRECTIONS, dwr
from nas.arch.scaling.targets import macs, params
from nas.arch.scaling.transform import Compound, Factors
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from tests.arch.published import reference

PUBLISHED_SIDES = [row for row in reference("mobilenet_v3")["paper_table9_scaling"] if row["width"] == 1]
B0, MIXNET_S = zoo.get("efficientnet_b0"), zoo.get("mixnet_s")
MEASURES = {"target_macs_m": lambda arch: macs(arch) / 1e6, "target_params_m": lambda arch: params(arch) / 1e6}


@pytest.mark.parametrize(
    ("rule", "compound"),
    [("compound", Compound(alpha=1.3, beta=1.2, gamma=1.1)), ("dwr", dwr(0.6)), *DIRECTIONS.items()],
)
def test_phi_along_each_rule(rule: str, compound: Compound) -> None:
    coefficients = Compound(alpha=1.3, beta=1.2, gamma=1.1)
    scaled = ScalingRequest(rule=rule, phi=1.5, coefficients=coefficients, dwr_alpha=0.6).resolve(B0, {})
    assert scaled.factors == compound.factors(1.5)
    assert scaled.arch.name == ("efficientnet_b0_phi1.5" if rule == "compound" else f"efficientnet_b0_{rule}_phi1.5")
    assert scaled.arch.dropout == dropout_at(1.5) == 0.3


@pytest.mark.parametrize(("phi", "name"), [(3, "efficientnet_b3"), ("l2", "efficientnet_l2")])
def test_published_members_by_number_or_name(phi: Any, name: str) -> None:
    assert ScalingRequest(rule="published", phi=phi).resolve(B0, {}).arch == zoo.get(name)


def test_multipliers_and_an_unrounded_side() -> None:
    b4 = ScalingRequest(width=1.4, depth=1.8, resolution_px=380).resolve(B0, {})
    assert b4.arch.arch_id == zoo.get("efficientnet_b4").arch_id
    assert b4.arch.name == "efficientnet_b0_w1.4_d1.8_r380"
    odd = ScalingRequest(resolution_px=227).resolve(B0, {})
    assert (odd.arch.resolution_px, odd.params_growth) == (227, 1)
    assert (
        ScalingRequest(width=0.5).resolve(zoo.get("mobilenetv2_100"), {}).arch.arch_id
        == zoo.get("mobilenetv2_050").arch_id
    )


def test_several_targets_are_met_together() -> None:
    targets = {"target_macs_m": 900.0, "target_params_m": 6.0}
    scaled = ScalingRequest(targets=targets).resolve(MIXNET_S, MEASURES)
    above = formula_member(MIXNET_S, Compound(), scaled.phi + 0.001)
    assert all(MEASURES[name](scaled.arch) <= target for name, target in targets.items())
    assert any(MEASURES[name](above.arch) > target for name, target in targets.items())
    assert MEASURES["target_params_m"](above.arch) > 6  # parameters are the limiting target
    alone = ScalingRequest(targets={"target_params_m": 6.0}).resolve(MIXNET_S, MEASURES)
    assert alone.arch == scaled.arch


def test_the_largest_published_member_within_targets() -> None:
    scaled = ScalingRequest(rule="published", targets={"target_macs_m": 5000}).resolve(B0, MEASURES)
    assert scaled.arch == zoo.get("efficientnet_b4")  # 4394 M; B5 has 10266 M
    with pytest.raises(NasError, match=r"target_params_m 3: below the smallest published member, b0, .* needs 5\.289"):
        ScalingRequest(rule="published", targets={"target_params_m": 3}).resolve(B0, MEASURES)


def test_a_target_that_the_rule_does_not_reach_is_named() -> None:
    """Resolution changes no parameters."""
    request = ScalingRequest(rule="resolution", targets={"target_macs_m": 900, "target_params_m": 5})
    smallest = (
        r"below the smallest network of rule=resolution, that of phi -12, which needs 5\.289; give instead width="
    )
    with pytest.raises(NasError, match=f"target_params_m 5: {smallest}"):
        request.resolve(B0, MEASURES)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rule": "dwR"}, r"unknown rule 'dwR': choose from compound, published, dwr.* Did you mean 'dwr'"),
        ({"phi": -13}, r"phi -13: must be a number of at least -12 and at most 12, or null"),
        ({"phi": "b2"}, r"phi 'b2': must be a number of at least -12"),
        ({"width": 0}, r"width 0: must be a number above 0"),
        ({"resolution_px": 20000}, r"resolution_px 20000: must be a whole number of at least 1 and at most 16384"),
        ({"targets": {"target_ms": 0}}, r"target_ms 0: must be a number above 0"),
        ({"dwr_alpha": 2}, r"dwr_alpha 2: must be a number of at least 0 and at most 1"),
        ({"phi": 1, "depth": 2}, r"phi, multipliers .* and targets exclude each other; give one"),
        ({"width": 2, "targets": {"target_ms": 3}}, r"give one"),
    ],
)
def test_invalid_requests(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(NasError, match=message):
        ScalingRequest(**fields)


def test_empty_request_and_unknown_member() -> None:
    with pytest.raises(NasError, match=r"nothing to scale by: give phi, width"):
        ScalingRequest().resolve(B0, {})
    with pytest.raises(NasError, match="unknown family member 'b11': choose from b0"):
        ScalingRequest(rule="published", phi="b11").resolve(B0, {})


def test_rounding_overrides_leave_other_fields_to_the_family() -> None:
    assert RoundingOverrides().rules(MIXNET_S) == FAMILY_RULES["mixnet"]
    assert RoundingOverrides(family="mobilenet_v2").rules(MIXNET_S) == FAMILY_RULES["mobilenet_v2"]
    assert RoundingOverrides(depth_rule="ceil", divisor=4).rules(MIXNET_S) == RoundingRules(head="fixed", divisor=4)
    assert RoundingOverrides(fixed_ends=True).rules(B0) == replace(RoundingRules(), fixed_ends=True)
    with pytest.raises(NasError, match="unknown family 'vgg'"):
        RoundingOverrides(family="vgg")
    with pytest.raises(NasError, match="unknown head 'none'"):
        RoundingOverrides(head="none")


def test_rules_say_where_they_come_from() -> None:
    def origin(**overrides: Any) -> str:
        return str(RoundingOverrides(**overrides).rules(MIXNET_S).origin)

    evidence = "(gives mixnet_l, and timm's xl and xxl)"
    assert origin() == f"mixnet, by the network's name {evidence}"
    assert origin(family="mixnet") == f"mixnet, as requested {evidence}"
    assert (
        origin(depth_rule="round", divisor=4) == f"mixnet, by the network's name, with divisor as requested {evidence}"
    )
    winner = replace(MIXNET_S, name="winner_1")
    assert str(RoundingOverrides().rules(winner).origin) == f"mixnet, by the network's layers {evidence}"
    assert ScalingRequest(phi=1).resolve(MIXNET_S, {}).rounding == FAMILY_RULES["mixnet"]


def test_a_stem_rule_that_is_given_holds_at_every_width() -> None:
    """MobileNetV3's stem of 16 channels is 16 at width 0.5; the published code scales it, to 8."""
    small = zoo.get("mobilenetv3_small_100")
    family, given = RoundingOverrides(), RoundingOverrides(stem="scale")
    assert [one.rules(small).scaling(Factors(width=0.5)).stem for one in (family, given)] == ["fixed", "scale"]
    assert [one.rules(small).scaling(Factors(width=0.75)).stem for one in (family, given)] == ["scale", "scale"]
    both = RoundingOverrides(stem="scale", fixed_stem_below=0.6)
    assert both.rules(small).scaling(Factors(width=0.5)).stem == "fixed"
    with pytest.raises(NasError, match="fixed_stem_below -1: must be a number of at least 0"):
        RoundingOverrides(fixed_stem_below=-1)


def test_rules_in_words() -> None:
    assert str(FAMILY_RULES["mobilenet_v3"]) == (
        "channels to multiples of 8, at least 90% of their exact number; repeats by ceil; stem: scale, fixed below "
        "width 0.75; head: fixed; side: multiple_of_4"
    )
    assert str(FAMILY_RULES["efficientnet_v2"]).startswith("channels to the nearest multiple of 8; repeats by ceil; ")
    assert str(FAMILY_RULES["mobilenet_v1"]).startswith("channels truncated to whole numbers of at least 8; ")
    assert "; first and last stage keep their repeats; " in str(FAMILY_RULES["efficientnet_lite"])


def test_macs_growth_of_a_scaled_network() -> None:
    scaled = ScalingRequest(phi=1).resolve(MIXNET_S, {})
    assert scaled.macs_growth == complexity(scaled.arch).macs / complexity(MIXNET_S).macs


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("mobilenetv2_100", {"target_macs_m": 120.0}),
        ("mobilenetv2_100", {"target_macs_m": 120.0, "target_params_m": 2.5}),
        ("efficientnet_b0", {"target_params_m": 1.5}),
    ],
)
def test_a_target_below_every_depth_is_answered_with_what_meets_it(name: str, targets: dict[str, float]) -> None:
    baseline, first, measures = zoo.get(name), next(iter(targets)), target_measures()
    with pytest.raises(NasError, match=r"below the smallest network of rule=depth, .*; give instead ") as caught:
        ScalingRequest(rule="depth", targets=targets).resolve(baseline, measures)
    named = re.findall(r"(width|depth|resolution_px)=([\d.]+) \(([\d.]+)\)", str(caught.value).partition("instead")[2])
    assert "width" in [multiplier for multiplier, *_ in named]
    for multiplier, value, cost in named:
        step, number = (32, int(value)) if multiplier == "resolution_px" else (0.05, float(value))
        one = ScalingRequest(**{multiplier: number}).resolve(baseline, {}).arch
        assert measures[first](one) == pytest.approx(float(cost), rel=5e-4)
        assert all(measures[each](one) <= limit for each, limit in targets.items())
        larger = ScalingRequest(**{multiplier: number + step}).resolve(baseline, {}).arch
        assert any(measures[each](larger) > limit for each, limit in targets.items())


def test_a_target_that_nothing_meets_is_said_so() -> None:
    with pytest.raises(NasError, match=r"target_macs_m 0\.01: below .* raise it, or start from a smaller network\.$"):
        ScalingRequest(targets={"target_macs_m": 0.01}).resolve(B0, MEASURES)


def resolved(name: str, **request: Any) -> ArchSpec:
    return ScalingRequest(**request).resolve(zoo.get(name), MEASURES).arch


def test_two_units_below_are_half_the_width_or_side() -> None:
    assert resolved("mobilenetv2_100", rule="width", phi=-2).arch_id == zoo.get("mobilenetv2_050").arch_id
    assert resolved("mobilenetv2_100", rule="resolution", phi=-2).resolution_px == 112


@pytest.mark.parametrize(
    ("baseline", "member"),
    [
        ("mobilenetv2_100", "mobilenetv2_035"),
        ("mobilenetv1_100", "mobilenetv1_050"),
        ("mobilenetv3_large_100", "mobilenetv3_large_075"),
        ("mnasnet_100", "mnasnet_050"),
    ],
)
def test_the_cost_of_a_published_width_gives_that_network(baseline: str, member: str) -> None:
    target = complexity(zoo.get(member)).macs / 1e6
    found = resolved(baseline, rule="width", targets={"target_macs_m": target})
    assert found.arch_id == zoo.get(member).arch_id


@pytest.mark.parametrize("row", [row for row in PUBLISHED_SIDES if row["resolution"] < 224], ids=str)
def test_the_cost_of_a_published_side_gives_that_side(row: dict[str, Any]) -> None:
    """MobileNetV3's table 9; sides between that have the same map sizes have the same cost."""
    target = row["exact_macs_last_fixed"] / 1e6
    found = resolved(f"mobilenetv3_{row['model']}_100", rule="resolution", targets={"target_macs_m": target})
    assert (complexity(found).macs, found.resolution_px) == (row["exact_macs_last_fixed"], row["resolution"])


@pytest.mark.parametrize("rule", ["compound", "dwr", "width", "depth", "resolution"])
def test_below_the_baseline_the_largest_phi_within_the_target(rule: str) -> None:
    scaled = ScalingRequest(rule=rule, targets={"target_macs_m": 180}).resolve(zoo.get("mobilenetv2_100"), MEASURES)
    above = ScalingRequest(rule=rule, phi=scaled.phi + 0.001).resolve(zoo.get("mobilenetv2_100"), MEASURES)
    assert -2 < scaled.phi < 0
    assert scaled.cost.macs <= 180e6 < above.cost.macs
    assert scaled.arch.dropout == 0.2  # the baseline's


def test_the_rules_are_those_of_the_network_before_it_is_rewritten() -> None:
    """The layers of a winner with a head that pools first would say MobileNetV3, whose repeats are rounded up."""
    winner = replace(MIXNET_S, name="winner_1")
    scaled = ScalingRequest(phi=-1, rewrites=Rewrites(head="pool_conv")).resolve(winner, {})
    assert scaled.rounding == FAMILY_RULES["mixnet"]
    assert (scaled.given, scaled.arch.name) == (winner, "winner_1_pool_conv_phi-1")
    alone = ScalingRequest(rewrites=Rewrites(head="pool_conv")).resolve(winner, {})
    assert alone.arch.arch_id == scaled.baseline.arch_id == scaled.rewrites[-1].after.arch_id
