"""Importance of choices by fANOVA (Hutter et al., 2014), with a permuted baseline."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import create_trial

from nas.study.trial_record import TrialRecord, searched_networks

MIN_TRIALS: Final = 30
_MAX_TRIALS: Final = 256  # 0.5 CPU-s per quantity with a hundred choices
_TREES: Final = 16
_MAX_SHARES: Final = 8
_QUANTITIES: Final[Mapping[str, Callable[[TrialRecord], float]]] = {
    "accuracy": lambda row: row.ranked_accuracy or 0.0,
    "latency": lambda row: row.latency_ms or 0.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """Shares of the variance of a quantity explained by single choices.

    ``shares``: (choice, share in [0, 1]), the largest first. ``networks``: sample size. ``by_chance``: the largest
    share of any choice after a random permutation of the values; shares up to it are not significant.
    """

    quantity: str
    shares: tuple[tuple[str, float], ...]
    networks: int
    by_chance: float


def importances(rows: Sequence[TrialRecord]) -> tuple[Importance, ...]:
    """Compute choice importances for accuracy and latency.

    Empty with fewer than ``MIN_TRIALS`` trained or scored networks; a quantity without variance is omitted. Of more
    than 256 networks an evenly spaced sample is used. fANOVA measures explained variance, not the direction of an
    effect.
    """
    trained = searched_networks(rows)
    if len(trained) < MIN_TRIALS:
        return ()
    step = max(1.0, len(trained) / _MAX_TRIALS)
    sample = [trained[int(index * step)] for index in range(min(len(trained), _MAX_TRIALS))]
    study = _as_study(sample)
    results = []
    for quantity, get_value in _QUANTITIES.items():
        values = [get_value(row) for row in sample]
        shares = _shares(study, values)
        if shares:
            by_chance = _shares(study, random.Random(0).sample(values, len(values)))
            top = sorted(shares.items(), key=lambda item: -item[1])[:_MAX_SHARES]
            results.append(
                Importance(
                    quantity=quantity,
                    shares=tuple(top),
                    networks=len(sample),
                    by_chance=max(by_chance.values(), default=0.0),
                )
            )
    return tuple(results)


def _as_study(rows: Sequence[TrialRecord]) -> optuna.Study:
    """Create an in-memory study of the choices with more than one value in ``rows``.

    Its objective values are placeholders.
    """
    names = set.intersection(*(set(row.genotype) for row in rows))
    values = {name: sorted({row.genotype[name] for row in rows}, key=str) for name in sorted(names)}
    spaces: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(choices) for name, choices in values.items() if len(choices) > 1
    }
    study = optuna.create_study(storage=optuna.storages.InMemoryStorage())
    study.add_trials(
        create_trial(params={name: row.genotype[name] for name in spaces}, distributions=spaces, value=0.0)
        for row in rows
    )
    return study


def _shares(study: optuna.Study, values: Sequence[float]) -> dict[str, float]:
    """Return each choice's share of the variance of ``values``; shares sum to 1.

    ``values`` are by trial number. Empty if all values are equal or no choice varies.
    """
    if len(set(values)) < 2 or not study.trials[0].params:
        return {}
    # These load scikit-learn, a second of CPU, which studies of fewer networks do not need.
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = FanovaImportanceEvaluator(n_trees=_TREES, seed=0)
        shares = get_param_importances(study, evaluator=evaluator, target=lambda trial: values[trial.number])
    return {name: float(share) for name, share in shares.items()}
