"""Recovery after a kill: RUNNING trials without a worker are queued again.

A trial that is killed again and again fails.
"""

from __future__ import annotations

from typing import Final

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas.study.config import MAX_RETRIES
from nas.study.storage.optuna_private import storage_of, trial_id
from nas.study.trial_record import Outcome

INTERRUPTED_OUTCOME: Final = "interrupted"
KILLS: Final = "kills"  # user attribute of a trial: how often its worker was killed
_KILLED_AT: Final = "nas:killed_at"  # system attribute of a trial: the last reported epoch at each kill
OUT_OF_MEMORY: Final = "out of memory? Fewer engine.workers, or a lower proxy.batch_size, need less"


def recover_trials(study: optuna.Study, *, max_retries: int = MAX_RETRIES) -> int:
    """Queue the RUNNING trials of killed workers again; returns their number.

    Call it with the study acquired.
    """
    stale = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    for trial in stale:
        recover_killed_trial(study, trial, max_retries=max_retries)
    return len(stale)


def recover_killed_trial(study: optuna.Study, trial: FrozenTrial, *, max_retries: int) -> None:
    """Queue a trial again whose worker was killed.

    A trial that this happens to more than ``max_retries`` times without an epoch more in between (out of memory, as a
    rule) fails instead: queued again and again it would stop the study for ever.
    """
    epoch = trial.last_step or 0
    killed_at = [*trial.system_attrs.get(_KILLED_AT, ()), epoch]
    storage_of(study).set_trial_system_attr(trial_id(trial), _KILLED_AT, killed_at)
    storage_of(study).set_trial_user_attr(trial_id(trial), KILLS, len(killed_at))
    in_vain = killed_at.count(epoch)  # a trial's last epoch never goes down
    if in_vain <= max_retries:
        requeue_trial(study, trial)
    else:
        where = f" after epoch {epoch}" if epoch else ""
        fail_trial(study, trial, f"its worker was killed {in_vain} times{where}; {OUT_OF_MEMORY}")


def requeue_trial(study: optuna.Study, trial: FrozenTrial) -> None:
    """Put an unfinished trial back at the head of the queue.

    It is neither lost nor counted.

    It keeps its number and its genotype: whatever comes after it is as if it had never been interrupted. A trial that
    was interrupted before its genotype was complete is abandoned; its successor draws the same genotype again.
    """
    if "arch_id" in trial.user_attrs or "fixed_params" in trial.system_attrs:
        storage_of(study).set_trial_state_values(trial_id(trial), TrialState.WAITING)
    else:
        fail_trial(study, trial, "abandoned before its network was known", outcome=INTERRUPTED_OUTCOME)


def fail_trial(study: optuna.Study, trial: FrozenTrial, reason: str, *, outcome: str = Outcome.FAILED) -> None:
    """End an unfinished trial without a result.

    Trials of ``INTERRUPTED_OUTCOME`` do not count as trials of the study.
    """
    storage_of(study).set_trial_user_attr(trial_id(trial), "outcome", str(outcome))
    storage_of(study).set_trial_user_attr(trial_id(trial), "reason", reason)
    storage_of(study).set_trial_state_values(trial_id(trial), TrialState.FAIL)
