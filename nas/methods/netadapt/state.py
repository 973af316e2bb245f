"""State of an adaptation in Optuna: steps taken, and trials of the next one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from nas.methods.netadapt.proposals import Change
from nas.study.recovery import KILLS
from nas.study.storage.attributes import set_system_attribute, system_attributes
from nas.study.storage.optuna_private import trial_id
from nas.study.storage.trial_draft import TrialDraft
from nas.study.trial_loop import take_queued_trial

_LABEL: Final = "network"
LOSS: Final = "adaptation_loss"  # names of an evaluation's scores: loss on train images, and the standard error of its
LOSS_ERROR: Final = "adaptation_loss_error"  # difference to that of the parent, over the same images
_STEP: Final = "step"
_PHASE: Final = "phase"
_CHANGES: Final = "changes"  # user attribute, JSON
_TAKEN: Final = "nas:netadapt_steps"  # system attribute of the study: number of the trial kept at each step
_PLANNED: Final = "nas:netadapt_planned"  # step and phase whose trials are queued, and their number


class Phase(StrEnum):
    """What a trial is for: the seed network, the loss of a proposal, or a fine-tuning."""

    SEED = "seed"
    LOSS = "loss"
    FINE_TUNING = "fine-tuning"


class StepTrial(NamedTuple):
    """Where a trial belongs, and what it changes in the network of the step before.

    ``step``: 0 for the seed network. ``label``: the changes in words. No changes: that network itself.
    """

    step: int
    phase: Phase
    changes: tuple[Change, ...]
    label: str


class Planned(NamedTuple):
    """Trials that are queued: of which ``step`` and ``phase``, and how many."""

    step: int
    phase: Phase
    trials: int


def steps_taken(study: optuna.Study) -> list[int]:
    """Number of the trial that each step kept; the first is the seed network's."""
    return list(system_attributes(study).get(_TAKEN, ()))


def record_step(study: optuna.Study, taken: Sequence[int]) -> None:
    """Record the trials kept so far; another worker may have recorded the same."""
    if len(taken) > len(steps_taken(study)):
        set_system_attribute(study, _TAKEN, list(taken))


def planned(study: optuna.Study) -> Planned | None:
    """What is queued or done of the present step; None before the first."""
    found = system_attributes(study).get(_PLANNED)
    return Planned(found[0], Phase(found[1]), found[2]) if found else None


def queue_trials(study: optuna.Study, trials: Sequence[StepTrial]) -> None:
    """Queue those of a step's ``trials`` that are missing.

    How many there are is recorded first: a kill in between loses nothing, and two workers queue at worst the same trial
    twice.
    """
    first = trials[0]
    plan = Planned(first.step, first.phase, len(trials))
    if planned(study) != plan:
        set_system_attribute(study, _PLANNED, [plan.step, str(plan.phase), plan.trials])
    known = {step_trial(trial) for trial in study.get_trials(deepcopy=False)}
    for one in trials:
        if one not in known:
            _enqueue(study, one)


def retry_failed(study: optuna.Study) -> None:
    """Queue the failed trials of the present step and phase again, each once.

    Their reason, such as a full disk, may be gone. Not those whose worker was killed too often: a study without them
    goes on.
    """
    plan = planned(study)
    if plan is None or plan.step < len(steps_taken(study)):
        return
    trials = trials_at(study, plan.step, plan.phase)
    others = {step_trial(trial) for trial in trials if trial.state is not TrialState.FAIL or KILLS in trial.user_attrs}
    for one in dict.fromkeys(map(step_trial, trials)):
        if one not in others:
            _enqueue(study, one)


def _enqueue(study: optuna.Study, one: StepTrial) -> None:
    attributes = {_STEP: one.step, _PHASE: str(one.phase), _LABEL: one.label, _CHANGES: json.dumps(one.changes)}
    study.enqueue_trial({_STEP: one.step, _PHASE: str(one.phase)}, user_attrs=attributes)


def step_trial(trial: FrozenTrial | Trial) -> StepTrial:
    """Where ``trial`` belongs."""
    known: dict[str, Any] = trial.user_attrs
    changes = tuple(Change(*one) for one in json.loads(known[_CHANGES]))
    return StepTrial(known[_STEP], Phase(known[_PHASE]), changes, known[_LABEL])


def trials_at(study: optuna.Study, step: int, phase: Phase) -> list[FrozenTrial]:
    """Trials of ``step`` and ``phase`` in the order of their numbers."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.user_attrs.get(_STEP) == step and trial.user_attrs.get(_PHASE) == phase
    ]


def start_queued_trial(study: optuna.Study, most_steps: int) -> tuple[TrialDraft, Trial] | None:
    """Start the next queued trial for this worker; None if none is queued.

    What is written into it waits for the draft to be stored. ``most_steps``: upper end of the steps' range in
    dashboards.
    """
    taken = take_queued_trial(study)
    if taken is None:
        return None
    draft = TrialDraft(study, taken)
    trial = Trial(draft.study, trial_id(taken))
    trial.suggest_int(_STEP, 0, max(most_steps, taken.user_attrs[_STEP]))
    trial.suggest_categorical(_PHASE, [str(phase) for phase in Phase])
    return draft, trial


def step_labels(study: optuna.Study) -> dict[int, tuple[int, str]]:
    """Step and label of each trial, by trial number."""
    attributes = {trial.number: trial.user_attrs for trial in study.get_trials(deepcopy=False)}
    return {number: (known[_STEP], known[_LABEL]) for number, known in attributes.items()}
