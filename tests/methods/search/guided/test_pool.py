"""Tests of the pool of candidates: complete, feasible, and found where feasible ones are rare."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from nas.arch.complexity import complexity
from nas.arch.spec import ArchSpec
from nas.latency.predictors.base import LatencyEstimate
from nas.latency.predictors.block_table import MissingEntries
from nas.latency.predictors.macs import MacsPredictor
from nas.methods.search.guided import make_pool
from nas.methods.search.guided import pool as pool_module
from nas.methods.search.guided.pool import neighbours
from search_spaces.blockwise import BlockwiseSpace
from tests.study.fakes import pricer, small_space


def large_space() -> BlockwiseSpace:
    """18,432 points: too many to be looked at as a whole."""
    block = {"repeats": [0, 1, 2], "kernel": [3, 5], "expansion": [2, 3, 4, 6]}
    return small_space([{"kernel": [3, 5], "expansion": [3, 6]}, block, block, {"kernel": [3, 5], "expansion": [3, 6]}])


def test_the_pool_of_a_small_space_has_every_feasible_network_once() -> None:
    prices = pricer(small_space(), macs_m=0.6)
    names, values = zip(*prices.space.parameters.items(), strict=True)
    points = [dict(zip(names, one, strict=True)) for one in itertools.product(*values)]
    expected = {one.arch.arch_id for one in map(prices.price, points) if one.measures["macs_m"] <= 0.6}
    pool = make_pool(prices, seed=0)
    found = [one.arch.arch_id for one in pool.candidates]
    assert pool.complete and pool.sampled == 288 and found == sorted(expected)
    assert pool.design.shape == (len(found), len(pool.scale.names))


def test_the_pool_of_a_large_space_follows_from_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_WANTED", 300)
    prices = pricer(large_space())
    first, second, third = (make_pool(prices, seed=seed) for seed in (0, 0, 1))
    ids = [[one.arch.arch_id for one in pool.candidates] for pool in (first, second, third)]
    assert ids[0] == ids[1] != ids[2] and not first.complete and first.feasible == first.sampled == 500


def test_rare_candidates_are_found_by_walking_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_MOST_SAMPLED", 500)
    monkeypatch.setattr(pool_module, "_FEW", 60)
    prices = pricer(large_space())
    rng = random.Random(5)
    macs_m = sorted(prices.price(prices.space.sample(rng)).measures["macs_m"] for _ in range(4000))
    limit = macs_m[7]  # met by one in 500
    pool = make_pool(pricer(large_space(), macs_m=limit), seed=0)
    assert pool.feasible < 5 and len(pool.candidates) >= 60
    assert all(one.measures["macs_m"] <= limit for one in pool.candidates)
    points = [tuple(one.genotype.values()) for one in pool.candidates]
    assert len(set(points)) == len(points)


def test_neighbours_are_points_of_the_space_near_their_parents() -> None:
    space, rng = large_space(), random.Random(0)
    parent = space.sample(rng)
    children = neighbours([parent], space.parameters, 300, rng)
    assert len(children) == 300
    for child in children:
        space.check(child)
    changed = [sum(child[name] != parent[name] for name in parent) for child in children]
    assert min(changed) == 1 and 1.2 < sum(changed) / 300 < 2


def test_children_of_two_parents_mix_their_choices() -> None:
    space = large_space()
    low = {name: values[0] for name, values in space.parameters.items()}
    high = {name: values[-1] for name, values in space.parameters.items()}
    children = neighbours([low, high], space.parameters, 200, random.Random(0))
    shares = [sum(child[name] == high[name] for name in high) / len(high) for child in children]
    assert any(0.3 < share < 0.7 for share in shares)


def test_a_space_of_one_point_has_no_neighbours() -> None:
    assert neighbours([{}], {}, 5, random.Random(0)) == []


class Incomplete(MacsPredictor):
    """A table that lacks the entries of every network of more than 0.6 million multiply-adds."""

    def predict(self, spec: ArchSpec, resolution_px: int | None = None) -> LatencyEstimate:
        if complexity(spec).macs > 6e5:
            raise MissingEntries(spec.name, [])
        return super().predict(spec, resolution_px)


def test_networks_without_a_price_are_left_out() -> None:
    prices = replace(pricer(small_space()), predictor=Incomplete(30.0))
    expected = make_pool(pricer(small_space(), macs_m=0.6), seed=0)
    assert [one.arch.arch_id for one in make_pool(prices, seed=0).candidates] == [
        one.arch.arch_id for one in expected.candidates
    ]


def test_a_pool_may_be_empty() -> None:
    pool = make_pool(pricer(small_space(), macs_m=0.001), seed=0)
    assert pool.candidates == () and pool.design.shape == (0, 1)
