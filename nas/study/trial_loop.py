"""The trial loop: ask for a training, run it, tell its result.

The training itself may run anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final, Protocol

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from nas.arch.spec import ArchSpec
from nas.core.credentials import mask_credentials
from nas.estimators.base import Estimate, Evaluation, Evaluator, ParentNetwork
from nas.study.recovery import requeue_trial
from nas.study.storage.optuna_private import storage_of, trial_id
from nas.study.storage.trial_draft import TrialDraft
from nas.study.trial_attributes import (
    WORKER,
    accuracy_facts,
    class_counts,
    estimate_attributes,
    latency_scale,
    trial_record,
)
from nas.study.trial_record import Outcome, TrialRecord
from nas.training.results import EpochResult

_WAIT_S: Final = 0.5
_LONGEST_REASON: Final = 500
_STOPPED_EARLY: Final = "stopped_early"

OnTrial = Callable[[TrialRecord], None]


class Idle(Enum):
    """Nothing to train: for now, while other workers are busy, or for good."""

    WAIT = "wait"
    OVER = "over"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialTask:
    """What is to be found out about ``arch``, the network of the trial ``number``.

    ``score``: its scores without training. ``train``: its accuracy after training; each ``repeat`` has random draws of
    its own. ``parent``: the network that its weights are carried over from; None draws them.

    Picklable, so that it may be done on another machine than the one that asked.
    """

    number: int
    trial_id: int
    arch: ArchSpec
    repeat: int = 0
    score: bool = False
    train: bool = True
    parent: ParentNetwork | None = None


class AskTell(Protocol):
    """The ask-and-tell interface of a method's study, without the training.

    ``ask`` never blocks for what another worker does.

    Whoever takes a task ends it by ``tell`` or by ``finish_without_result``, or gives it back.
    """

    @property
    def study(self) -> optuna.Study: ...

    def ask(self) -> TrialTask | TrialRecord | Idle:
        """A training to be run, or a trial that ended without one.

        Raises: NasError where nothing is left to try.
        """
        ...

    def report_epoch(self, task: TrialTask, result: EpochResult) -> str | None:
        """Record an epoch's result; the reason to stop the training, or None."""
        ...

    def tell(self, task: TrialTask, evaluation: Evaluation) -> TrialRecord:
        """Tell what the training gave."""
        ...

    def release(self) -> None:
        """Queue again what this worker holds and has not handed out.

        Called once, at its end.
        """
        ...


class TrainingStopped(Exception):
    """Ends a training from within its epochs; says why."""


def run_trial_loop(
    tasks: AskTell,
    evaluator: Evaluator,
    on_trial: OnTrial | None = None,
    on_task: Callable[[TrialTask], object] | None = None,
) -> None:
    """Train in this process until nothing is left.

    ``on_task`` hears of each training before it begins, ``on_trial`` of each trial that ended. An exception in a
    training fails that trial with its reason and the study goes on. A KeyboardInterrupt, and whatever the study's
    storage raises, queues the unfinished training again and leaves.
    """
    try:
        while (found := tasks.ask()) is not Idle.OVER:
            if isinstance(found, Idle):
                time.sleep(_WAIT_S)
                continue
            if isinstance(found, TrialTask) and on_task:
                on_task(found)
            row = run_trial(tasks, found, evaluator) if isinstance(found, TrialTask) else found
            if on_trial:
                on_trial(row)
    finally:
        tasks.release()


def evaluate_task(evaluator: Evaluator, task: TrialTask, on_epoch: Callable[[EpochResult], None] | None) -> Evaluation:
    """Score the network of ``task``, train it, or both.

    Raises: what ``evaluator`` and ``on_epoch`` raise.
    """
    given = {"parent": task.parent} if task.parent else {}
    scored = _scored(evaluator, task.arch, given) if task.score else None
    if not task.train:
        return scored or Evaluation(accuracy=None, cpu_s=0.0, duration_s=0.0)
    evaluation = evaluator.evaluate(task.arch, repeat=task.repeat, on_epoch=on_epoch, **given)
    if scored is None:
        return evaluation
    return replace(
        evaluation,
        scores=scored.scores,
        cpu_s=scored.cpu_s + evaluation.cpu_s,
        duration_s=scored.duration_s + evaluation.duration_s,
    )


def _scored(evaluator: Evaluator, arch: ArchSpec, given: Mapping[str, Any]) -> Evaluation:
    """Scores of ``arch``, and what they cost."""
    cpu_s, start_s = time.process_time(), time.perf_counter()
    scores = evaluator.scores(arch, **given)
    elapsed_s = time.perf_counter() - start_s
    return Evaluation(accuracy=None, cpu_s=time.process_time() - cpu_s, duration_s=elapsed_s, scores=scores)


