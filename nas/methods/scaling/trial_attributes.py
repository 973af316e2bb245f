"""Attributes of a scaling study in Optuna: rounds, labels, seeds, accuracies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from nas.methods.scaling.design.entries import Design, DesignEntry
from nas.methods.scaling.ranking.rounds import SeededTraining
from nas.study.storage.attributes import set_system_attribute, system_attributes
from nas.study.storage.optuna_private import storage_of, trial_id
from nas.study.trial_record import Outcome

LABEL_ATTRIBUTE: Final = "network"
_ROUNDS: Final = "nas:rounds"
_TAKEN: Final = "nas:taken"
_DEFAULT_MAX_SEED: Final = 9  # upper end of the seeds' range; a larger seed extends it


def planned_rounds(study: optuna.Study) -> list[tuple[SeededTraining, ...]]:
    """Rounds planned so far."""
    rounds = system_attributes(study).get(_ROUNDS, ())
    return [tuple((label, seed) for label, seed in trainings) for trainings in rounds]


def plan_round(
    study: optuna.Study, before: Sequence[Sequence[SeededTraining]], trainings: Sequence[SeededTraining]
) -> None:
    """Record the round after ``before``.

    It is recorded before it is queued, so that a kill in between loses nothing.
    """
    if len(planned_rounds(study)) == len(before):  # else another worker planned it already
        set_system_attribute(study, _ROUNDS, [list(map(list, one)) for one in (*before, trainings)])


def chosen_axes(study: optuna.Study) -> tuple[str, ...]:
    """Axes chosen so far by the steps of stepwise expansion."""
    return tuple(system_attributes(study).get(_TAKEN, ()))


def record_chosen_axes(study: optuna.Study, axes: Sequence[str]) -> None:
    """Record that stepwise expansion chose ``axes``.

    Later seeds must not change the choice.
    """
    if len(axes) > len(chosen_axes(study)):  # else another worker planned it already
        set_system_attribute(study, _TAKEN, list(axes))


def queue_missing(study: optuna.Study, entries: Design) -> int:
    """Queue planned trainings that the study lacks; their number."""
    existing = {training_of(trial) for trial in study.get_trials(deepcopy=False)}
    missing = [training for trainings in planned_rounds(study) for training in trainings if training not in existing]
    known = entries.by_label
    for label, seed in missing:
        parameters = {**known[label].parameters, "seed": seed}
        study.enqueue_trial(parameters, user_attrs={LABEL_ATTRIBUTE: label, "seed": seed})
    return len(missing)


def ranges(first: Design) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of each parameter, from the ``first`` networks.

    They are the axes of a dashboard's plots, which omits parameters whose range differs between trials.
    """
    every = [entry.parameters for entry in first.by_label.values()]
    names = dict.fromkeys(name for parameters in every for name in parameters)
    # Each step of stepwise expansion doubles the cost, for which depth grows most, by 2; rounding may add to it.
    reached = 2.0 ** (2 + first.further) if first.undecided else 1.0
    return {name: (min(one[name] for one in every), max(reached, *(one[name] for one in every))) for name in names}


def start_next_queued(study: optuna.Study, known: Mapping[str, tuple[float, float]]) -> Trial | None:
    """Start the next queued training for this worker; None if none is queued.

    ``known``: ``ranges`` of the parameters.
    """
    for waiting in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        # False if another worker started it first; ``Study.ask`` would then sample a new trial.
        if storage_of(study).set_trial_state_values(trial_id(waiting), TrialState.RUNNING):
            trial = Trial(study, trial_id(waiting))
            # Suggest the queued values, so that Optuna records them as numbers that dashboards can plot.
            for name, value in waiting.system_attrs["fixed_params"].items():
                if name == "seed":
                    trial.suggest_int(name, 0, max(_DEFAULT_MAX_SEED, value))
                else:
                    low, high = known.get(name, (value, value))
                    trial.suggest_float(name, min(low, value), max(high, value))
            return trial
    return None


def training_of(trial: FrozenTrial | Trial) -> SeededTraining:
    """Network label and seed of a trial."""
    return trial.user_attrs[LABEL_ATTRIBUTE], trial.user_attrs["seed"]


def labels_by_number(study: optuna.Study) -> dict[int, str]:
    """Network label of each trial, by trial number."""
    return {trial.number: trial.user_attrs[LABEL_ATTRIBUTE] for trial in study.get_trials(deepcopy=False)}


def accuracies_of(study: optuna.Study) -> dict[str, tuple[float, ...]]:
    """Accuracies in [0, 1] of all finished trainings by network, in seed order."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    found: dict[str, dict[int, float]] = {}
    for trial in trials:
        if trial.user_attrs.get("outcome") == Outcome.TRAINED:
            label, seed = training_of(trial)
            found.setdefault(label, {})[seed] = trial.user_attrs["accuracy"]
    return {label: tuple(values[seed] for seed in sorted(values)) for label, values in found.items()}


def record_growth(trial: Trial, entry: DesignEntry) -> None:
    """Record realised growth of network and proxy as scalars for dashboards."""
    for name, value in entry.growths.items():
        trial.set_user_attr(name, round(value, 6))
