"""Finalists of a search: scored candidates that are trained at its end.

They are the best by estimate, and random ones as a check. Each is a trial of its own, queued after the last one of the
search, so that every engine trains it as any other. What is trained stands in one attribute of the study.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import optuna
from optuna.trial import FrozenTrial, Trial

from nas.estimators.settings import EstimatorSettings
from nas.methods.search.settings import StudySettings
from nas.methods.search.trials.gain_stop import gain_stop, wanted_trials
from nas.study.objective import ObjectiveSettings
from nas.study.storage.attributes import set_system_attribute, system_attributes
from nas.study.storage.optuna_private import trial_id
from nas.study.storage.trial_draft import TrialDraft
from nas.study.trial_attributes import (
    ROLE,
    count_searched,
    distributions,
    estimate_attributes,
    is_final,
    score_attributes,
    trial_records,
)
from nas.study.trial_loop import take_queued_trial
from nas.study.trial_record import Outcome, Role, TrialRecord, pareto_front

_PLAN: Final = "nas:finalists"
_SCORED_TRIAL: Final = "scored_trial"  # user attribute: number of the trial that scored the network


class FinalTraining(NamedTuple):
    """A network to be trained after the search, by the trial that scored it."""

    scored_trial: int
    role: Role


class _Plan(NamedTuple):
    searched: int  # ``study.n_trials`` up to which it holds: more than there are in an exhausted space
    trainings: tuple[FinalTraining, ...]


def final_trainings(study: optuna.Study) -> tuple[FinalTraining, ...]:
    """The planned final trainings of ``study``; empty before its search has ended."""
    return _read(study).trainings


def most_trials(study: optuna.Study, estimator: EstimatorSettings, settings: StudySettings) -> int:
    """Trials of a complete study: those of the search, and the final trainings.

    An upper bound until the search has ended.
    """
    known, n_trials = final_trainings(study), wanted_trials(study, settings)
    if not estimator.is_scoring:
        return n_trials
    if is_planned(study, estimator, n_trials):
        return min(count_searched(study), n_trials) + len(known)
    checks = sum(training.role is Role.CHECK for training in known)
    return n_trials + len(known) + max(estimator.most_final_trainings - checks, 0)


def is_planned(study: optuna.Study, estimator: EstimatorSettings, n_trials: int) -> bool:
    """Whether the final trainings of a search of ``n_trials`` are settled."""
    plan = _read(study)
    return not estimator.is_scoring or plan.searched >= n_trials


def is_search_complete(study: optuna.Study, estimator: EstimatorSettings, settings: StudySettings) -> bool:
    """Whether ``study`` has all trials of its search, and all final trainings.

    An exhausted space ends the search of one that scores, little left to gain that of any.
    """
    n_trials = wanted_trials(study, settings)
    if not estimator.is_scoring:
        return count_searched(study) >= n_trials
    if not is_planned(study, estimator, n_trials):
        return False
    ended = {trial.user_attrs[_SCORED_TRIAL] for trial in _final_trials(study) if trial.state.is_finished()}
    return all(training.scored_trial in ended for training in final_trainings(study))


def early_end_text(
    study: optuna.Study, estimator: EstimatorSettings, settings: StudySettings, objective: ObjectiveSettings
) -> str:
    """Words for a complete search with fewer trials than wanted; empty otherwise."""
    found, n_trials = count_searched(study), settings.n_trials
    if found >= n_trials or not is_search_complete(study, estimator, settings):
        return ""
    if stop := gain_stop(study, settings):
        unit = "to the hypervolume" if objective.kind == "pareto" else "to the reward"
        size = f"{100 * stop.gain:.2g}%" if objective.kind == "pareto" else f"{stop.gain:.2g}"
        return (
            f"ended after {found} of {n_trials} candidates: the best network left is expected to add {size} {unit}, "
            f"less than study.stop_when_gain_below {settings.stop_when_gain_below:g}"
        )
    return f"ended after {found} of {n_trials} candidates: the sampler found no further new network within the limits"


def queue_final_trainings(
    study: optuna.Study, estimator: EstimatorSettings, objective: ObjectiveSettings, *, n_trials: int, seed: int
) -> None:
    """Plan the final trainings of a search that has ended, and queue those missing.

    Call it when no trial of the search is running. Two workers that do so at the same time plan the same; a training
    that is queued twice runs once. Those planned before stay planned when the search was extended since.
    """
    has_plan = is_planned(study, estimator, n_trials)
    queued = {trial.user_attrs[_SCORED_TRIAL] for trial in _final_trials(study)}
    if has_plan and queued >= {training.scored_trial for training in final_trainings(study)}:
        return
    rows = trial_records(study)
    if not has_plan:
        trainings = _planned(rows, final_trainings(study), estimator, objective, seed)
        text = [[training.scored_trial, str(training.role)] for training in trainings]
        set_system_attribute(study, _PLAN, {"searched": max(count_searched(study), n_trials), "trainings": text})
    by_number = {row.number: row for row in rows}
    for number, role in final_trainings(study):
        if number not in queued:
            row = by_number[number]
            known = estimate_attributes(row.estimated_accuracy or 0.0, row.estimate_error or 0.0)
            known |= score_attributes(row.scores)
            study.enqueue_trial(dict(row.genotype), user_attrs={ROLE: str(role), _SCORED_TRIAL: number, **known})


def any_scored(study: optuna.Study) -> bool:
    """Whether ``study`` has scored a candidate without training it."""
    return any(trial.user_attrs.get("outcome") == Outcome.SCORED for trial in study.get_trials(deepcopy=False))


def start_final_training(study: optuna.Study, parameters: Any) -> tuple[TrialDraft, Trial] | None:
    """Start the next queued final training for this worker; None if none is queued.

    ``parameters``: of the space.
    """
    study.sampler = optuna.samplers.RandomSampler(seed=0)  # draws nothing: all values are queued
    taken = take_queued_trial(study, is_final)
    if taken is None:
        return None
    draft = TrialDraft(study, taken)
    trial = Trial(draft.study, trial_id(taken))
    for name, distribution in distributions(parameters).items():
        trial.suggest_categorical(name, distribution.choices)
    return draft, trial


def spread_front(rows: Sequence[TrialRecord], objective: ObjectiveSettings, count: int) -> list[TrialRecord]:
    """The ``count`` best scored ``rows``, spread over the Pareto front.

    Where the front has fewer, those of the front without it follow. With a single reward the highest.
    """
    left = [row for row in rows if row.outcome is Outcome.SCORED]
    if objective.kind != "pareto":
        return sorted(left, key=lambda row: (-objective.reward_of(row), row.number))[:count]
    chosen: list[TrialRecord] = []
    while left and len(chosen) < count:
        front = pareto_front(left)
        chosen += _evenly(front, count - len(chosen))
        taken = {row.arch_id for row in front}
        left = [row for row in left if row.arch_id not in taken]
    return chosen


def _evenly(front: Sequence[TrialRecord], count: int) -> list[TrialRecord]:
    """At most ``count`` of ``front`` at even distances, both ends included.

    One alone is the most accurate.
    """
    if len(front) <= count:
        return list(front)
    if count == 1:
        return [front[-1]]
    return [front[round(place * (len(front) - 1) / (count - 1))] for place in range(count)]


def _planned(
    rows: Sequence[TrialRecord],
    known: Sequence[FinalTraining],
    estimator: EstimatorSettings,
    objective: ObjectiveSettings,
    seed: int,
) -> list[FinalTraining]:
    taken = {number for number, _ in known}
    chosen = [row.number for row in spread_front(rows, objective, estimator.finalists) if row.number not in taken]
    finalists = [*known, *(FinalTraining(number, Role.FINALIST) for number in chosen)]
    left = [row.number for row in rows if row.outcome is Outcome.SCORED and row.number not in {*taken, *chosen}]
    wanted = estimator.most_final_trainings - estimator.finalists - sum(role is Role.CHECK for _, role in known)
    drawn = random.Random(seed).sample(left, min(max(wanted, 0), len(left)))
    return [*finalists, *(FinalTraining(number, Role.CHECK) for number in sorted(drawn))]


def _read(study: optuna.Study) -> _Plan:
    stored = system_attributes(study).get(_PLAN, {"searched": 0, "trainings": []})
    trainings = tuple(FinalTraining(number, Role(role)) for number, role in stored["trainings"])
    return _Plan(searched=stored["searched"], trainings=trainings)


def _final_trials(study: optuna.Study) -> list[FrozenTrial]:
    return [trial for trial in study.get_trials(deepcopy=False) if is_final(trial)]
