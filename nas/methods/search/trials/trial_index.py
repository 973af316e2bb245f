"""Incremental index of a study's trials for one worker.

Each finished trial is read once: it never changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas.study.trial_attributes import ROLE, is_abandoned, is_counted, is_final
from nas.study.trial_record import Outcome, Role

_TRIED: Final = (Outcome.TRAINED, Outcome.SCORED, Outcome.STOPPED)


@dataclass(slots=True)
class TrialIndex:
    """Index of the trials of one study as of the last ``read``.

    A ``read`` takes time proportional to the trials that are new or open.

    ``total``: number of all trials; ``finished``: of those of the search that count; ``interrupted``: of those
    abandoned before they started; ``final``: of final trainings. ``open``: queued or running trials, by number.
    ``tried``: the first trial of each network that was trained, scored or stopped early, by the network's id;
    ``trained``: of those that were trained. ``anchors``: trials trained to the end as anchors.
    """

    total: int = 0
    finished: int = 0
    interrupted: int = 0
    final: int = 0
    open: dict[int, FrozenTrial] = field(default_factory=dict)
    tried: dict[str, FrozenTrial] = field(default_factory=dict)
    trained: dict[str, FrozenTrial] = field(default_factory=dict)
    anchors: list[FrozenTrial] = field(default_factory=list)

    def read(self, study: optuna.Study) -> None:
        """Update the index with the changes in ``study`` since the last call."""
        trials = study.get_trials(deepcopy=False)  # the number of a trial is its place
        for number in [*self.open, *range(self.total, len(trials))]:
            self.open[number] = trials[number]
            if trials[number].state.is_finished():
                self._enter(self.open.pop(number))
        self.total = len(trials)

    def running(self) -> list[FrozenTrial]:
        """Running trials of all workers."""
        return [trial for trial in self.open.values() if trial.state is TrialState.RUNNING]

    def running_anchors(self) -> list[FrozenTrial]:
        """Running trials of anchors."""
        return [trial for trial in self.running() if trial.user_attrs.get(ROLE) == Role.ANCHOR]

    def _enter(self, trial: FrozenTrial) -> None:
        self.final += is_final(trial)
        self.finished += is_counted(trial) and not is_final(trial)
        outcome = trial.user_attrs.get("outcome")
        self.interrupted += is_abandoned(trial)
        if (trial.user_attrs.get(ROLE), outcome) == (Role.ANCHOR, Outcome.TRAINED):
            self.anchors.append(trial)
        if outcome in _TRIED and trial.state is not TrialState.FAIL:
            _keep_first(self.tried, trial)
        if outcome == Outcome.TRAINED:
            _keep_first(self.trained, trial)


def _keep_first(known: dict[str, FrozenTrial], trial: FrozenTrial) -> None:
    """Enter ``trial`` by its network unless an earlier trial of it is known."""
    arch_id = trial.user_attrs["arch_id"]
    if arch_id not in known or trial.number < known[arch_id].number:
        known[arch_id] = trial
