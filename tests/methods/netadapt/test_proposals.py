"""Tests of the proposals of a step."""

from __future__ import annotations

import pytest

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.scaling.shrinking import shrink_dimensions
from nas.core.errors import NasError
from nas.latency.predictors.macs import MacsPredictor
from nas.methods.netadapt.proposals import Change, changed, check_reachable, network_pricer, propose
from nas.methods.netadapt.settings import NetAdaptSettings, TargetSettings

PRICE = network_pricer(MacsPredictor(1000.0))  # 1 ms per M multiply-adds


@pytest.mark.parametrize("name", ["mobilenetv2_100", "mixnet_s", "mobilenetv3_small_100"])
@pytest.mark.parametrize("measure", ["latency_ms", "params_m"])
def test_proposals_are_the_largest_sizes_below_the_limit(name: str, measure: str) -> None:
    arch, settings = zoo.get(name), NetAdaptSettings()
    (here,) = PRICE([arch])
    limit = 0.97 * here.measures[measure]
    proposals = {one.change: one for one in propose(arch, PRICE, measure, limit, settings, 1)}
    wanted = {}
    for dimension in shrink_dimensions(arch):  # every size, one after the other
        for size in dimension.sizes:
            (candidate,) = PRICE([dimension.at(size)])
            if candidate.measures[measure] <= limit:
                wanted[Change(dimension.kind, dimension.name, size)] = candidate.arch.arch_id
                break
    assert {change: one.candidate.arch.arch_id for change, one in proposals.items()} == wanted
    assert wanted
    for change, one in proposals.items():
        assert changed(arch, change, settings, 1) == one.candidate.arch


def test_a_change_of_another_network_is_refused() -> None:
    with pytest.raises(NasError, match=r"blocks\.9\.0 8: does not fit"):
        changed(zoo.get("mobilenetv2_100"), Change("expansion", "blocks.9.0", 8), NetAdaptSettings(), 1)


def test_a_target_out_of_reach_is_refused_with_the_smallest() -> None:
    arch = zoo.get("mobilenetv2_100")
    (seed,) = PRICE([arch])
    heads = NetAdaptSettings(kinds=("head",))
    smallest = shrink_dimensions(arch, kinds=("head",))[0].at(8)
    least = complexity(smallest).macs / 1e6
    check_reachable(seed, PRICE, "macs_m", least + 1, heads, 1)
    with pytest.raises(NasError, match=rf"smallest network has {least:.4g}; raise the target"):
        check_reachable(seed, PRICE, "macs_m", least - 1, heads, 1)
    with pytest.raises(NasError, match="nothing to shrink"):
        check_reachable(seed, PRICE, "macs_m", 1000.0, heads, 1)


def test_targets() -> None:
    assert TargetSettings(target=0.7).value(20.0) == pytest.approx(14.0)
    assert TargetSettings(target_macs_m=100.0).value(300.0) == 100.0
    assert TargetSettings(target_params_m=1.0).measure == "params_m"
    with pytest.raises(NasError, match="target and target_ms are set"):
        TargetSettings(target=0.5, target_ms=3.0)
    with pytest.raises(NasError, match="none is set"):
        TargetSettings()
    with pytest.raises(NasError, match="target"):
        TargetSettings(target=1.0)


def test_steps_are_at_least_a_proposal() -> None:
    with pytest.raises(NasError, match=r"netadapt\.step 0\.01: must be at least netadapt\.delta"):
        NetAdaptSettings(delta=0.02, step=0.01)
    with pytest.raises(NasError, match="each once"):
        NetAdaptSettings(kinds=("head", "head"))
    with pytest.raises(NasError, match=r"netadapt\.kinds"):
        NetAdaptSettings(kinds=("depth",))
