"""Who is trained again: rounds as a function of the accuracies, and what the race answers."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from nas.compound.entries import BASELINE
from nas.compound.plan import RaceSettings
from nas.compound.rounds import answer, most_trainings, next_round

LABELS = (BASELINE, "a", "b", "c", "d")
RACE = RaceSettings(seeds=4, finalists=3)


def test_everybody_runs_once_and_the_best_again_with_the_baseline() -> None:
    assert next_round(LABELS, {}, 0, RACE, everybody=False) == LABELS
    first = {BASELINE: [0.5], "a": [0.7], "b": [0.9], "c": [0.8], "d": [0.6]}
    assert next_round(LABELS, first, 1, RACE, everybody=False) == (BASELINE, "a", "b", "c")
    assert next_round(LABELS, first, 1, RACE, everybody=True) == LABELS


def test_from_the_third_round_on_only_those_the_noise_does_not_tell_from_the_best() -> None:
    second = {BASELINE: [0.5, 0.5], "a": [0.7, 0.701], "b": [0.9, 0.901], "c": [0.899, 0.9], "d": [0.6]}
    assert next_round(LABELS, second, 2, RACE, everybody=False) == (BASELINE, "b", "c")
    clear = {**second, "c": [0.8, 0.801]}
    assert next_round(LABELS, clear, 2, RACE, everybody=False) == ()
    assert next_round(LABELS, clear, 2, RACE, everybody=True) == (BASELINE, "a", "b", "c")


def test_a_network_that_lacks_a_seed_has_dropped_out() -> None:
    second = {BASELINE: [0.5, 0.5], "a": [0.7, 0.8], "b": [0.9], "c": [0.8, 0.7]}
    assert next_round(LABELS, second, 2, RACE, everybody=False) == (BASELINE, "a", "c")
    assert next_round(LABELS, {BASELINE: [0.5]}, 1, RACE, everybody=False) == ()


def test_the_rounds_end_with_the_seeds() -> None:
    equal = {label: [0.7, 0.8, 0.7, 0.8] for label in LABELS}
    assert next_round(LABELS, equal, 4, RACE, everybody=False) == ()
    assert next_round(LABELS, equal, 4, RaceSettings(seeds=5, finalists=3), everybody=False) == LABELS


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(2, 6), st.booleans(), st.integers(0, 2**32))
def test_a_race_takes_no_more_trainings_than_it_says(seeds: int, finalists: int, everybody: bool, draw: int) -> None:
    race, rng, count, done = RaceSettings(seeds=seeds, finalists=finalists), random.Random(draw), 0, 0
    accuracies: dict[str, list[float]] = {}
    while labels := next_round(LABELS, accuracies, done, race, everybody=everybody):
        for label in labels:
            accuracies.setdefault(label, []).append(rng.gauss(0.8, 0.01))
            count += 1
        done += 1
    assert count <= most_trainings(LABELS, race, everybody=everybody)
    if everybody:
        assert count == seeds * len(LABELS)


def test_one_lucky_seed_does_not_win_against_those_asked_again() -> None:
    found = answer({BASELINE: [0.99, 0.99], "a": [0.95], "b": [0.90, 0.92], "c": [0.91, 0.88]})
    assert found is not None
    assert found.ranked == ("b", "c", "a") and found.best == "b"
    assert set(found.peers) == {"a", "c"}
    assert answer({BASELINE: [0.5]}) is None
