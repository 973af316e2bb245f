"""Tests of when a race ends: false decisions, the chance that is left, and the conclusion in words."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import studentized_range

from nas.methods.scaling.design.entries import BASELINE
from nas.methods.scaling.ranking.conclusion import RaceConclusion, RaceEnd, race_conclusion
from nas.methods.scaling.ranking.noise import Noise, pooled_noise
from nas.methods.scaling.ranking.power import chance_to_separate, seeds_text, seeds_to_separate
from nas.methods.scaling.ranking.race_rule import RaceRule
from nas.methods.scaling.ranking.rounds import SeededTraining, next_round, race_tests, rank_means
from nas.methods.scaling.settings import RaceSettings

SD = 0.01
EQUAL = dict.fromkeys("abcd", 0.8)
RACE = RaceSettings(seeds=8, finalists=4, min_power=0.0)
VERSION_0_1, SHARED = RaceRule(), RaceRule(planned_seeds=8)

Accuracies = dict[str, list[float]]
Rounds = list[tuple[SeededTraining, ...]]


def run_race(
    rng: np.random.Generator, means: Mapping[str, float], race: RaceSettings, rule: RaceRule
) -> tuple[Accuracies, Rounds]:
    """A race of networks with these ``means`` and normal noise of ``SD``."""
    accuracies: Accuracies = {}
    rounds: Rounds = []
    while trainings := next_round((BASELINE, *means), accuracies, rounds, race, all_seeds=False, rule=rule):
        for label, _ in trainings:
            accuracies.setdefault(label, []).append(rng.normal(means.get(label, 0.5), SD))
        rounds.append(trainings)
    return accuracies, rounds


def test_levels_add_up_to_five_percent_however_many_seeds_are_added() -> None:
    for planned in (1, 2, 3, 10, 300):
        levels = [RaceRule(planned_seeds=planned).level(seeds) for seeds in range(2, 5001)]
        assert min(levels) > 0
        assert sum(levels[: max(2, planned) - 1]) == pytest.approx(0.04)
        assert 0.0493 < sum(levels) < 0.05
    # 4% (2/3)^3, and what it leaves of 4%.
    assert [RaceRule(planned_seeds=3).level(seeds) for seeds in (2, 3)] == pytest.approx([0.32 / 27, 0.04 - 0.32 / 27])
    assert {VERSION_0_1.level(seeds) for seeds in (2, 3, 30)} == {0.05}


def test_a_race_of_equal_networks_calls_one_worse_in_five_percent_of_cases_at_most() -> None:
    """Of 1,000 races a rate of 5% would be exceeded by 3 standard errors, 2.1 points, once in 740 tests.

    Seven tests at 5% each are wrong more often; that both are seen here shows that the simulation can tell them apart.
    """
    tolerance, races = 3 * math.sqrt(0.05 * 0.95 / 1000), 1000
    wrong = {}
    for rule in (SHARED, VERSION_0_1):
        rng = np.random.default_rng(0)
        # A network that is not trained in the last round was called significantly worse by a test.
        ends = [run_race(rng, EQUAL, RACE, rule)[1][-1] for _ in range(races)]
        wrong[rule] = sum(len(last) < 5 for last in ends) / races
    assert wrong[SHARED] < 0.05 + tolerance < wrong[VERSION_0_1]


def test_a_network_that_is_better_by_far_ends_the_race() -> None:
    rng, rule = np.random.default_rng(0), RaceRule(planned_seeds=3)
    race = RaceSettings(seeds=3)
    for _ in range(20):
        accuracies, rounds = run_race(rng, {**EQUAL, "best": 1.0}, race, rule)
        found = race_conclusion(accuracies, rounds, race, rule, is_over=True)
        assert len(rounds) == 2 and (found.end, found.best) == (RaceEnd.SEPARATED, "best")


@pytest.mark.parametrize(("difference", "seeds", "most"), [(0.03, 2, 3), (0.02, 2, 6), (0.01, 4, 20)])
def test_the_chance_is_that_of_simulated_further_seeds(difference: float, seeds: int, most: int) -> None:
    """Of 40,000 draws, whose share has a standard error of at most 0.25 points."""
    noise, rule, rng = (
        Noise(deviation=SD, freedom=5, networks=6),
        RaceRule(planned_seeds=most),
        np.random.default_rng(0),
    )
    freedom = 5 + 4 * (most - seeds)
    critical = studentized_range.ppf(1 - rule.level(most), 6, freedom) * SD / math.sqrt(most)
    truth = rng.normal(difference, SD * math.sqrt(2 / seeds), 40_000)
    further = rng.normal(truth, SD * math.sqrt(2 / (most - seeds)))
    expected = np.mean((seeds * difference + (most - seeds) * further) / most > critical)
    found = chance_to_separate(noise, difference, seeds=seeds, most=most, more_per_round=4, rule=rule)
    assert 0.01 < found < 0.99 and found == pytest.approx(expected, abs=4 * 0.0025)


def test_the_seeds_that_separate_follow_from_the_published_quantile() -> None:
    """Tukey's 5% point of three means is 3.3145; a power of 80% adds sqrt(2) * 0.8416."""
    noise = Noise(deviation=SD, freedom=30, networks=3)
    for difference in (0.002, 0.005, 0.03):
        wanted = max(2, math.ceil((SD * (3.3145 + math.sqrt(2) * 0.8416) / difference) ** 2))
        assert seeds_to_separate(noise, difference) == wanted
        shared = seeds_to_separate(noise, difference, RaceRule(planned_seeds=3))
        assert shared is not None and shared > wanted
    assert seeds_to_separate(noise, 1e-5) is None and seeds_to_separate(noise, 0.0) is None
    assert seeds_text(1200) == "about 1,200 seeds" and seeds_text(None) == "more than 10,000 seeds"


