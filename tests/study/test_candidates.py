"""Pricing before training: exact costs of published networks, the survey's share, the walk to a feasible corner."""

from __future__ import annotations

import gc
import importlib
import itertools
import pickle
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from nas.arch import zoo
from nas.arch.heads import HeadSettings
from nas.core.errors import NasError
from nas.latency.predictors.block_pieces import pieces
from nas.latency.predictors.block_table import BlockTable
from nas.study.candidates import Pricer, survey
from tests.study.fakes import CONF, MS_PER_GMAC, CornerSpace, mobilenet_v1, pricer, small_space


def all_measures(prices: Pricer) -> list[dict[str, float]]:
    """What every point of a small space costs."""
    names, choices = zip(*prices.space.parameters.items(), strict=True)
    points = (dict(zip(names, values, strict=True)) for values in itertools.product(*choices))
    return [prices.price(point).measures for point in points]


def instantiate(config: dict[str, Any]) -> Any:
    """The space of a YAML file, as Hydra makes it."""
    module, _, name = config["_target_"].rpartition(".")
    return getattr(importlib.import_module(module), name)(
        **{key: value for key, value in config.items() if not key.startswith("_")}
    )


def test_a_candidate_is_priced_with_the_published_figures() -> None:
    # 568.7 M multiply-adds and 4.23 M parameters with 1000 classes of RGB images at 224 px (MobileNetV1, table 4: 569
    # and 4.2). Ten classes take 990 * 1025 parameters off, grey images two of three planes of 32 3x3 filters.
    prices = pricer(mobilenet_v1())
    candidate = prices.price({"width": 1.0, "resolution_px": 224})
    macs = 568_740_352 - 990 * 1024 - 2 * 9 * 32 * 112**2
    assert candidate.cost.macs == macs
    assert candidate.cost.params == 4_231_976 - 990 * 1025 - 2 * 9 * 32
    assert candidate.measures["macs_m"] == pytest.approx(macs / 1e6)
    assert candidate.measures["latency_ms"] == pytest.approx(macs * 1e-9 * MS_PER_GMAC)
    assert candidate.latency.low_ms < candidate.latency.latency_ms < candidate.latency.high_ms
    assert candidate.arch.classes == 10 and candidate.arch.in_channels == 1


def test_a_published_network_has_one_price_by_name_and_by_genotype() -> None:
    space = mobilenet_v1()
    arch = zoo.get("mobilenetv1_050")
    assert pricer(space).price(space.encode(arch)).arch.stages == arch.stages


@pytest.mark.parametrize(
    ("task", "head", "name"),
    [
        ("classification", {}, "mobilenetv1_050"),
        ("detection", {"c3_scale": 0.1}, "mobilenetv1_050"),
        ("segmentation", {"halve": False}, "mobilenetv1_050"),
        ("segmentation", {"halve": True}, ""),
        ("detection", {"halve": True}, ""),
    ],
)
def test_a_network_is_published_with_any_head_that_leaves_its_stages(task: str, head: dict, name: str) -> None:
    space = mobilenet_v1()
    prices = replace(pricer(space), task=task, head=HeadSettings(**head))
    genotype = space.encode(zoo.get("mobilenetv1_050"))
    assert prices.published_name(genotype) == name
    assert prices.published_name({**genotype, "resolution_px": 160}) == ""


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_batch_has_the_prices_of_its_networks_one_by_one(path: Path) -> None:
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    spaces = [instantiate(config) for _ in range(2)]  # with caches of their own
    rng = random.Random(4)
    points = [spaces[0].sample(rng) for _ in range(30)]
    points = [*points, *points[:3]]
    batch, single = pricer(spaces[0]), pricer(spaces[1])
    found = batch.price_many(iter(points))
    assert [candidate.genotype for candidate in found] == points
    for candidate, expected in zip(found, map(single.price, points), strict=True):
        assert (candidate.arch, candidate.cost) == (expected.arch, expected.cost)
        assert candidate.arch.arch_id == expected.arch.arch_id
        assert candidate.measures == pytest.approx(expected.measures, rel=1e-9)
    if "resolution_px" in spaces[0].parameters:
        assert len({candidate.arch.resolution_px for candidate in found}) > 1
    assert batch.price_many([]) == []


def test_a_batch_is_scaled_as_single_prices_and_leaves_garbage_collection_as_it_was() -> None:
    corrected = replace(pricer(small_space()), latency_scale=1.5)
    point = {**dict.fromkeys(corrected.space.parameters), **corrected.space.sample(random.Random(0))}
    assert corrected.price_many([point, point]) == [corrected.price(point)] * 2
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            corrected.price_many([point])
            assert gc.isenabled() is enabled
            with pytest.raises(NasError, match="is missing"):
                corrected.price_many([point, {}])
            assert gc.isenabled() is enabled
        finally:
            gc.enable()


