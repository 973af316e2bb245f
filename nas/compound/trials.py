"""What a grid writes into Optuna's study, and reads back: rounds, trainings by network and seed, accuracies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from nas.compound.entries import Entries, Entry
from nas.study.rows import Outcome

LABEL: Final = "network"
_ROUNDS: Final = "nas:rounds"
_MOST_SEEDS: Final = 10_000

Training = tuple[str, int]  # a network's label and the number of the seed


def planned(study: optuna.Study) -> list[tuple[str, ...]]:
    """The rounds so far, each as the labels that it trains."""
    return [tuple(labels) for labels in study.user_attrs.get(_ROUNDS, ())]


def plan_round(study: optuna.Study, labels: Sequence[str]) -> None:
    """Write down one more round before its trainings are queued: a kill in between loses nothing."""
    study.set_user_attr(_ROUNDS, [*map(list, planned(study)), list(labels)])


def queue_missing(study: optuna.Study, entries: Entries) -> int:
    """Queue the trainings of planned rounds that the study does not hold yet; how many there were."""
    held = {training_of(trial) for trial in study.get_trials(deepcopy=False)}
    missing = [
        (label, seed) for seed, labels in enumerate(planned(study)) for label in labels if (label, seed) not in held
    ]
    known = entries.by_label
    for label, seed in missing:
        parameters = {**known[label].parameters, "seed": seed}
        study.enqueue_trial(parameters, user_attrs={LABEL: label, "seed": seed})
    return len(missing)


def take(study: optuna.Study, entries: Entries) -> Trial | None:
    """The next queued training, now this worker's; None if none is waiting."""
    for waiting in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        # Another worker may have been faster; the storage says so. ``Study.ask`` would draw a trial of its own then.
        if study._storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING):
            trial = Trial(study, waiting._trial_id)
            _suggest(trial, entries)
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
    network, proxy = entry.grown, entry.proxy
    facts = {
        "macs_x": network.macs_growth,
        "params_x": network.params_growth,
        "memory_x": network.memory_growth,
        "latency_x": entry.latency_growth,
        "proxy_depth_x": proxy.realised.depth,
        "proxy_width_x": proxy.realised.width,
        "proxy_resolution_px": proxy.arch.resolution_px,
        "proxy_macs_x": proxy.macs_growth,
    }
    for name, value in facts.items():
        trial.set_user_attr(name, round(value, 6))


def _suggest(trial: Trial, entries: Entries) -> None:
    """Let Optuna read the queued values, as numbers that dashboards can plot."""
    networks = entries.by_label.values()
    for name in ("alpha", "beta", "gamma"):
        most = max(entry.parameters[name] for entry in networks)
        trial.suggest_float(name, 1.0, max(2.0, float(math.ceil(most))))
    trial.suggest_int("seed", 0, _MOST_SEEDS)
