"""Which choices of a space mattered: fANOVA (Hutter et al., 2014) on what was trained, beside what chance gives."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import create_trial

from nas.study.trial_record import TrialRecord, trained_networks

LEAST_TRIALS: Final = 30
_MOST_TRIALS: Final = 256  # half a second of CPU for each quantity at a hundred choices
_TREES: Final = 16
_SHOWN: Final = 8
_QUANTITIES: Final[Mapping[str, Callable[[TrialRecord], float]]] = {
    "accuracy": lambda row: row.accuracy or 0.0,
    "latency": lambda row: row.latency_ms or 0.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """Shares of the variance of ``quantity`` among ``networks`` that single choices explain, the largest first.

    ``by_chance``: the largest share that a choice got when the values were dealt out to the networks anew.
    """

    quantity: str
    shares: tuple[tuple[str, float], ...]
    networks: int
    by_chance: float


def importances(rows: Sequence[TrialRecord]) -> tuple[Importance, ...]:
    """Importance for the accuracy and for the latency; empty with fewer than ``LEAST_TRIALS`` trained networks.

    Of more than 256 networks an even sample is taken. fANOVA asks how much a value varies, not which way is better.
    """
    trained = trained_networks(rows)
    if len(trained) < LEAST_TRIALS:
        return ()
    step = max(1.0, len(trained) / _MOST_TRIALS)
    sample = [trained[int(place * step)] for place in range(min(len(trained), _MOST_TRIALS))]
    study = _study_of(sample)
    found = []
    for quantity, value in _QUANTITIES.items():
        values = [value(row) for row in sample]
        shares = _shares(study, values)
        if shares:
            by_chance = _shares(study, random.Random(0).sample(values, len(values)))
            top = sorted(shares.items(), key=lambda item: -item[1])[:_SHOWN]
            found.append(
                Importance(
                    quantity=quantity,
                    shares=tuple(top),
                    networks=len(sample),
                    by_chance=max(by_chance.values(), default=0.0),
                )
            )
    return tuple(found)


def _study_of(rows: Sequence[TrialRecord]) -> optuna.Study:
    """A study in memory of the choices that were made in more than one way; its values mean nothing."""
    names = set.intersection(*(set(row.genotype) for row in rows))
    made = {name: sorted({row.genotype[name] for row in rows}, key=str) for name in sorted(names)}
    spaces: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(choices) for name, choices in made.items() if len(choices) > 1
    }
    study = optuna.create_study(storage=optuna.storages.InMemoryStorage())
    study.add_trials(
        create_trial(params={name: row.genotype[name] for name in spaces}, distributions=spaces, value=0.0)
        for row in rows
    )
    return study


def _shares(study: optuna.Study, values: Sequence[float]) -> dict[str, float]:
    """The share of each choice, which sum to 1, in the variance of ``values`` by trial; empty where all are equal."""
    if len(set(values)) < 2 or not study.trials[0].params:
        return {}
    # These load scikit-learn, a second of CPU, which studies of fewer networks do not need.
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = FanovaImportanceEvaluator(n_trees=_TREES, seed=0)
        found = get_param_importances(study, evaluator=evaluator, target=lambda trial: values[trial.number])
    return {name: float(share) for name, share in found.items()}
