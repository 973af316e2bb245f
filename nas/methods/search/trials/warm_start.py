"""Warm start: networks of earlier studies, as initial trials or as evaluations.

The best ones as initial trials, which, trained longer, validate the earlier study's proxy. All evaluated ones as
evaluations that a sampler learns from; these are not trained again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, Final

import optuna

from nas.core.errors import NasError, quoted
from nas.methods.search.config import SearchPlan
from nas.methods.search.trials.evaluations import (
    ACCURACY_DIGITS,
    ESTIMATED_MARK,
    EvaluationList,
    PriorEvaluation,
    estimated_note,
)
from nas.methods.search.trials.network_encoding import NetworkEncoder, NotInSpaceError
from nas.study.catalog import load_study
from nas.study.objective import ObjectiveSettings
from nas.study.storage.attributes import system_attributes
from nas.study.storage.opening import stored_identity, study_identity
from nas.study.storage.optuna_private import storage_of
from nas.study.trial_attributes import trial_records
from nas.study.trial_record import Outcome, TrialRecord, pareto_front, ranked_networks

Encode = Callable[[Mapping[str, Any]], dict[str, Any]]
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


def earlier_evaluations(plan: SearchPlan, name: str) -> EvaluationList:
    """Evaluations by the study ``name``, which is in the storage of ``plan``.

    Of networks that it trained, and of those that it scored as far as it estimated their accuracy. Networks that are
    not in the space of ``plan`` are left out.

    Raises: NasError for a study that is not there, of another space, or without such networks.
    """
    where = f"study.learn_from {name!r}"
    try:
        study = load_study(plan.storage_url, name)
    except NasError as error:
        raise NasError(f"study.learn_from: {error}") from None
    with closing(storage_of(study)):
        rows = [row for row in trial_records(study) if row.outcome in (Outcome.TRAINED, Outcome.SCORED)]
        encode = _encoding(study, plan, where)
    rows = [row for row in rows if row.ranked_accuracy is not None]
    if not rows:
        raise NasError(f"{where}: has no evaluated network yet; run it first, or leave it out.")
    evaluations: list[PriorEvaluation] = []
    refusals: list[NotInSpaceError] = []
    for row in rows:
        try:
            evaluations.append(_evaluation(row, encode(row.genotype), name))
        except NotInSpaceError as error:
            refusals.append(error)
        except NasError as error:
            raise NasError(f"{where}: trial {row.number}: {error}") from None
    if not evaluations:
        raise NasError(
            f"{where}: none of its {len(rows):,} networks is in space {plan.space.name!r}; leave it out, or widen the "
            f"space. The first: {refusals[0]}"
        )
    left_out = f"{len(refusals):,} left out, which are not in space {plan.space.name}" if refusals else ""
    notes = (note for note in (estimated_note(evaluations), left_out) if note)
    return EvaluationList(f"study {name}", tuple(evaluations), ", ".join(notes))


def _evaluation(row: TrialRecord, genotype: Mapping[str, Any], source: str) -> PriorEvaluation:
    accuracy, error = row.ranked_accuracy, row.ranked_error
    return PriorEvaluation(
        genotype=genotype,
        accuracy=round(accuracy or 0.0, ACCURACY_DIGITS),
        source=source if row.outcome is Outcome.TRAINED else source + ESTIMATED_MARK,
        standard_error=None if error is None else round(error, ACCURACY_DIGITS),
    )


def _encoding(study: optuna.Study, plan: SearchPlan, where: str) -> Encode:
    """A function from genotypes of ``study`` to genotypes in the space of ``plan``.

    Raises: NasError where the study has no space, or one of another class.
    """
    identity = study_identity(system_attributes(study))
    config = {key.removeprefix("space."): value for key, value in identity.items() if key.startswith("space.")}
    if not config:
        raise NasError(f"{where}: is not a search; give studies of nas.search.")
    encoder, own = NetworkEncoder(plan.space), dict(plan.space_config)
    if config == stored_identity(own):
        return encoder.of_choices
    if config.get("_target_") != own.get("_target_"):
        raise NasError(
            f"{where}: is of space {config.get('name')!r} ({config.get('_target_')}), this search of "
            f"{plan.space.name!r} ({own.get('_target_')}); give studies of the same space."
        )
    try:
        earlier = type(plan.space)(**{key: value for key, value in config.items() if not key.startswith("_")})
    except (NasError, TypeError) as error:
        raise NasError(f"{where}: its space cannot be read by this version: {error}") from None
    return lambda genotype: encoder.of_spec(earlier.decode(genotype))
