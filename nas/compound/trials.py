"""What a grid writes into Optuna's study, and reads back: rounds, trainings by network and seed, accuracies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from nas.compound.entries import Entries, Entry
from nas.compound.rounds import Training
from nas.compound.settings import MOST_FACTOR
from nas.study.rows import Outcome

LABEL: Final = "network"
_ROUNDS: Final = "nas:rounds"
_TAKEN: Final = "nas:taken"
_MOST_SEEDS: Final = 10_000


def planned(study: optuna.Study) -> list[tuple[Training, ...]]:
    """The rounds so far."""
    rounds = study.user_attrs.get(_ROUNDS, ())
    return [tuple((label, seed) for label, seed in trainings) for trainings in rounds]


def plan_round(study: optuna.Study, before: Sequence[Sequence[Training]], trainings: Sequence[Training]) -> None:
    """Write down the round after ``before``, before it is queued: a kill in between loses nothing."""
    if len(planned(study)) == len(before):  # else another worker went on meanwhile
        study.set_user_attr(_ROUNDS, [list(map(list, one)) for one in (*before, trainings)])


def taken(study: optuna.Study) -> tuple[str, ...]:
    """The axes that the steps of stepwise expansion took so far."""
    return tuple(study.user_attrs.get(_TAKEN, ()))


def take_axes(study: optuna.Study, axes: Sequence[str]) -> None:
    """Write down that stepwise expansion took ``axes``: what comes after must not depend on later seeds."""
    if len(axes) > len(taken(study)):  # else another worker went on meanwhile
        study.set_user_attr(_TAKEN, list(axes))


def queue_missing(study: optuna.Study, entries: Entries) -> int:
    """Queue the trainings of planned rounds that the study does not hold yet; how many there were."""
    held = {training_of(trial) for trial in study.get_trials(deepcopy=False)}
    missing = [training for trainings in planned(study) for training in trainings if training not in held]
    known = entries.by_label
    for label, seed in missing:
        parameters = {**known[label].parameters, "seed": seed}
        study.enqueue_trial(parameters, user_attrs={LABEL: label, "seed": seed})
    return len(missing)


def take(study: optuna.Study) -> Trial | None:
    """The next queued training, now this worker's; None if none is waiting."""
    for waiting in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        # Another worker may have been faster; the storage says so. ``Study.ask`` would draw a trial of its own then.
        if study._storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING):
            trial = Trial(study, waiting._trial_id)
            # Optuna is to read the queued values, as numbers that dashboards can plot.
            for name in waiting.system_attrs["fixed_params"]:
                if name == "seed":
                    trial.suggest_int(name, 0, _MOST_SEEDS)
                else:
                    trial.suggest_float(name, 0.0, MOST_FACTOR)
            return trial
    return None


def training_of(trial: FrozenTrial | Trial) -> Training:
    """Which network a trial trains, and with which seed."""
    return trial.user_attrs[LABEL], trial.user_attrs["seed"]


def accuracies_of(study: optuna.Study) -> dict[str, tuple[float, ...]]:
    """Accuracies of all trainings that came to their end, by network, in the order of their seeds."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    found: dict[str, dict[int, float]] = {}
    for trial in trials:
        if trial.user_attrs.get("outcome") == Outcome.TRAINED:
            label, seed = training_of(trial)
            found.setdefault(label, {})[seed] = trial.user_attrs["accuracy"]
    return {label: tuple(values[seed] for seed in sorted(values)) for label, values in found.items()}


def record_growth(trial: Trial, entry: Entry) -> None:
    """Write down what a network and its proxy really are beside the baseline's, as scalars that dashboards show."""
    for name, value in entry.growths.items():
        trial.set_user_attr(name, round(value, 6))
