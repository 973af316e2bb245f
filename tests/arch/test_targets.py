"""Scaling to a target against exhaustive scans over every thousandth of phi."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.scaling.compound import ScaledNetwork, scale_compound
from nas.arch.scaling.rounding_rules import RoundingRules
from nas.arch.scaling.rules import DIRECTIONS, dwr
from nas.arch.scaling.targets import (
    CostMeasure,
    at_cost,
    macs,
    params,
    peak_memory_bytes,
    phi_floor,
    phi_for,
    phi_limit,
)
from nas.arch.scaling.transform import Compound, Factors
from nas.arch.spec import ArchSpec, StageSpec
from nas.core.errors import NasError, SpecError

TINY = ArchSpec.from_strings(
    "tiny",
    [["ds_r1_k3_s1_c16"], ["ir_r2_k3_s2_e3_c24"], ["ir_r2_k5_s2_e3_c40"]],
    stem=StemSpec(channels=16),
    head=HeadSpec(channels=64),
    resolution_px=64,
    classes=10,
)
RULES = {**DIRECTIONS, "compound": Compound(), "dwr": dwr()}


def scaled_to_target(
    baseline: ArchSpec,
    compound: Compound,
    measure: CostMeasure,
    target: float,
    rules: RoundingRules | None = None,
    *,
    field: str = "target",
) -> ScaledNetwork:
    """Scale ``baseline`` by ``compound`` to the largest phi that the target allows."""
    max_phi = phi_limit(baseline, compound)
    phi = phi_for(
        lambda phi: scale_compound(baseline, compound, phi, rules).arch, measure, target, field=field, max_phi=max_phi
    )
    return scale_compound(baseline, compound, phi, rules)


@cache
def macs_by_step(rule: str) -> list[int]:
    """MACs at every thousandth of phi up to 2."""
    return [scale_compound(TINY, RULES[rule], step / 1000).cost.macs for step in range(2001)]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("factor", [1.0, 1.5, 2.0, 2.9])
def test_the_largest_phi_within_a_target_against_a_scan(rule: str, factor: float) -> None:
    costs = macs_by_step(rule)
    target = factor * costs[0]
    expected = max(step for step, cost in enumerate(costs) if cost <= target) / 1000
    scaled = scaled_to_target(TINY, RULES[rule], macs, target)
    assert (scaled.phi, scaled.cost.macs <= target) == (expected, True)
    nearest = min(costs, key=lambda cost: abs(math.log(cost / target)))
    assert at_cost(TINY, RULES[rule], factor).cost.macs == nearest


@pytest.mark.parametrize("rule", RULES)
def test_targets_below_the_baseline_against_a_scan(rule: str) -> None:
    steps = range(-2000, 1)
    costs = {step: scale_compound(TINY, RULES[rule], step / 1000).cost.macs for step in steps}
    least, baseline = costs[-2000], costs[0]
    for share in (0.0, 0.2, 0.6, 0.95):
        target = least + share * (baseline - least)
        expected = max(step for step, cost in costs.items() if cost <= target) / 1000
        found = phi_for(lambda phi: scale_compound(TINY, RULES[rule], phi).arch, macs, target, min_phi=-2.0)
        assert found == expected
    with pytest.raises(NasError, match=r"target .*: below the network at phi -2, which needs"):
        phi_for(lambda phi: scale_compound(TINY, RULES[rule], phi).arch, macs, least - 1, min_phi=-2.0)


def test_what_does_not_shrink_further() -> None:
    """At phi -12 every stage has one block, every layer 8 channels, and the last map one pixel."""
    smallest = {rule: scale_compound(TINY, RULES[rule], -12).arch for rule in DIRECTIONS}
    assert [stage.depth for stage in smallest["depth"].stages] == [1, 1, 1]
    assert {placed.block.channels for placed in smallest["width"].placed_blocks()} == {8}
    assert smallest["resolution"].resolution_px == TINY.total_stride == 8
    for rule, arch in smallest.items():
        assert (arch.depth == TINY.depth, arch.resolution_px == 64) == (rule != "depth", rule != "resolution")


def test_the_floor_is_the_smallest_network_that_is_valid() -> None:
    """Five exponential groups need 16 channels; a scan in hundredths is the reference."""
    split = replace(TINY, stages=(*TINY.stages[:-1], StageSpec.parse(["ds_r1_k3.5.7.9.11_s2_c40_exponential"])))
    wide = replace(split, stages=(StageSpec.parse(["ds_r1_k3_s1_c32"]), *split.stages[1:]))

    def network_at(phi: float) -> ArchSpec:
        return scale_compound(wide, DIRECTIONS["width"], phi).arch

    def is_valid(phi: float) -> bool:
        try:
            return bool(network_at(phi))
        except SpecError:
            return False

    floor = phi_floor(network_at)
    assert (is_valid(floor), is_valid(floor - 0.001)) == (True, False)
    assert next(phi / 100 for phi in range(-1200, 1) if is_valid(phi / 100)) == pytest.approx(floor, abs=0.01)
    assert phi_floor(lambda phi: scale_compound(TINY, Compound(), phi).arch) == -12


@settings(max_examples=30, deadline=None)
@given(
    jumps=st.lists(st.tuples(st.integers(-1999, 2999), st.floats(0.01, 3)), min_size=1, max_size=8),
    target=st.floats(1, 10),
)
def test_any_staircase(jumps: list[tuple[int, float]], target: float) -> None:
    """Measures with plateaus and arbitrary jumps.

    The scan of all thousandths is the reference.
    """

    def height(phi: float) -> float:
        return 1.0 + sum(size for step, size in jumps if round(phi * 1000) >= step)

    def network_at(phi: float) -> ArchSpec:
        return replace(TINY, name=str(height(phi)))

    def solve() -> float:
        return phi_for(network_at, lambda arch: float(arch.name), target, min_phi=-2.0, max_phi=3.2)

    fits = [step for step in range(-2000, 3201) if height(step / 1000) <= target]
    if len(fits) == 5201:
        with pytest.raises(NasError, match=r"still met at phi 3\.2"):
            solve()
    else:
        assert solve() == fits[-1] / 1000


def test_a_measure_that_is_not_monotone() -> None:
    """A sawtooth of 20% on a doubling per phi.

    The last tooth below the target is returned, not the first one.
    """

    def measure(phi: float) -> float:
        return 2**phi * (1.2 if round(phi * 1000) % 100 < 50 else 1.0)

    fits = [step for step in range(4000) if measure(step / 1000) <= 3.0]
    phi = phi_for(lambda phi: replace(TINY, name=str(phi)), lambda arch: measure(float(arch.name)), 3.0)
    assert phi == fits[-1] / 1000


def test_other_measures() -> None:
    by_params = scaled_to_target(TINY, Compound(), params, 3 * complexity(TINY).params)
    by_memory = scaled_to_target(TINY, Compound(), peak_memory_bytes, 3 * complexity(TINY).peak_memory_bytes)
    above = [scale_compound(TINY, Compound(), network.phi + 0.001) for network in (by_params, by_memory)]
    assert by_params.params_growth <= 3 < above[0].params_growth
    assert by_memory.memory_growth <= 3 < above[1].memory_growth


def test_b0_to_the_macs_of_b3() -> None:
    b0, b3 = zoo.get("efficientnet_b0"), zoo.get("efficientnet_b3")
    scaled = scaled_to_target(b0, Compound(), macs, complexity(b3).macs)
    assert scaled.cost.macs <= complexity(b3).macs < scale_compound(b0, Compound(), scaled.phi + 0.001).cost.macs
    assert 1.9 < scaled.phi < 2.1  # B3's depth, width and side imply 1.845, 1.913 and 2.09


def test_a_target_below_the_baseline_names_the_cost_of_the_baseline() -> None:
    message = f"target_macs_m 1e+06: below the baseline, which needs {complexity(TINY).macs:.4g}"
    with pytest.raises(NasError, match=re.escape(message)):
        scaled_to_target(TINY, Compound(), macs, 1e6, field="target_macs_m")


def test_a_target_out_of_reach() -> None:
    needs = f"{complexity(TINY).params:.4g}"
    message = f"target 1e+06: still met at phi 12, the largest tried, where the network needs {needs}; lower it"
    with pytest.raises(NasError, match=re.escape(message)):
        scaled_to_target(TINY, DIRECTIONS["resolution"], params, 1e6)
    huge = replace(TINY, resolution_px=8192)
    assert phi_limit(huge, DIRECTIONS["resolution"]) < 2
    with pytest.raises(NasError, match=r"still met at phi 1\.\d+, the largest tried, where"):
        scaled_to_target(huge, DIRECTIONS["resolution"], macs, 1e12, RoundingRules(resolution_rule="multiple_of_8"))


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan, math.inf])
def test_invalid_targets(target: float) -> None:
    with pytest.raises(NasError, match=r"target .*: must be a number above 0"):
        scaled_to_target(TINY, Compound(), macs, target)


def test_invalid_factors() -> None:
    with pytest.raises(NasError, match=r"factor 2: below the baseline, which needs [3-9]\.\d+"):
        at_cost(TINY, Compound(), 2, start=Factors(depth=4.0))
    with pytest.raises(NasError, match=r"factor 0\.5: must be a number of at least 1"):
        at_cost(TINY, Compound(), 0.5)
