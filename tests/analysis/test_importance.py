"""Choice importances on synthetic searches with known effects."""

from __future__ import annotations

import random

from nas.analysis.importance import MIN_TRIALS, importances
from nas.study.trial_record import Outcome, TrialRecord

CHOICES = tuple(f"s{stage}.b{block}.kernel" for stage in range(4) for block in range(3))


def rows(count: int, seed: int = 0) -> list[TrialRecord]:
    """Build records: accuracy depends on choice 1, latency on choice 2, plus noise."""
    rng, records = random.Random(seed), []
    for number in range(count):
        genotype = {name: rng.choice(["k3", "k5", "k7"]) for name in CHOICES} | {"width": 1.0}
        accuracy = 0.5 + 0.2 * (genotype[CHOICES[0]] == "k5") + rng.gauss(0, 0.03)
        latency_ms = 5 + 3 * (genotype[CHOICES[1]] == "k7") + rng.gauss(0, 0.3)
        fields = {"accuracy": accuracy, "latency_ms": latency_ms, "genotype": genotype}
        records.append(TrialRecord(number=number, outcome=Outcome.TRAINED, **fields))
    return records


def test_decisive_choice_ranks_first_above_the_permuted_baseline() -> None:
    accuracy, latency = importances(rows(80))
    assert (accuracy.quantity, latency.quantity) == ("accuracy", "latency")
    for result, name in ((accuracy, CHOICES[0]), (latency, CHOICES[1])):
        (first, share), (_, second) = result.shares[:2]
        assert first == name and share > 0.5 > result.by_chance and second < share / 2
        assert result.networks == 80 and "width" not in dict(result.shares)


def test_failed_trials_do_not_affect_importances() -> None:
    records = rows(40)
    others = [TrialRecord(number=100 + index, outcome=Outcome.FAILED) for index in range(5)]
    assert importances([*others, *records]) == importances(records)


def test_too_few_or_equal_networks_have_no_importances() -> None:
    assert importances(rows(MIN_TRIALS - 1)) == ()
    same = [TrialRecord(number=n, outcome=Outcome.TRAINED, accuracy=0.5, latency_ms=2.0) for n in range(MIN_TRIALS)]
    assert importances(same) == ()
    without_choices = [
        TrialRecord(number=n, outcome=Outcome.TRAINED, accuracy=n / 100, latency_ms=2.0) for n in range(MIN_TRIALS)
    ]
    assert importances(without_choices) == ()


def test_large_studies_are_sampled() -> None:
    (accuracy, _) = importances(rows(600))
    assert accuracy.networks == 256 and accuracy.shares[0][0] == CHOICES[0]
