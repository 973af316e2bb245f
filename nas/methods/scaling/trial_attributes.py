"""Attributes of a scaling study in Optuna: rule, rounds, labels, seeds, scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Final

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from nas.methods.scaling.design.entries import Design, DesignEntry
from nas.methods.scaling.ranking.race_rule import RaceRule
from nas.methods.scaling.ranking.rounds import SeededTraining, comparison_scores
from nas.study.storage.attributes import set_system_attribute, system_attributes
from nas.study.storage.optuna_private import storage_of, trial_id
from nas.study.trial_loop import take_queued_trial
from nas.study.trial_record import Outcome
from nas.training.results import EpochResult

LABEL_ATTRIBUTE: Final = "network"
_ROUNDS: Final = "nas:rounds"
_TAKEN: Final = "nas:taken"
_RULE: Final = "nas:race"
_VAL_LOSS: Final = "nas:val_loss:"  # system attribute of a trial, with the number of one of its last epochs
_DEFAULT_MAX_SEED: Final = 9  # upper end of the seeds' range; a larger seed extends it


def race_rule(study: optuna.Study) -> RaceRule:
    """Rule that ``study`` began with; that of version 0.1 if it stores none."""
    return RaceRule(**system_attributes(study).get(_RULE, {}))


def record_race_rule(study: optuna.Study, rule: RaceRule) -> None:
    """Record the rule of a study that begins."""
    set_system_attribute(study, _RULE, asdict(rule))


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


def are_rounds_trained(study: optuna.Study) -> bool:
    """Whether all trainings of the rounds planned so far have ended."""
    trials = study.get_trials(deepcopy=False)
    planned = {training for trainings in planned_rounds(study) for training in trainings}
    return all(trial.state.is_finished() for trial in trials) and planned <= {training_of(trial) for trial in trials}


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
    taken = take_queued_trial(study)
    if taken is None:
        return None
    trial = Trial(study, trial_id(taken))
    # Suggest the queued values, so that Optuna records them as numbers that dashboards can plot.
    for name, value in taken.system_attrs["fixed_params"].items():
        if name == "seed":
            trial.suggest_int(name, 0, max(_DEFAULT_MAX_SEED, value))
        else:
            low, high = known.get(name, (value, value))
            trial.suggest_float(name, min(low, value), max(high, value))
    return trial


def training_of(trial: FrozenTrial | Trial) -> SeededTraining:
    """Network label and seed of a trial."""
    return trial.user_attrs[LABEL_ATTRIBUTE], trial.user_attrs["seed"]


def labels_by_number(study: optuna.Study) -> dict[int, str]:
    """Network label of each trial, by trial number."""
    return {trial.number: trial.user_attrs[LABEL_ATTRIBUTE] for trial in study.get_trials(deepcopy=False)}


def accuracies_of(study: optuna.Study) -> dict[str, tuple[float, ...]]:
    """Accuracies in [0, 1] of all finished trainings by network, in seed order.

    That of a training is its mean over the last epochs of the study's rule.
    """
    return _by_network(study, lambda trial: trial.value)


def val_losses_of(study: optuna.Study) -> dict[str, tuple[float, ...]]:
    """Validation losses in nats of the finished trainings, as ``accuracies_of``.

    Trainings by version 0.1 have none.
    """
    return _by_network(study, _val_loss)


def scores_of(study: optuna.Study) -> dict[str, tuple[float, ...]]:
    """What the networks are compared by, the higher the better.

    Accuracies, or validation losses with a minus sign, as the study's rule says.
    """
    return comparison_scores(accuracies_of(study), val_losses_of(study), race_rule(study))


def record_val_loss(study: optuna.Study, trial_id: int, result: EpochResult) -> None:
    """Record the validation loss of one of a training's last epochs."""
    storage_of(study).set_trial_system_attr(trial_id, f"{_VAL_LOSS}{result.epoch}", result.val_loss)


def mean_accuracy(trial: FrozenTrial, last_epochs: int, accuracy: float) -> float:
    """Mean accuracy over the last epochs of a training, the last of ``accuracy``."""
    earlier = [value for _, value in sorted(trial.intermediate_values.items())][-last_epochs:-1]
    return fmean([*earlier, accuracy])


def _by_network(study: optuna.Study, score: Callable[[FrozenTrial], float | None]) -> dict[str, tuple[float, ...]]:
    found: dict[str, dict[int, float]] = {}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        value = score(trial) if trial.user_attrs.get("outcome") == Outcome.TRAINED else None
        if value is not None:
            label, seed = training_of(trial)
            found.setdefault(label, {})[seed] = value
    return {label: tuple(values[seed] for seed in sorted(values)) for label, values in found.items()}


def _val_loss(trial: FrozenTrial) -> float | None:
    losses = [value for name, value in trial.system_attrs.items() if name.startswith(_VAL_LOSS)]
    return fmean(losses) if losses else None


def record_growth(trial: Trial, entry: DesignEntry) -> None:
    """Record realised growth of network and proxy as scalars for dashboards."""
    for name, value in entry.growths.items():
        trial.set_user_attr(name, round(value, 6))