def twice(values: Mapping[str, float]) -> Accuracies:
    """Two seeds a point apart for each network."""
    return {label: [value - 0.005, value + 0.005] for label, value in values.items()}


def rounds_of(*labels: Sequence[str]) -> Rounds:
    return [tuple((label, seed) for label in (BASELINE, *names)) for seed, names in enumerate(labels)]


def test_a_race_that_cannot_answer_ends_and_says_what_it_would_take() -> None:
    accuracies = {**twice({BASELINE: 0.7, "a": 0.80, "b": 0.801, "c": 0.805}), "d": [0.79], "e": [0.5]}
    rounds, race = rounds_of("abcde", "abc"), RaceSettings(seeds=3, finalists=3)
    labels, rule = (BASELINE, *"abcde"), RaceRule(planned_seeds=3)
    assert next_round(labels, accuracies, rounds, race, all_seeds=False, rule=rule) == ()
    found = race_conclusion(accuracies, rounds, race, rule, is_over=True)
    assert (found.end, found.best, found.once) == (RaceEnd.OUT_OF_REACH, "c", 1)  # e is significantly worse
    assert [one.label for one in found.rivals] == ["b", "a"]
    # Deviation 0.71 points, six networks: (0.0071 * (q + 1.19) / 0.004)^2 with q of at least 4.03, the 5% point.
    assert found.rivals[0].seeds is not None and found.rivals[0].seeds > (0.00707 * (4.03 + 1.19) / 0.004) ** 2
    first, needed, once = found.sentences(training_cpu_s=10.0)
    assert (
        "ended after 2 rounds of 3, because the answer cannot be known within race.seeds=3: which of c and b, a"
        in first
    )
    more = found.rivals[0].seeds - 2
    assert f"To separate c from b, 0.40 points apart (with a power of 80%), takes about {more + 2} seeds" in needed
    assert f"of each, {more} more than trained (about {more * 40 / 3600:.1f} CPU-h of training); from a, 0.50" in needed
    assert once.startswith("1 other network was left out by the first seed")
    assert json.loads(json.dumps(found.record))["rivals"][1]["name"] == "a"
    for other in (replace(race, min_power=0.0), replace(race, seeds=200)):
        trainings = next_round(labels, accuracies, rounds, other, all_seeds=False, rule=rule)
        assert [label for label, _ in trainings] == [BASELINE, "a", "b", "c"]
    assert next_round(labels, accuracies, rounds, race, all_seeds=False, rule=VERSION_0_1) != ()


def test_every_end_has_its_words() -> None:
    accuracies, rounds = twice({BASELINE: 0.7, "a": 0.80, "b": 0.81}), rounds_of("ab", "ab")

    def concluded(accuracies: Accuracies, rounds: Rounds, *, is_over: bool = True) -> RaceConclusion:
        return race_conclusion(accuracies, rounds, RaceSettings(seeds=2), RaceRule(planned_seeds=2), is_over=is_over)

    spent = concluded(accuracies, rounds)
    assert (
        spent.end is RaceEnd.SEEDS_SPENT
        and "ended with race.seeds=2, and the answer is not known" in spent.record["text"]
    )
    known = concluded({**accuracies, "a": [0.2, 0.21]}, rounds)
    assert known.end is RaceEnd.SEPARATED and "the answer is known: b is significantly better" in known.record["text"]
    failed = concluded({**accuracies, "a": [0.8]}, rounds)
    assert failed.end is RaceEnd.UNTESTED and "b alone: a dropped out before" in failed.record["text"]
    for untested in (concluded({"a": [0.8], "b": [0.8]}, rounds[:1]), concluded({BASELINE: [0.7, 0.7]}, rounds)):
        assert untested.end is RaceEnd.UNTESTED and untested.sentences() == []
    assert concluded(accuracies, rounds, is_over=False).end is RaceEnd.UNFINISHED


def test_what_a_test_decided_stays_decided() -> None:
    """After two seeds ``b`` is worse by far; with what ``a`` has afterwards it would not be."""
    accuracies = {BASELINE: [0.5, 0.5, 0.5], "a": [0.90, 0.901, 0.2], "b": [0.7, 0.7], "c": [0.899, 0.9, 0.21]}
    rounds, rule = rounds_of("abc", "abc", "ac"), RaceRule(planned_seeds=3)
    noise, tests = pooled_noise(accuracies), race_tests(accuracies, rounds, rule)
    assert tests.separated == {"b"} and tests.level == rule.level(3)
    found = rank_means(accuracies, noise, tests)
    assert found is not None and found.best == "c" and set(found.peers) == {"a"}
    assert race_tests(accuracies, rounds, VERSION_0_1).separated == frozenset()
