"""Warm start: the best networks of an earlier study as initial trials.

Trained longer, they validate the earlier study's proxy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, Final

from nas.core.errors import NasError, quoted
from nas.methods.search.config import SearchPlan
from nas.study.catalog import load_study
from nas.study.objective import ObjectiveSettings
from nas.study.storage.optuna_private import storage_of
from nas.study.trial_attributes import trial_records
from nas.study.trial_record import TrialRecord, pareto_front, ranked_networks

_MIN_NETWORKS: Final = 8  # networks needed for a rank correlation


def best_records(rows: Sequence[TrialRecord], objective: ObjectiveSettings) -> list[TrialRecord]:
    """Pareto front of ``rows``, filled up with the best others to eight networks."""
    front = {row.arch_id: row for row in pareto_front(rows)}
    left = [row for row in ranked_networks(rows) if row.arch_id not in front]
    others = sorted(left, key=lambda row: (-objective.score(row), row.number))
    return [*front.values(), *others[: max(0, _MIN_NETWORKS - len(front))]]


def earlier_networks(plan: SearchPlan) -> list[Mapping[str, Any]]:
    """Genotypes of the study that ``study.first`` names; empty where it is null.

    Raises: NasError for a study that is not in the storage of ``plan``, or whose networks are not in its space.
    """
    name = plan.study.first
    if name is None:
        return []
    try:
        study = load_study(plan.storage_url, name)
    except NasError as error:
        raise NasError(f"study.first: {error}") from None
    with closing(storage_of(study)):
        rows = best_records(trial_records(study), plan.objective)
    parameters = plan.space.parameters
    for row in rows:
        for key in {*parameters, *row.genotype}:
            if key not in parameters or row.genotype.get(key) not in parameters[key]:
                raise NasError(
                    f"study.first {name!r}: trial {row.number} has {key} {quoted(row.genotype.get(key))}, "
                    f"which is not in space {plan.space.name!r}; use the space of that study."
                )
    return [row.genotype for row in rows]
