"""Summary of a model of accuracy that learns from a search's trainings."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from nas.analysis.surrogate import (
    MIN_TRAINED,
    AccuracyModel,
    CrossValidation,
    Evaluated,
    FeatureScale,
    ModelSummary,
    choice_effects,
    expected_front,
    expected_gain,
    network_features,
)
from nas.methods.search.guided.improvement import improvement_by
from nas.methods.search.guided.observations import evenly_spaced
from nas.methods.search.guided.pool import (
    feasible_candidates,
    features_of,
    latencies_ms_of,
    neighbours,
    priced_candidates,
)
from nas.study.candidates import Candidate, Pricer
from nas.study.objective import ObjectiveSettings
from nas.study.trial_record import TrialRecord, pareto_front, trained_networks

_MOST_LEARNED: Final = 1000  # networks: an evenly spaced sample of more
_SAMPLED: Final = 600  # random networks of the space
_CHILDREN: Final = 250  # of the best networks
_PARENTS: Final = 40


def summarize_model(
    rows: Sequence[TrialRecord],
    pricer: Pricer,
    objective: ObjectiveSettings,
    *,
    seed: int,
    has_prices: bool = True,
) -> ModelSummary:
    """Fit a model to the trained ``rows`` of a search, validate and query it.

    The sampler of the search does not matter. The same for the same rows and ``seed``. ``has_prices``: whether the
    latencies of ``pricer`` can be held against those of the rows; if not, nothing is said of a front or a gain.
    """
    trained = list({row.arch_id: row for row in trained_networks(rows)}.values())
    accuracies = np.array([row.accuracy for row in trained])
    if len(trained) < MIN_TRAINED or not np.ptp(accuracies):
        return ModelSummary(networks=len(trained))
    learned = evenly_spaced(trained, _MOST_LEARNED)
    results, macs = [_evaluated(row, pricer) for row in learned], [row.macs_m or 0.0 for row in learned]
    rng = random.Random(f"model {seed}")
    sampled = priced_candidates(pricer, [pricer.space.sample(rng) for _ in range(_SAMPLED)])
    features = features_of(sampled)
    scale = FeatureScale.fit(features)
    model = AccuracyModel.fit(scale, results, noise=None)
    known = ModelSummary(networks=len(learned), validation=CrossValidation.of(model, results, macs))
    if not known.is_ordered:
        return known
    design, latencies_ms = scale.transform(features), latencies_ms_of(sampled)
    effects = choice_effects(model, [one.genotype for one in sampled], design, latencies_ms)
    if not has_prices:
        return replace(known, effects=effects)
    parents = [row.genotype for row in _best(trained, objective)]
    children = feasible_candidates(pricer, neighbours(parents, pricer.space.parameters, _CHILDREN, rng))
    asked = [*sampled, *children]
    places = _untried(asked, pricer, {row.arch_id for row in trained})
    design = np.vstack([design, scale.transform(features_of(children))])[places]
    costs = np.concatenate([latencies_ms, latencies_ms_of(children)])[places]
    found_ms = np.array([row.latency_ms for row in trained])
    improvement = improvement_by(objective, accuracies, found_ms, costs)
    draws = np.random.default_rng([seed, len(trained)])
    return replace(
        known,
        effects=effects,
        front=expected_front(model, design, costs),
        gain=expected_gain(model, design, improvement, rng=draws),
        candidates=len(places),
        is_rewarded=objective.kind != "pareto",
    )


def _evaluated(row: TrialRecord, pricer: Pricer) -> Evaluated:
    return Evaluated(features=network_features(pricer.decode(row.genotype)), accuracy=row.accuracy or 0.0)


def _untried(candidates: Sequence[Candidate], pricer: Pricer, tried: Collection[str]) -> list[int]:
    """Places of feasible ``candidates`` that were not ``tried``, by network."""
    places = {one.arch.arch_id: place for place, one in enumerate(candidates) if pricer.worst(one) <= 0}
    return [place for arch_id, place in places.items() if arch_id not in tried]


def _best(trained: Sequence[TrialRecord], objective: ObjectiveSettings) -> list[TrialRecord]:
    """The best of ``trained``: the Pareto front, then the front without it, and so on."""
    if objective.kind != "pareto":
        return sorted(trained, key=lambda row: (-objective.reward_of(row), row.number))[:_PARENTS]
    best: list[TrialRecord] = []
    left = list(trained)
    while left and len(best) < _PARENTS:
        front = pareto_front(left)
        taken = {row.number for row in front}
        best += front
        left = [row for row in left if row.number not in taken]
    return best[:_PARENTS]
