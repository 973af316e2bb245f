"""Incremental index of a study's trials for one worker.

Each finished trial is read once: it never changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas.study.trial_attributes import is_abandoned, is_counted
from nas.study.trial_record import Outcome


@dataclass(slots=True)
class TrialIndex:
    """Index of the trials of one study as of the last ``read``.

    A ``read`` takes time proportional to the trials that are new or open.

    ``total``: number of all trials; ``finished``: of those that count; ``interrupted``: of those abandoned before they
    started. ``open``: queued or running trials, by number. ``tried``: the first trial of each network that was trained
    or stopped early, by the network's id.
    """

    total: int = 0
    finished: int = 0
    interrupted: int = 0
    open: dict[int, FrozenTrial] = field(default_factory=dict)
    tried: dict[str, FrozenTrial] = field(default_factory=dict)

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

    def _enter(self, trial: FrozenTrial) -> None:
        self.finished += is_counted(trial)
        outcome = trial.user_attrs.get("outcome")
        self.interrupted += is_abandoned(trial)
        if outcome in (Outcome.TRAINED, Outcome.STOPPED) and trial.state is not TrialState.FAIL:
            arch_id = trial.user_attrs["arch_id"]
            known = self.tried.get(arch_id)
            if known is None or trial.number < known.number:
                self.tried[arch_id] = trial
