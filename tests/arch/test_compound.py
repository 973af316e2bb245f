"""Compound triples against hand-written loops, and scaled networks.

Rounding is checked against the published networks.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.scaling.compound import (
    ALPHAS,
    BETAS,
    GAMMAS,
    compound_triples,
    distinct_networks,
    factor_range,
    scale_compound,
    scale_rounded,
)
from nas.arch.scaling.rounding_rules import FAMILY_RULES, RoundingRules, family_of, rules_for
from nas.arch.scaling.transform import Compound, Factors
from nas.arch.spec import ArchSpec
from nas.arch.zoo.mobilenet_v1 import mobilenet_v1
from nas.core.errors import NasError, SpecError

B0 = zoo.get("efficientnet_b0")


def test_factor_ranges_are_exact_decimal_fractions() -> None:
    assert factor_range(1.0, 1.3, 0.1) == (1.0, 1.1, 1.2, 1.3)
    assert factor_range(1, 1.15, 0.05) == (1.0, 1.05, 1.1, 1.15)
    assert factor_range(1.2, 1.2, 0.5) == (1.2,)


@pytest.mark.parametrize("arguments", [(0.9, 1.2, 0.1), (1.2, 1.1, 0.1), (1.0, 1.2, 0.0)])
def test_invalid_factor_ranges(arguments: tuple[float, float, float]) -> None:
    with pytest.raises(NasError, match=r"low 0\.9|high 1\.1|step 0\.0"):
        factor_range(*arguments)


@pytest.mark.parametrize("tolerance", [0.02, 0.05, 0.1, 0.3])
def test_the_grid_against_three_loops(tolerance: float) -> None:
    expected = []
    for alpha in range(100, 201, 10):  # in hundredths, so that the products are exact
        for beta in range(100, 141, 10):
            for gamma in range(100, 141, 5):
                if abs(alpha * beta**2 * gamma**2 - 2 * 10**10) <= round(tolerance * 10**10):
                    expected.append(Compound(alpha=alpha / 100, beta=beta / 100, gamma=gamma / 100))
    assert compound_triples(tolerance=tolerance) == tuple(expected)


def test_the_published_triple_is_on_the_default_grid() -> None:
    triples = compound_triples()
    assert Compound(alpha=1.2, beta=1.1, gamma=1.15) in triples
    assert len(set(triples)) == len(triples) == 35
    assert triples == compound_triples(ALPHAS[::-1], BETAS + BETAS, GAMMAS)


def test_an_empty_grid_names_the_tolerance_needed() -> None:
    with pytest.raises(NasError, match=r"tolerance 0\.05: none of 1 triples .* nearest, 1\.2/1\.1/1\.15, .* 0\.0798"):
        compound_triples([1.2], [1.1], [1.15], tolerance=0.05)
    assert compound_triples([1.2], [1.1], [1.15], tolerance=0.0798)


def test_triples_can_be_fitted_to_another_growth() -> None:
    flat = compound_triples([1.0, 2.0], [1.0, 2.0], [1.0], growth=lambda triple: triple.beta, tolerance=0)
    assert [triple.alpha for triple in flat] == [1.0, 2.0]


def test_invalid_grids() -> None:
    with pytest.raises(NasError, match=r"gamma 0\.9: must be a number of at least 1"):
        compound_triples([1.2], [1.1], [0.9])
    with pytest.raises(NasError, match=r"beta \[\]: give at least one value"):
        compound_triples([1.2], [], [1.1])


def test_growth_is_the_ratio_of_exact_costs() -> None:
    """phi 1 of the published triple, rounded by hand.

    1.2 times 1, 2, 2, 3, 3, 4, 1 blocks, rounded up.
    """
    scaled = scale_compound(B0, Compound(), 1)
    blocks = [block for stage in scaled.arch.stages for block in stage.blocks]
    assert [block.repeats for block in blocks] == [2, 3, 3, 4, 4, 5, 2]
    assert [block.channels for block in blocks] == [16, 24, 48, 88, 120, 208, 352]  # B2's, which is also 1.1 and 1.2
    assert (scaled.arch.resolution_px, scaled.arch.head.channels) == (256, 1408)  # 257.6 to a multiple of 4
    b2 = complexity(zoo.get("efficientnet_b2"), 256)
    assert scaled.cost == b2
    assert scaled.macs_growth == b2.macs / complexity(B0).macs
    assert scaled.params_growth == 9109994 / 5288548
    assert scaled.realised.depth == 23 / 16
    assert scaled.realised.resolution == 256 / 224


def test_phi_0_is_the_baseline_even_of_odd_channels() -> None:
    odd = replace(mobilenet_v1(0.75, 131), stem=replace(B0.stem, channels=13))
    for rules in FAMILY_RULES.values():
        assert scale_compound(odd, Compound(), 0, rules).arch == odd


def test_networks_equal_after_rounding_are_grouped() -> None:
    triples = [Compound(alpha=alpha, beta=1.1, gamma=1.2) for alpha in (1.1, 1.2, 1.6)]
    groups = distinct_networks(scale_compound(B0, triple, 1) for triple in triples)
    assert [[member.compound for member in group] for group in groups] == [triples[:2], triples[2:]]


@pytest.mark.parametrize(("rule", "px"), [("exact", 258), ("multiple_of_4", 256), ("multiple_of_8", 256)])
def test_resolution_rules(rule: str, px: int) -> None:
    rules = RoundingRules(resolution_rule=rule)  # type: ignore[arg-type]
    assert scale_compound(B0, Compound(), 1, rules).arch.resolution_px == px


def test_a_side_too_small_for_the_strides() -> None:
    message = r"resolution_px 28: too small for 'efficientnet_b0', whose total stride is 32; use at least 32 px"
    with pytest.raises(SpecError, match=message):
        scale_rounded(B0, Factors(resolution=1 / 8))
    assert scale_rounded(B0, Factors(resolution=1 / 7)).arch.resolution_px == 32


def test_invalid_phi_and_rules() -> None:
    with pytest.raises(NasError, match=r"phi -13: must be a number of at least -12 and at most 12"):
        scale_compound(B0, Compound(), -13)
    with pytest.raises(NasError, match="unknown resolution_rule 'half': choose from exact"):
        RoundingRules(resolution_rule="half")  # type: ignore[arg-type]
    with pytest.raises(NasError, match="unknown depth_rule"):
        RoundingRules(depth_rule="floor")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("efficientnet_b3", "efficientnet"),
        ("efficientnet_lite2", "efficientnet_lite"),
        ("mixnet_s", "mixnet"),
        ("semnasnet_100", "mnasnet"),
        ("mobilenetv1_075", "mobilenet_v1"),
        ("mobilenetv2_140", "mobilenet_v2"),
        ("mobilenetv2_120d", "mobilenet_v2d"),
        ("tf_mobilenetv3_small_100", "mobilenet_v3"),
        ("tf_efficientnetv2_b2", "efficientnet_v2"),
        ("tf_efficientnetv2_s", "efficientnet_v2_s"),
        ("tf_efficientnetv2_xl", "efficientnet_v2_m"),
        ("efficientnet_el_w1.1", "efficientnet_edge"),
        ("mobilenetv3_rw", "mobilenet_v3_rw"),
        ("mixnet-digits", "mixnet"),
    ],
)
def test_families_by_name(name: str, family: str) -> None:
    assert family_of(replace(B0, name=name)) == family


def test_unpublished_networks_have_the_family_of_their_layers() -> None:
    def family_by_layers(name: str) -> str:
        return family_of(replace(zoo.get(name), name="W3"))

    assert (family_by_layers("mixnet_s"), family_by_layers("mobilenetv3_large_100")) == ("mixnet", "mobilenet_v3")
    assert family_by_layers("efficientnet_b0") == family_by_layers("mobilenetv1_100") == "efficientnet"

    def family_of_strings(*stages: list[str]) -> str:
        return family_of(ArchSpec.from_strings("W3", stages, stem=B0.stem, head=B0.head))

    fused = ["er_r1_k3_s2_e4_c32"]
    assert family_of_strings(["cn_r1_k3_s1_c16"], fused) == "efficientnet_v2"
    assert family_of_strings(["cn_r1_k1_s1_c16"], fused) == family_of_strings(fused) == "efficientnet"  # EdgeTPU's
    assert family_of_strings(["cn_r1_k3_s1_c16"], ["uir_r1_a3_k3_s2_e4_c32"]) == "mobilenet_v4"


@pytest.mark.parametrize(
    ("base", "depth", "width", "result"),
    [
        ("mixnet_m", 1.0, 1.3, "mixnet_l"),
        ("mixnet_m", 1.3, 2.4, "mixnet_xxl"),
        ("mobilenetv2_100", 1.0, 1.4, "mobilenetv2_140"),
        ("mobilenetv1_100", 1.0, 0.25, "mobilenetv1_025"),
        ("mobilenetv3_large_100", 1.0, 0.75, "mobilenetv3_large_075"),
        ("mobilenetv3_large_100", 1.2, 1.5, "mobilenetv3_large_150d"),
        ("mobilenetv3_small_100", 1.0, 0.5, "mobilenetv3_small_050"),
        ("mnasnet_100", 1.0, 0.5, "mnasnet_050"),
        ("efficientnet_lite0", 1.8, 1.4, "efficientnet_lite4"),
        ("efficientnet_b0", 3.1, 2.0, "efficientnet_b7"),
    ],
)
def test_family_rules_give_the_published_widths(base: str, depth: float, width: float, result: str) -> None:
    published = zoo.get(result)
    ours = scale_rounded(zoo.get(base), Factors(depth, width, 1.0)).arch
    assert replace(ours, resolution_px=published.resolution_px).arch_id == published.arch_id


@pytest.mark.parametrize("name", [name for name in zoo.names() if re.fullmatch(r".*_\d{3}", name)])
def test_every_width_in_the_zoo_is_that_of_its_base(name: str) -> None:
    """Widths of TensorFlow's checkpoints too, which timm does not have."""
    base, published = zoo.get(f"{name[:-3]}100"), zoo.get(name)
    ours = scale_rounded(base, Factors(width=int(name[-3:]) / 100)).arch
    assert replace(ours, resolution_px=published.resolution_px).arch_id == published.arch_id


@settings(max_examples=40, deadline=None)
@given(
    phis=st.tuples(st.floats(0, 4), st.floats(0, 4)).map(sorted),
    alpha=st.floats(1, 1.5),
    beta=st.floats(1, 1.3),
    gamma=st.floats(1, 1.3),
    family=st.sampled_from(sorted(FAMILY_RULES)),
)
def test_cost_never_decreases_with_phi(phis: list[float], alpha: float, beta: float, gamma: float, family: str) -> None:
    compound = Compound(alpha=alpha, beta=beta, gamma=gamma)
    small, large = (scale_compound(B0, compound, phi, FAMILY_RULES[family]) for phi in phis)
    assert small.cost.macs <= large.cost.macs
    assert small.cost.params <= large.cost.params
    assert all(before <= after for before, after in zip(small.realised, large.realised, strict=True))
    assert rules_for(B0) == FAMILY_RULES["efficientnet"]
