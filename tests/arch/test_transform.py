"""Scaling against published scaled networks and compound coefficients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.scaling.transform import PUBLISHED_EFFICIENTNET, Compound, Factors, Scaling, published_coefficients, scale
from nas.arch.spec import ArchSpec, StageSpec
from nas.arch.zoo.mobilenet_v1 import mobilenet_v1
from nas.arch.zoo.mobilenet_v2 import mobilenet_v2
from nas.core.errors import NasError
from tests.arch.published import bias_elements, blocks_in_order, reference

SCALING, COMPOUND = reference("scaling"), reference("efficientnet")
TABLE3_ROWS = {(row["model"], row["scale"]): row for row in SCALING["efficientnet_table3"]["rows"]}
TABLE3: dict[tuple[str, str], Callable[[], ArchSpec]] = {
    ("MobileNetV1", "baseline"): lambda: mobilenet_v1(),
    ("MobileNetV1", "width w=2"): lambda: mobilenet_v1(2.0),
    ("MobileNetV1", "resolution r=2"): lambda: mobilenet_v1(resolution_px=448),
    ("MobileNetV2", "baseline"): lambda: mobilenet_v2(),
    ("MobileNetV2", "depth d=4"): lambda: mobilenet_v2(depth=4.0),
    ("MobileNetV2", "width w=2"): lambda: mobilenet_v2(2.0),
    ("MobileNetV2", "resolution r=2"): lambda: mobilenet_v2(resolution_px=448),
}
VECTORS = SCALING["fast_scaling"]["effnet_b0_vectors"]


@pytest.mark.parametrize("model, scale", TABLE3)
def test_efficientnet_paper_table_3(model: str, scale: str) -> None:
    assert complexity(TABLE3[model, scale]()).macs == TABLE3_ROWS[model, scale]["exact_macs"]


def test_efficientnet_paper_table_3_compound_lies_between_the_two_roundings_of_depth() -> None:
    """The paper does not say how 1.4 times 1, 2, 2, 6, 2 layers are rounded.

    2.3 B is neither rule's count exactly.
    """
    paper = TABLE3_ROWS["MobileNetV1", "compound d=1.4 w=1.2 r=1.3"]["paper_flops_b"]
    ceiling, nearest = (
        scale(mobilenet_v1(), Scaling(depth=1.4, width=1.2, resolution_px=292, depth_rule=rule))
        for rule in ("ceil", "round")
    )
    assert complexity(nearest).macs / 1e9 < paper < complexity(ceiling).macs / 1e9


@pytest.mark.parametrize("row", VECTORS, ids=lambda row: f"{row['strategy']} x{row['s']:g}")
def test_pycls_scaling_strategies_on_b0(row: dict[str, Any]) -> None:
    """Depth rounds by our rule ``round``, widths by theirs.

    Theirs lacks the 90% rule, so the widths are those listed.
    """
    b0 = zoo.get("efficientnet_b0")
    scaled = scale(b0, Scaling(depth=row["d"], depth_rule="round", resolution_px=row["resolution"]))
    assert [block.repeats for block in blocks_in_order(scaled)] == row["repeats"]
    stages = tuple(
        StageSpec(tuple(replace(block, channels=width) for block in stage.blocks))
        for stage, width in zip(scaled.stages, row["widths"], strict=True)
    )
    stem, head = StemSpec(channels=row["stem"]), HeadSpec(channels=row["head"])
    spec = replace(scaled, stages=stages, stem=stem, head=head)
    cost = complexity(spec)
    assert (cost.params, cost.activations) == (row["params"], row["acts"])
    assert cost.macs + bias_elements(spec) == row["flops_with_bias"]


@pytest.mark.parametrize("row", VECTORS, ids=lambda row: f"{row['strategy']} x{row['s']:g}")
def test_widths_differ_from_pycls_by_the_90_percent_rule_alone(row: dict[str, Any]) -> None:
    for block, listed in zip(blocks_in_order(zoo.get("efficientnet_b0")), row["widths"], strict=True):
        wanted = block.channels * row["w"]
        ours = Scaling(width=row["w"]).channels(block.channels)
        assert ours == (listed if listed >= 0.9 * wanted else listed + 8)


def test_compound_growth() -> None:
    published_values, compound = COMPOUND["compound"], Compound()
    assert (compound.alpha, compound.beta, compound.gamma) == tuple(
        published_values[key] for key in ("alpha", "beta", "gamma")
    )
    assert round(compound.macs_growth, 5) == published_values["actual_product"]


@pytest.mark.parametrize("member", COMPOUND["models"])
def test_published_coefficients_and_the_phi_that_each_implies(member: str) -> None:
    model, compound = COMPOUND["models"][member], Compound()
    coefficients = PUBLISHED_EFFICIENTNET[member]
    assert (coefficients.width, coefficients.depth) == (model["width"], model["depth"])
    assert (coefficients.resolution_px, coefficients.dropout) == (model["resolution"], model["dropout"])
    growth = model["depth"] * model["width"] ** 2 * (model["resolution"] / 224) ** 2
    assert growth == pytest.approx(model["d_w2_r2"], abs=5.1e-4)
    # phi is printed with three decimals, so base^phi is off by a factor of base^0.0005 at most.
    at = {key: compound.factors(phi) for key, phi in model["implied_phi"].items()}
    assert at["depth"].depth == pytest.approx(model["depth"], rel=1.2**0.0005 - 1)
    assert at["width"].width == pytest.approx(model["width"], rel=1.1**0.0005 - 1)
    assert at["resolution"].resolution * 224 == pytest.approx(model["resolution"], rel=1.15**0.0005 - 1)


def test_formula_coefficients() -> None:
    compound = Compound(alpha=1.3, beta=1.1, gamma=1.2)
    assert compound.factors(0) == Factors(1, 1, 1)
    assert compound.factors(2) == pytest.approx((1.69, 1.21, 1.44))
    assert math.isclose(compound.macs_growth, 1.3 * 1.21 * 1.44)


def small() -> ArchSpec:
    return ArchSpec.from_strings(
        "small",
        [["ds_r1_k3_s1_c16"], ["ir_r1_k3_s2_e6_c24", "ir_r2_k5_s1_e6_c36"]],
        stem=StemSpec(channels=32),
        head=HeadSpec(channels=100),
        dropout=0.1,
    )


def test_scale_rounds_channels_at_width_1_too() -> None:
    scaled = scale(small(), Scaling())
    assert [block.channels for block in blocks_in_order(scaled)] == [16, 24, 40]
    assert (scaled.head.channels, scaled.resolution_px, scaled.dropout, scaled.name) == (104, 224, 0.1, "small")


@pytest.mark.parametrize(
    ("rule", "width", "expected"), [("scale", 0.5, 48), ("fixed", 0.5, 100), ("grow", 0.5, 100), ("grow", 2.0, 200)]
)
def test_end_rules(rule: Any, width: float, expected: int) -> None:
    assert scale(small(), Scaling(width=width, head=rule)).head.channels == expected
    headless = replace(small(), head=HeadSpec(channels=0))
    assert scale(headless, Scaling(width=width, head=rule)).head.channels == 0


def test_depth_rules_and_fixed_ends() -> None:
    def repeats(**fields: Any) -> list[int]:
        return [block.repeats for block in blocks_in_order(scale(small(), Scaling(**fields)))]

    assert repeats(depth=1.4) == [2, 2, 3]  # ceil(1.4), ceil(4.2) = 5
    assert repeats(depth=1.4, depth_rule="round") == [1, 1, 3]  # round(1.4), round(4.2) = 4
    assert repeats(depth=1.4, depth_rule="per_string") == [2, 2, 3]
    assert repeats(depth=1.4, fixed_ends=True) == [1, 1, 2]
    assert repeats(depth=0.1) == [1, 1, 1]


def test_the_base_of_an_expansion_is_scaled_like_channels() -> None:
    """EfficientNet-EdgeTPU at width 1.2: 24 becomes 32, times 4 are 128 (timm's ``efficientnet_el``)."""
    base = replace(small(), stages=(StageSpec.parse(["er_r1_k3_s1_e4_c24_fc24_noskip"]),))
    wide = scale(base, Scaling(width=1.2, depth=1.4))
    assert wide.strings == (("er_r2_k3_s1_e4_c32_fc32_noskip",),)
    assert [placed.hidden_channels for placed in wide.placed_blocks()] == [128, 128]


def test_a_finer_divisor_preserves_small_width_multipliers() -> None:
    assert Scaling(width=1.1).channels(16) == 16
    assert Scaling(width=1.1, divisor=2).channels(16) == 18
    assert Scaling(width=0.75, width_rule="truncate").channels(33) == 24


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 0.0}, "width 0.0: a multiplier must be a positive"),
        ({"depth": math.inf}, "depth inf: a multiplier"),
        ({"resolution_px": 0}, "resolution_px 0: must be"),
        ({"divisor": 0}, "divisor 0: must be"),
        ({"round_limit": 1.5}, "round_limit 1.5: must be a number of at least 0 and at most 1"),
        ({"depth_rule": "floor"}, "unknown depth_rule 'floor': choose from ceil, round, per_string"),
        ({"width_rule": "divisors"}, "unknown width_rule 'divisors'.*Did you mean 'divisor'"),
        ({"head": "keep"}, "unknown head 'keep': choose from scale, fixed, grow"),
    ],
)
def test_invalid_scalings(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(NasError, match=message):
        Scaling(**fields)


def test_invalid_compound_coefficients() -> None:
    with pytest.raises(NasError, match=r"beta 0\.9: must be at least 1"):
        Compound(beta=0.9)
    with pytest.raises(NasError, match="alpha nan"):
        Compound(alpha=math.nan)
    with pytest.raises(NasError, match="unknown family member 'b9': choose from b0"):
        published_coefficients(PUBLISHED_EFFICIENTNET, "b9")