def test_a_pricer_is_pickled_without_its_caches() -> None:
    prices, rng = pricer(small_space()), random.Random(0)
    points = [prices.space.sample(rng) for _ in range(50)]
    size = len(pickle.dumps(prices))
    found = prices.price_many(points)
    assert len(pickle.dumps(prices)) == size
    assert pickle.loads(pickle.dumps(prices)).price_many(points) == found


def test_survey_finds_the_feasible_share() -> None:
    every = all_measures(pricer(small_space()))
    limit = sorted(measures["macs_m"] for measures in every)[len(every) // 3]
    share = sum(measures["macs_m"] <= limit for measures in every) / len(every)
    found = survey(pricer(small_space(), macs_m=limit), samples=100, seed=1)
    # A binomial share of 100 draws has a standard deviation of at most 0.05; four of them happen once in 16,000.
    assert len(found.feasible) / 100 == pytest.approx(share, abs=0.2)
    assert (found.sampled, found.feasible_sampled) == (100, len(found.feasible))
    # A space smaller than the sample is looked at point by point, and the share is exact.
    whole = survey(pricer(small_space(), macs_m=limit), samples=400, seed=1)
    assert (whole.sampled, len(whole.feasible) / 288) == (288, share)
    assert len({tuple(sorted(candidate.genotype.items())) for candidate in whole.feasible}) == len(whole.feasible)
    assert all(candidate.measures["macs_m"] <= limit for candidate in found.feasible)
    assert min(m["latency_ms"] for m in every) <= found.fastest_ms <= found.slowest_ms
    assert found.slowest_ms <= max(m["latency_ms"] for m in every)


def test_a_table_that_does_not_cover_the_space_is_told_before_anything_is_priced() -> None:
    prices = pricer(small_space())
    names, choices = zip(*prices.space.parameters.items(), strict=True)
    points = [dict(zip(names, values, strict=True)) for values in itertools.product(*choices)]
    needed = [{piece for _, piece in pieces(prices.decode(point))} for point in points]
    entries = {piece: 0.5 for network in needed for piece in network}
    covering = replace(prices, predictor=BlockTable(device=prices.predictor.device, entries=entries))
    assert survey(covering, seed=1).fastest_ms == pytest.approx(0.5 * min(map(len, needed)))

    lacking = [piece for piece in entries if piece.block.startswith(("head", "ir_r1_k5"))]
    first = max(lacking, key=lambda piece: sum(piece in network for network in needed))
    rest = {piece: ms for piece, ms in entries.items() if piece not in lacking}
    gaps = replace(prices, predictor=BlockTable(device=prices.predictor.device, entries=rest))
    told = rf"'small': .* lacks {len(lacking)} of the {len(entries)} entries .*288 sampled networks need, first head"
    with pytest.raises(NasError, match=told) as caught:
        survey(gaps, seed=1, progress=lambda done, total: pytest.fail("priced"))
    assert str(first) in str(caught.value)


def test_survey_without_limits_calls_everything_feasible_and_tells_its_progress() -> None:
    heard: list[tuple[int, int]] = []
    found = survey(pricer(small_space()), samples=5, seed=0, progress=lambda *args: heard.append(args))
    assert len(found.feasible) == 5
    assert heard == [(index, 5) for index in range(1, 6)]


def test_the_same_seed_draws_the_same_survey() -> None:
    prices = pricer(small_space())
    drawn = [[c.genotype for c in survey(prices, samples=20, seed=seed).feasible] for seed in (3, 3, 4)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_corner_that_chance_misses_is_found() -> None:
    space = CornerSpace()
    smallest = dict.fromkeys(space.parameters, 1)
    limit = pricer(space).price(smallest).measures["macs_m"]
    found = survey(pricer(space, macs_m=limit), samples=10, seed=0)
    assert [candidate.genotype for candidate in found.feasible] == [smallest]
    assert found.feasible_sampled == 0  # it was not in the sample
    assert found.fastest_ms == found.closest.latency.latency_ms


def test_an_infeasible_space_says_what_it_can_do() -> None:
    smallest = min(measures["latency_ms"] for measures in all_measures(pricer(mobilenet_v1())))
    with pytest.raises(NasError) as caught:
        survey(pricer(mobilenet_v1(), latency_ms=0.01), samples=30, seed=0)
    assert "0 of 16 sampled candidates of space 'mobilenet_v1' meet latency_ms <= 0.01" in str(caught.value)
    assert f"smallest found: latency_ms {smallest:.4g}" in str(caught.value)


def test_two_limits_that_exclude_each_other_are_both_named() -> None:
    with pytest.raises(NasError, match=r"latency_ms <= 1e-06, params_m <= 0\.01.*latency_ms .*, params_m "):
        survey(pricer(mobilenet_v1(), latency_ms=1e-6, params_m=0.01), samples=10, seed=0)
