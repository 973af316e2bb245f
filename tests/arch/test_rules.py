"""Alternatives to compound scaling.

The published exponents and vectors, MobileNetV1's table, X3D's steps by hand.
"""

from __future__ import annotations

import math
from itertools import count
from typing import Any

import pytest

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.scaling.compound import ScaledNetwork, scale_rounded
from nas.arch.scaling.rules import DIRECTIONS, at_equal_cost, dwr, stepwise, width_lines, width_resolution_table
from nas.arch.scaling.targets import params
from nas.arch.scaling.transform import Compound
from nas.core.errors import NasError
from tests.arch.published import blocks_in_order, reference

SCALING, MOBILENET_V1 = reference("scaling")["fast_scaling"], reference("mobilenet_v1")
B0 = zoo.get("efficientnet_b0")
STRATEGIES = {
    "d": DIRECTIONS["depth"],
    "w": DIRECTIONS["width"],
    "r": DIRECTIONS["resolution"],
    "dr": dwr(0),
    "dwr": dwr(1 / 3),
    "d1_w8_g8_r1": dwr(),
}
# dw and wr omit one dimension and do not belong to the alpha family.
THEORY = [row for row in SCALING["theory"] if row["strategy"] in STRATEGIES or row["strategy"].startswith("dWr")]
VECTORS = [row for row in SCALING["effnet_b0_vectors"] if row["strategy"] in STRATEGIES]


@pytest.mark.parametrize("row", VECTORS, ids=lambda row: f"{row['strategy']} x{row['s']:g}")
def test_factors_and_sides_of_pycls(row: dict[str, Any]) -> None:
    compound, phi = STRATEGIES[row["strategy"]], math.log2(row["s"])
    assert compound.factors(phi) == pytest.approx((row["d"], row["w"], row["r"]))
    scaled = scale_rounded(B0, compound.factors(phi)).arch
    assert scaled.resolution_px == row["resolution"]
    if row["strategy"] in ("d", "r"):  # widths are unchanged there, and an integer depth factor needs no rounding rule
        assert [block.repeats for block in blocks_in_order(scaled)] == row["repeats"]
        assert complexity(scaled).params == row["params"]


@pytest.mark.parametrize("row", THEORY, ids=lambda row: row["strategy"])
def test_exponents_of_the_paper(row: dict[str, Any]) -> None:
    compound = STRATEGIES.get(row["strategy"], dwr())
    depth, width, side = (math.log2(value) for value in compound.factors(1))
    assert depth == pytest.approx(row["depth_factor_exp"])
    assert width == pytest.approx(row["width_factor_exp"])
    assert side == pytest.approx(row["resolution_factor_exp"])
    assert math.log2(compound.macs_growth) == pytest.approx(row["flops_exp"])
    assert depth + 2 * width == pytest.approx(row["params_exp"])
    assert depth + width + 2 * side == pytest.approx(row["acts_exp"], abs=1e-6)


def test_the_default_alpha_is_the_paper_s_and_1_is_width_alone() -> None:
    assert dwr() == dwr(SCALING["alpha_family"]["default_alpha"])
    assert dwr(1) == DIRECTIONS["width"]
    with pytest.raises(NasError, match=r"alpha 1\.2: must be a number of at least 0 and at most 1"):
        dwr(1.2)


def test_mobilenet_v1_s_sixteen_networks() -> None:
    table = width_resolution_table(zoo.get("mobilenetv1_100"))
    rows = MOBILENET_V1["checkpoints"]["rows"]
    expected = {(row["width"], row["resolution"]): (row["exact_macs_1000"], row["exact_params_1000"]) for row in rows}
    costs = {
        (member.factors.width, member.arch.resolution_px): (member.cost.macs, member.cost.params) for member in table
    }
    assert costs == expected
    assert len(table) == 16


@pytest.mark.parametrize("name", ["efficientnet_b0", "mixnet_s"])
@pytest.mark.parametrize("factor", [2.0, 4.0])
def test_single_dimensions_at_equal_cost(name: str, factor: float) -> None:
    """Costs are nearest to the target after rounding.

    A step between plateaus is below 10% here, so that the nearest is within 5%.
    """
    baseline = zoo.get(name)
    networks = at_equal_cost(baseline, factor, {**DIRECTIONS, "compound": Compound()})
    assert all(member.macs_growth == pytest.approx(factor, rel=0.05) for member in networks.values())
    assert networks["depth"].arch.resolution_px == baseline.resolution_px
    assert networks["width"].arch.depth == networks["resolution"].arch.depth == baseline.depth
    assert networks["resolution"].params_growth == 1
    assert networks["compound"].arch.depth > baseline.depth


def test_width_lines_of_figure_4() -> None:
    lines = width_lines(B0, [1.0, 1.4, 2.0])
    assert list(lines) == [(1.0, 1.0), (1.0, 1.3), (2.0, 1.0), (2.0, 1.3)]
    for (depth, side), line in lines.items():
        assert [member.arch.depth for member in line] == [16 * depth] * 3
        assert [member.arch.resolution_px for member in line] == [int(224 * side + 2) // 4 * 4] * 3
        assert [member.arch.stem.channels for member in line] == [32, 48, 64]
    assert lines[1.0, 1.0][0].arch.arch_id == B0.arch_id


def test_stepwise_chooses_the_best_of_each_doubling() -> None:
    """The highest score decides the axis of each step.

    Fewest parameters always chooses resolution; most parameters, depth or width.
    """
    steps = stepwise(B0, lambda member: -member.cost.params, 8)
    assert [step.axis for step in steps] == ["resolution"] * 3
    for doubling, step in enumerate(steps, start=1):
        assert set(step.candidates) == set(DIRECTIONS)
        assert all(member.macs_growth == pytest.approx(2**doubling, rel=0.1) for member in step.candidates.values())
    assert steps[0].chosen == at_equal_cost(B0, 2, DIRECTIONS)["resolution"]


def test_stepwise_continues_from_the_chosen_and_stops_at_the_budget() -> None:
    script, calls = ["width", "depth", "resolution"], count()

    def score(member: ScaledNetwork) -> float:
        step, axis = divmod(next(calls), len(DIRECTIONS))
        return float(tuple(DIRECTIONS)[axis] == script[step])

    steps = stepwise(B0, score, 6)
    assert [step.axis for step in steps] == script
    depth, width, side = steps[2].chosen.factors
    assert (depth, width) == (steps[1].chosen.factors.depth, steps[0].chosen.factors.width)
    assert min(depth, width, side) > 1
    assert steps[2].chosen.macs_growth == pytest.approx(6, rel=0.1)


def test_stepwise_stops_if_rounding_exceeds_the_budget() -> None:
    """Doubling B0 by depth alone results in 2.03 times its MACs.

    No further step to 2.02 could go below.
    """
    (only,) = stepwise(B0, lambda member: 0.0, 2.02, ["depth"])
    assert 2.02 < only.chosen.macs_growth < 2.04


def test_stepwise_without_growth_and_with_invalid_axes() -> None:
    assert stepwise(B0, lambda member: 0.0, 1) == ()
    with pytest.raises(NasError, match="unknown axis 'time': choose from depth, width, resolution"):
        stepwise(B0, lambda member: 0.0, 2, ["time"])
    with pytest.raises(
        NasError, match=r"factor 2: still met at phi 12, the largest tried, where the network needs 1; lower it"
    ):
        stepwise(B0, lambda member: 0.0, 2, ["resolution"], measure=params)
