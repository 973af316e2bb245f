"""Tests of the networks that an earlier study contributes to a new one."""

from __future__ import annotations

import random

import pytest

from nas.methods.search.trials.warm_start import best_records
from nas.study.objective import ObjectiveSettings
from nas.study.trial_record import Outcome, TrialRecord, pareto_front
from tests.study.fakes import PARETO

REWARD = ObjectiveSettings(kind="mnasnet", target_ms=5.0)


def rows(count: int) -> list[TrialRecord]:
    rng = random.Random(count)
    return [
        TrialRecord(
            number=number,
            outcome=Outcome.TRAINED if number % 4 else Outcome.INFEASIBLE,
            arch_id=f"a{number}",
            accuracy=rng.random() if number % 4 else None,
            latency_ms=1 + 9 * rng.random(),
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("objective", [PARETO, REWARD])
def test_the_front_comes_first_and_the_best_of_the_others_make_it_eight(objective: ObjectiveSettings) -> None:
    made = rows(60)
    front, best = pareto_front(made), best_records(made, objective)
    assert best[: len(front)] == front and len(best) == max(8, len(front)) == len({row.arch_id for row in best})
    chosen = {row.number for row in best}
    left = [row for row in made if row.outcome is Outcome.TRAINED and row.number not in chosen]
    assert all(objective.score(row) >= max(map(objective.score, left)) for row in best[len(front) :])


def test_of_few_networks_all_are_taken() -> None:
    made = rows(6)
    assert {row.number for row in best_records(made, PARETO)} == {1, 2, 3, 5}
    assert best_records([], PARETO) == []