def run_trial(tasks: AskTell, task: TrialTask, evaluator: Evaluator) -> TrialRecord:
    """Run one training in this process and tell its result.

    Raises: what ``tasks`` raise, KeyboardInterrupt.
    """
    not_of_training: Exception | None = None

    def after_epoch(result: EpochResult) -> None:
        nonlocal not_of_training
        try:
            reason = tasks.report_epoch(task, result)
        except Exception as error:
            not_of_training = error
            raise
        if reason:
            raise TrainingStopped(reason)

    try:
        evaluation = evaluate_task(evaluator, task, after_epoch)
    except TrainingStopped as stopped:
        row = finish_without_result(tasks.study, task, Outcome.STOPPED, str(stopped))
    except KeyboardInterrupt:
        release_trial(tasks.study, task.trial_id)
        raise
    except Exception as error:
        if error is not_of_training:
            with suppress(Exception):  # a storage that is away stays so: the trial is recovered as after a kill
                release_trial(tasks.study, task.trial_id)
            raise
        # Whatever a network does to its training, the study goes on.
        row = finish_without_result(tasks.study, task, Outcome.FAILED, failure_reason(error))
    else:
        row = tasks.tell(task, evaluation)
    # Only now: if the result cannot be stored, the training resumes from its checkpoint.
    evaluator.discard_checkpoint(task.arch, repeat=task.repeat)
    return row


def finish_trial(
    study: optuna.Study,
    trial: FrozenTrial,
    outcome: Outcome,
    *,
    values: tuple[float, ...] = (),
    reason: str = "",
    facts: Mapping[str, float] | None = None,
    classes: Mapping[str, Any] | None = None,
) -> TrialRecord:
    """Finish ``trial`` in Optuna, with outcome and ``facts`` as attributes.

    With ``values`` it is complete, without them failed or pruned. Attributes and state are stored in one transaction.
    ``classes``: of its evaluation, as ``class_counts`` returns them.
    """
    draft = TrialDraft(study, trial)
    storage = storage_of(draft.study)
    known = {"reason": reason} if reason else {}
    for name, value in (classes or {}).items():
        storage.set_trial_system_attr(trial_id(trial), name, value)
    for name, value in {**known, **(facts or {}), "outcome": str(outcome)}.items():
        storage.set_trial_user_attr(trial_id(trial), name, value)
    if values:
        draft.study.tell(trial.number, list(values))
    else:
        draft.study.tell(trial.number, state=TrialState.FAIL if outcome is Outcome.FAILED else TrialState.PRUNED)
    return trial_record(draft.trial, latency_scale(study))


def finish_trained(
    study: optuna.Study, trial: FrozenTrial, evaluation: Evaluation, values: tuple[float, ...]
) -> TrialRecord:
    """Finish a trained ``trial`` with what its evaluation gave, in all and by class."""
    facts, classes = accuracy_facts(evaluation), class_counts(evaluation)
    return finish_trial(study, trial, Outcome.TRAINED, values=values, facts=facts, classes=classes)


def finish_scored(
    study: optuna.Study, trial: FrozenTrial, evaluation: Evaluation, values: tuple[float, ...], estimate: Estimate
) -> TrialRecord:
    """Finish a ``trial`` whose network was scored, with the estimate of its accuracy."""
    facts = accuracy_facts(evaluation) | estimate_attributes(*estimate)
    return finish_trial(study, trial, Outcome.SCORED, values=values, facts=facts)


def finish_without_result(study: optuna.Study, task: TrialTask, outcome: Outcome, reason: str) -> TrialRecord:
    """End a training that came to no accuracy: it counts as a trial.

    Of a study of several objectives Optuna's TPE cannot rank a trial that has intermediate values alone (Optuna 5.0
    raises RuntimeError at the next ask). One that is stopped there breaks a constraint: TPE then counts it among the
    bad ones, and the other samplers leave it out as they do any pruned trial.
    """
    trial = storage_of(study).get_trial(task.trial_id)
    if outcome is Outcome.STOPPED and len(study.directions) > 1 and _STOPPED_EARLY not in trial.constraints:
        Trial(study, task.trial_id).set_constraint(_STOPPED_EARLY, 1.0)
    return finish_trial(study, trial, outcome, reason=reason)


def release_trial(study: optuna.Study, trial_id: int) -> None:
    """Queue a trial that this worker holds again unless it is finished."""
    trial = storage_of(study).get_trial(trial_id)
    if trial.state.is_finished():
        return
    if trial.user_attrs.get(WORKER):  # else it looks like this worker's until the next one has signed it
        storage_of(study).set_trial_user_attr(trial_id, WORKER, "")
    requeue_trial(study, trial)


def take_queued_trial(
    study: optuna.Study, is_wanted: Callable[[FrozenTrial], bool] = lambda _: True
) -> FrozenTrial | None:
    """Start the next queued trial that ``is_wanted``; None if none is queued."""
    storage = storage_of(study)
    for waiting in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        # False if another worker started it first; ``Study.ask`` would then sample a new trial.
        if is_wanted(waiting) and storage.set_trial_state_values(trial_id(waiting), TrialState.RUNNING):
            return storage.get_trial(trial_id(waiting))
    return None


def failure_reason(error: Exception) -> str:
    """One line that says what went wrong with a trial."""
    text = mask_credentials(" ".join(str(error).split()))
    return f"{type(error).__name__}: {text}"[:_LONGEST_REASON] if text else type(error).__name__
