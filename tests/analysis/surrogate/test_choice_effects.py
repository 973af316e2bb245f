"""Tests of effects of choices against a truth that is linear in them."""

from __future__ import annotations

import numpy as np
import pytest

from nas.analysis.surrogate import ChoiceEffect, choice_effects
from tests.analysis.surrogate.linear_truth import BLOCKS, KERNELS, POINTS, LinearTruth

MS = {"k3": 1.0, "k5": 1.5, "k7": 2.5}


def effects(truth: LinearTruth, count: int, seed: int) -> dict[str, ChoiceEffect]:
    model, _ = truth.fitted(count, seed)
    design = truth.scale.transform([truth.features(one) for one in truth.networks])
    latencies = np.array([sum(MS[one[name]] for name in BLOCKS) for one in truth.networks])
    return {one.choice: one for one in choice_effects(model, truth.networks, design, latencies)}


def test_intervals_cover_the_true_differences_as_often_as_they_say() -> None:
    inside = []
    for seed in range(25):
        truth = LinearTruth.drawn(seed)
        for name, effect in effects(truth, 60, seed).items():
            values = {str(value): worth for value, worth in truth.worth[name.replace("b*", "b0")].items()}
            known = POINTS * effect.blocks * (values[effect.best] - values[effect.worst])
            inside.append(effect.low <= known <= effect.high)
    # 100 intervals of 90%, four and four of one model: the standard error of the share is 0.03 to 0.04.
    assert float(np.mean(inside)) == pytest.approx(0.9, abs=0.09)


def test_choices_of_the_blocks_of_a_stage_are_one_choice() -> None:
    found = effects(LinearTruth.drawn(0), 60, 0)
    assert set(found) == {"s0.b*.kernel", "s1.b*.kernel", "s2.b*.kernel", "width"}
    assert found["s0.b*.kernel"].blocks == 2 and found["s0.b*.kernel"].name == "s0.b*.kernel (2 blocks)"
    assert found["width"].blocks == 1 and found["width"].name == "width"
    sizes = [one.accuracy for one in found.values()]
    assert sizes == sorted(sizes, reverse=True) and all(size >= 0 for size in sizes)


def test_latencies_are_those_of_the_same_change() -> None:
    found = effects(LinearTruth.drawn(0), 60, 0)
    for name, effect in found.items():
        known = 0.0 if name == "width" else 2 * (MS[effect.best] - MS[effect.worst])
        assert effect.latency_ms == pytest.approx(known, abs=1e-3)
        assert effect.latency_error == pytest.approx(0.0, abs=1e-3)


def test_choices_that_do_not_matter_are_seldom_shown_to() -> None:
    shown = []
    for seed in range(25):
        found = effects(LinearTruth.drawn(seed, share=0.999), 40, seed)
        shown += [one.is_shown for one in found.values()]
    # At most 10% by the level of the intervals; of 100 more than 19 have a chance of 0.2%.
    assert sum(shown) <= 19


def test_a_choice_of_one_value_or_of_rare_ones_has_no_effect() -> None:
    truth = LinearTruth.drawn(0)
    model, _ = truth.fitted(40, 0)
    networks = [dict(one) | {"fixed": 1, "rare": int(place < 3)} for place, one in enumerate(truth.networks)]
    design = truth.scale.transform([truth.features(one) for one in truth.networks])
    found = {one.choice for one in choice_effects(model, networks, design, np.ones(len(networks)))}
    assert not found & {"fixed", "rare"} and len(KERNELS) == 3


def test_without_networks_there_are_no_effects() -> None:
    model, _ = LinearTruth.drawn(0).fitted(12, 0)
    assert choice_effects(model, [], np.empty((0, len(model.scale.names))), np.empty(0)) == ()
