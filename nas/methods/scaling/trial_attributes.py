"""What a grid writes into Optuna's study, and reads back: rounds, trainings by network and seed, accuracies."""

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
_USUAL_SEEDS: Final = 9  # more may be asked for


def planned_rounds(study: optuna.Study) -> list[tuple[SeededTraining, ...]]:
    """The rounds so far."""
    rounds = system_attributes(study).get(_ROUNDS, ())
    return [tuple((label, seed) for label, seed in trainings) for trainings in rounds]


def plan_round(
    study: optuna.Study, before: Sequence[Sequence[SeededTraining]], trainings: Sequence[SeededTraining]
) -> None:
    """Write down the round after ``before``, before it is queued: a kill in between loses nothing."""
    if len(planned_rounds(study)) == len(before):  # else another worker went on meanwhile
        set_system_attribute(study, _ROUNDS, [list(map(list, one)) for one in (*before, trainings)])


def taken_axes(study: optuna.Study) -> tuple[str, ...]:
    """The axes that the steps of stepwise expansion took so far."""
    return tuple(system_attributes(study).get(_TAKEN, ()))


def take_axes(study: optuna.Study, axes: Sequence[str]) -> None:
    """Write down that stepwise expansion took ``axes``: what comes after must not depend on later seeds."""
    if len(axes) > len(taken_axes(study)):  # else another worker went on meanwhile
        set_system_attribute(study, _TAKEN, list(axes))


def queue_missing(study: optuna.Study, entries: Design) -> int:
    """Queue the trainings of planned rounds that the study does not hold yet; how many there were."""
    held = {training_of(trial) for trial in study.get_trials(deepcopy=False)}
    missing = [training for trainings in planned_rounds(study) for training in trainings if training not in held]
    known = entries.by_label
    for label, seed in missing:
        parameters = {**known[label].parameters, "seed": seed}
        study.enqueue_trial(parameters, user_attrs={LABEL_ATTRIBUTE: label, "seed": seed})
    return len(missing)


def ranges(first: Design) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of each parameter, by the ``first`` networks of a study.

    They are the axes of a dashboard's plots, and the same for all trials, or it leaves the parameter out.
    """
    every = [entry.parameters for entry in first.by_label.values()]
    names = dict.fromkeys(name for one in every for name in one)
    # Each step of stepwise expansion doubles the cost, which is depth's growth, and rounding may make it more.
    reached = 2.0 ** (2 + first.further) if first.undecided else 1.0
    return {name: (min(one[name] for one in every), max(reached, *(one[name] for one in every))) for name in names}


def start_next_queued(study: optuna.Study, known: Mapping[str, tuple[float, float]]) -> Trial | None:
    """The next queued training, now this worker's; None if none is waiting. ``known``: ``ranges`` of the parameters."""
    for waiting in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        # Another worker may have been faster; the storage says so. ``Study.ask`` would draw a trial of its own then.
        if storage_of(study).set_trial_state_values(trial_id(waiting), TrialState.RUNNING):
            trial = Trial(study, trial_id(waiting))
            # Optuna is to read the queued values, as numbers that dashboards can plot.
            for name, value in waiting.system_attrs["fixed_params"].items():
                if name == "seed":
                    trial.suggest_int(name, 0, max(_USUAL_SEEDS, value))
                else:
                    low, high = known.get(name, (value, value))
                    trial.suggest_float(name, min(low, value), max(high, value))
            return trial
    return None


def training_of(trial: FrozenTrial | Trial) -> SeededTraining:
    """Which network a trial trains, and with which seed."""
    return trial.user_attrs[LABEL_ATTRIBUTE], trial.user_attrs["seed"]


def labels_by_number(study: optuna.Study) -> dict[int, str]:
    """Which network each trial trains, by the trial's number."""
    return {trial.number: trial.user_attrs[LABEL_ATTRIBUTE] for trial in study.get_trials(deepcopy=False)}


def accuracies_of(study: optuna.Study) -> dict[str, tuple[float, ...]]:
    """Accuracies of all trainings that came to their end, by network, in the order of their seeds."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    found: dict[str, dict[int, float]] = {}
    for trial in trials:
        if trial.user_attrs.get("outcome") == Outcome.TRAINED:
            label, seed = training_of(trial)
            found.setdefault(label, {})[seed] = trial.user_attrs["accuracy"]
    return {label: tuple(values[seed] for seed in sorted(values)) for label, values in found.items()}


def record_growth(trial: Trial, entry: DesignEntry) -> None:
    """Write down what a network and its proxy really are beside the baseline's, as scalars that dashboards show."""
    for name, value in entry.growths.items():
        trial.set_user_attr(name, round(value, 6))
