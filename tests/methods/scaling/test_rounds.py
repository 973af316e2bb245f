"""Tests of the rounds and of the ranking as functions of the accuracies."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from nas.methods.scaling.design.entries import BASELINE
from nas.methods.scaling.ranking.noise import pooled_noise
from nas.methods.scaling.ranking.rounds import SeededTraining, best_key, most_trainings, next_round, rank_means
from nas.methods.scaling.settings import RaceSettings

LABELS = (BASELINE, "a", "b", "c", "d")
RACE = RaceSettings(seeds=4, finalists=3)


def rounds(*labels: str) -> list[list[SeededTraining]]:
    """Rounds, one per argument, whose letters are the labels of its networks."""
    return [
        [(label, seed) for label in LABELS if label == BASELINE or label in names] for seed, names in enumerate(labels)
    ]


def named(trainings: Sequence[SeededTraining], seed: int) -> tuple[str, ...]:
    """Labels of ``trainings``, all of which have the ``seed``."""
    assert {one for _, one in trainings} <= {seed}
    return tuple(label for label, _ in trainings)


def test_everybody_runs_once_and_the_best_again_with_the_baseline() -> None:
    assert named(next_round(LABELS, {}, [], RACE, all_seeds=False), 0) == LABELS
    first = {BASELINE: [0.5], "a": [0.7], "b": [0.9], "c": [0.8], "d": [0.6]}
    assert named(next_round(LABELS, first, rounds("abcd"), RACE, all_seeds=False), 1) == (BASELINE, "a", "b", "c")
    assert named(next_round(LABELS, first, rounds("abcd"), RACE, all_seeds=True), 1) == LABELS


def test_from_the_third_round_on_only_those_the_noise_does_not_tell_from_the_best() -> None:
    second, before = {BASELINE: [0.5, 0.5], "a": [0.7, 0.701], "b": [0.9, 0.901], "d": [0.6]}, rounds("abcd", "abc")
    near, clear = {**second, "c": [0.899, 0.9]}, {**second, "c": [0.8, 0.801]}
    assert named(next_round(LABELS, near, before, RACE, all_seeds=False), 2) == (BASELINE, "b", "c")
    assert next_round(LABELS, clear, before, RACE, all_seeds=False) == ()


def test_a_network_that_lacks_a_seed_has_dropped_out() -> None:
    second = {BASELINE: [0.5, 0.5], "a": [0.7, 0.8], "b": [0.9], "c": [0.8, 0.7]}
    assert named(next_round(LABELS, second, rounds("abcd", "abc"), RACE, all_seeds=False), 2) == (BASELINE, "a", "c")
    assert next_round(LABELS, {BASELINE: [0.5]}, rounds("abcd"), RACE, all_seeds=False) == ()
    all_twice = rounds("abcd", "abcd")
    assert named(next_round(LABELS, second, all_twice, RACE, all_seeds=True), 2) == (BASELINE, "a", "c")
    assert next_round(LABELS, {BASELINE: [0.5]}, rounds("abcd"), RACE, all_seeds=True) == ()


def test_the_rounds_end_with_the_seeds() -> None:
    equal, before = {label: [0.7, 0.8, 0.7, 0.8] for label in LABELS}, rounds(*["abcd"] * 4)
    more = RaceSettings(seeds=5, finalists=3)
    for all_seeds in (False, True):
        assert next_round(LABELS, equal, before, RACE, all_seeds=all_seeds) == ()
    assert named(next_round(LABELS, equal, before, more, all_seeds=False), 4) == LABELS
    assert named(next_round(LABELS, equal, before, more, all_seeds=True), 4) == LABELS


def test_networks_that_come_later_get_the_seeds_of_those_before_them() -> None:
    race, labels = RaceSettings(seeds=2), (*LABELS, "later")
    done = {label: [0.7, 0.8] for label in LABELS}
    before = rounds("abcd", "abcd")
    assert next_round(labels, done, before, race, all_seeds=True) == (("later", 0),)
    assert next_round(labels, {**done, "later": [0.5]}, [*before, [("later", 0)]], race, all_seeds=True) == (
        ("later", 1),
    )
    assert next_round(labels, done, [*before, [("later", 0)]], race, all_seeds=True) == ()  # it failed


def test_the_best_of_a_step_is_the_highest_mean_of_those_with_all_seeds() -> None:
    labels = {"depth": "a", "width": "b", "resolution": "c"}
    assert best_key(labels, {"a": [0.5, 0.6], "b": [0.6, 0.7], "c": [0.9]}) == "width"
    assert best_key(labels, {"c": [0.6, 0.7], "a": [0.7, 0.6]}) == "depth"  # a tie
    assert best_key(labels, {}) is None and best_key({}, {"a": [0.5]}) is None


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(2, 6), st.booleans(), st.integers(0, 2**32))
def test_a_race_takes_no_more_trainings_than_it_says(seeds: int, finalists: int, all_seeds: bool, draw: int) -> None:
    race, rng = RaceSettings(seeds=seeds, finalists=finalists), random.Random(draw)
    accuracies: dict[str, list[float]] = {}
    before: list[tuple[SeededTraining, ...]] = []
    while trainings := next_round(LABELS, accuracies, before, race, all_seeds=all_seeds):
        for label, _ in trainings:
            accuracies.setdefault(label, []).append(rng.gauss(0.8, 0.01))
        before.append(trainings)
    count = sum(map(len, before))
    assert count <= most_trainings(LABELS, race, all_seeds=all_seeds)
    if all_seeds:
        assert count == seeds * len(LABELS)


def test_one_lucky_seed_does_not_win_against_those_asked_again() -> None:
    accuracies = {BASELINE: [0.99, 0.99], "a": [0.95], "b": [0.90, 0.92], "c": [0.91, 0.88]}
    found = rank_means(accuracies, pooled_noise(accuracies))
    assert found is not None
    assert found.ranked == ("b", "c", "a") and found.best == "b"
    assert set(found.peers) == {"a", "c"}
    assert rank_means({BASELINE: [0.5]}, pooled_noise({})) is None
