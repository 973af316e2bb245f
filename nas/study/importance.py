"""Which choices of a space mattered: fANOVA (Hutter et al., 2014) on what was trained, beside what chance gives."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from nas.study.rows import Outcome, TrialRow

LEAST_TRIALS: Final = 30
_MOST_TRIALS: Final = 256  # half a second of CPU for each quantity at a hundred choices
_TREES: Final = 16
_SHOWN: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """Shares of the variance of ``quantity`` among ``networks`` that single choices explain, the largest first.

    ``by_chance``: the largest share that a choice got when the values were dealt out to the networks anew.
    """

    quantity: str
    shares: tuple[tuple[str, float], ...]
    networks: int
    by_chance: float


def importances(rows: Sequence[TrialRow]) -> tuple[Importance, ...]:
    """Importance for the accuracy and for the latency; empty with fewer than ``LEAST_TRIALS`` trained networks.

    Of more than 256 networks an even sample is taken. fANOVA asks how much a value varies, not which way is better.
    """
    trained = [row for row in rows if row.outcome is Outcome.TRAINED and None not in (row.accuracy, row.latency_ms)]
    if len(trained) < LEAST_TRIALS:
        return ()
    step = max(1.0, len(trained) / _MOST_TRIALS)
    sample = [trained[int(place * step)] for place in range(min(len(trained), _MOST_TRIALS))]
    quantities: tuple[tuple[str, Callable[[TrialRow], float]], ...] = (
        ("accuracy", lambda row: row.accuracy or 0.0),
        ("latency", lambda row: row.latency_ms or 0.0),
    )
    found = []
    for quantity, value in quantities:
        values = [value(row) for row in sample]
        shares = _shares(sample, values)
        if shares:
            dealt = random.Random(0).sample(values, len(values))
            chance = max(_shares(sample, dealt).values(), default=0.0)
            top = sorted(shares.items(), key=lambda item: -item[1])[:_SHOWN]
            found.append(Importance(quantity=quantity, shares=tuple(top), networks=len(sample), by_chance=chance))
    return tuple(found)


def _shares(rows: Sequence[TrialRow], values: Sequence[float]) -> dict[str, float]:
    """The share of each choice that was made in more than one way, which sum to 1; empty where all values are equal."""
    if len(set(values)) < 2:
        return {}
    names = set.intersection(*(set(row.genotype) for row in rows))
    spaces: dict[str, BaseDistribution] = {}
    for name in sorted(names):
        choices = sorted({row.genotype[name] for row in rows}, key=str)
        if len(choices) > 1:
            spaces[name] = CategoricalDistribution(choices)
    if not spaces:
        return {}
    study = optuna.create_study(storage=optuna.storages.InMemoryStorage())
    study.add_trials(
        create_trial(params={name: row.genotype[name] for name in spaces}, distributions=spaces, value=value)
        for row, value in zip(rows, values, strict=True)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(n_trees=_TREES, seed=0))
    return {name: float(share) for name, share in found.items()}
