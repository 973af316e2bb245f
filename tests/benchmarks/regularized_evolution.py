"""Regularised evolution on an Optuna study, as an arm of tests/benchmarks/sample_efficiency.py."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState

from search_spaces.space import Genotype

POPULATION: Final = 20
TOURNAMENT: Final = 5


def evolve(study: optuna.Study, space: Any, rng: random.Random) -> Genotype:
    """Next candidate: the best of a tournament among the last trials, with one choice changed.

    Real et al. 2019, arXiv:1802.01548, algorithm 1: the population is the last ``POPULATION`` trials, whatever they
    gave, and the oldest leaves. With two objectives the parent is any of the tournament that no other of it dominates.
    """
    population = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))[-POPULATION:]
    if len(population) < POPULATION:
        return dict(space.sample(rng))
    tournament = rng.choices(population, k=TOURNAMENT)
    signs = [1 if direction is StudyDirection.MAXIMIZE else -1 for direction in study.directions]
    values = [tuple(sign * value for sign, value in zip(signs, trial.values, strict=True)) for trial in tournament]
    fittest = [
        trial for trial, own in zip(tournament, values, strict=True) if not any(_dominates(v, own) for v in values)
    ]
    parent = rng.choice(fittest).params
    name = rng.choice([name for name, choices in space.parameters.items() if len(choices) > 1])
    others = [value for value in space.parameters[name] if value != parent[name]]
    return {**parent, name: rng.choice(others)}


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))
