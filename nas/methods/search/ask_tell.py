"""Ask-and-tell loop of a search: sample, screen, deduplicate, evaluate, tell.

Optuna is asked for a genotype, which is screened against the limits, handed out for training or scoring, and told its
result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import optuna
from optuna.trial import FrozenTrial, Trial

from nas.core.errors import NasError
from nas.estimators.base import Evaluation
from nas.estimators.settings import EstimatorSettings
from nas.methods.search.samplers import FixedSpaceSampler, make_sampler
from nas.methods.search.settings import SamplerSettings, StudySettings
from nas.methods.search.trials.calibration import Calibration
from nas.methods.search.trials.finalists import (
    any_scored,
    is_planned,
    queue_final_trainings,
    start_final_training,
)
from nas.methods.search.trials.screening import Screening
from nas.methods.search.trials.trial_index import TrialIndex
from nas.study import trial_loop
from nas.study.candidates import Pricer
from nas.study.measurement import PredictorRefinement
from nas.study.objective import ObjectiveSettings
from nas.study.storage.optuna_private import storage_of, trial_id
from nas.study.trial_attributes import WORKER, copied_accuracy, distributions, is_final, told_latency_ms
from nas.study.trial_loop import Idle, TrialTask, failure_reason
from nas.study.trial_record import Outcome, TrialRecord
from nas.training.results import EpochResult

_PARKED: Final = "nas:parked"


@dataclass(slots=True)
class _WorkerState:
    """Per-worker state of a search between calls of ``ask``.

    ``index``: the study's trials as of the last read. ``parked``: trials of this worker whose network another worker is
    training. ``rejected``: infeasible candidates and duplicates since the last training. ``calibration``: what scores
    are worth, once the anchors are trained.
    """

    calibration: Calibration
    index: TrialIndex = field(default_factory=TrialIndex)
    parked: list[TrialTask] = field(default_factory=list)
    rejected: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchAskTell:
    """One worker's ask-and-tell interface to a search study.

    Several workers may ask and tell on the same storage at the same time.

    With a ``refinement``, candidates whose predicted cost meets the limits are measured and screened again before
    training, and the measured latency (ms) is the one that counts in the study. ``pruner`` decides after each of the
    ``epochs`` but the last whether the training continues. ``worker`` is written into the trials that it takes.

    With an ``estimator`` that scores, the first candidates are scored and trained, as anchors; all later ones are only
    scored, and the study is told their estimated accuracy. Finalists are trained once the study has its trials.
    """

    study: optuna.Study
    pricer: Pricer
    objective: ObjectiveSettings
    sampler: SamplerSettings
    settings: StudySettings
    epochs: int
    refinement: PredictorRefinement | None = None
    pruner: optuna.pruners.BasePruner | None = None
    worker: str = ""
    estimator: EstimatorSettings = field(default_factory=EstimatorSettings)
    _state: _WorkerState = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_state", _WorkerState(Calibration(self.estimator, self.pricer)))

    def ask(self) -> TrialTask | TrialRecord | Idle:
        """Next candidate to evaluate, a rejected trial, or ``Idle`` if there is none.

        Where the space has no new candidate left under the limits, a search that scores goes on to its finalists.

        Raises: NasError if a search without scored candidates has none left.
        """
        index = self._read()
        if self._state.calibration.is_awaited(index):
            return Idle.WAIT
        result: TrialTask | TrialRecord | Idle | None = self._resume_parked()
        if result is None:
            if self._has_ended(index):
                return self._ask_final() if self.estimator.is_scoring else Idle.OVER
            if index.finished + len(index.running()) >= self.settings.n_trials:
                return Idle.WAIT  # other workers run the last trials, of which one may still be rejected
            exhaustion = self._exhaustion()
            if exhaustion and not any_scored(self.study):
                every = " To train all of a small space, add estimator=proxy." if self.estimator.is_scoring else ""
                raise NasError(exhaustion + every)
            result = self._ask_final() if exhaustion else self._ask_sampler()
        if isinstance(result, TrialRecord) and result.outcome in (Outcome.INFEASIBLE, Outcome.DUPLICATE):
            self._state.rejected += 1
        elif not isinstance(result, Idle):
            self._state.rejected = 0
        return result

    def report_epoch(self, task: TrialTask, result: EpochResult) -> str | None:
        """Report the epoch's objective; the reason to stop there, or None to continue.

        The value is stored as an intermediate value of the trial, by epoch.
        """
        storage = storage_of(self.study)
        value = self._values(storage.get_trial(task.trial_id), result.accuracy)[0]
        storage.set_trial_intermediate_value(task.trial_id, result.epoch, value)
        if self.pruner is None or result.epoch >= self.epochs:
            return None
        if self.pruner.prune(self.study, storage.get_trial(task.trial_id)):
            return f"{100 * result.accuracy:.1f}% after epoch {result.epoch}, below the other trials there"
        return None

    def tell(self, task: TrialTask, evaluation: Evaluation) -> TrialRecord:
        """Finish the trial with its accuracy and the latency known before training.

        Of a network that was scored the estimated accuracy counts.
        """
        trial = self._frozen(task.trial_id)
        if evaluation.accuracy is None:
            estimate = self._state.calibration.estimate(self._state.index, task.arch, evaluation)
            values = self._values(trial, estimate.accuracy)
            return trial_loop.finish_scored(self.study, trial, evaluation, values, estimate)
        values = self._values(trial, evaluation.accuracy)
        return trial_loop.finish_trained(self.study, trial, evaluation, values)

    def release(self) -> None:
        """Queue the parked candidates again."""
        while self._state.parked:
            trial_loop.release_trial(self.study, self._state.parked.pop().trial_id)

    def _values(self, trial: FrozenTrial, accuracy: float) -> tuple[float, ...]:
        """Objective values of ``trial``, if it reaches ``accuracy``."""
        return self.objective.values(accuracy, told_latency_ms(trial, self.objective))

    def _read(self) -> TrialIndex:
        """Index of the study's trials, updated from the storage."""
        self._state.index.read(self.study)
        return self._state.index

    def _ask_sampler(self) -> TrialTask | TrialRecord | Idle:
        """Draw one candidate from the sampler and screen it."""
        index = self._state.index
        number = index.total - index.interrupted - index.final
        space = distributions(self.pricer.space.parameters)
        self.study.sampler = FixedSpaceSampler(make_sampler(self.sampler, seed=self.settings.seed, trial=number), space)
        trial = self.study.ask(space)
        try:
            if self.worker:
                trial.set_user_attr(WORKER, self.worker)
            if is_final(trial):  # left in the queue when the search was extended
                return self._screen(trial)
            if self._is_surplus(trial):
                trial_loop.release_trial(self.study, trial_id(trial))
                return Idle.WAIT
            return self._screen(trial)
        except KeyboardInterrupt:
            trial_loop.release_trial(self.study, trial_id(trial))
            raise

    def _is_surplus(self, trial: Trial) -> bool:
        """Whether the trials before ``trial``, once trained, already complete the study.

        Two workers may have asked for the last trial at the same moment; the later one gives way. An earlier trial of a
        killed worker may just have been queued again: it takes precedence.
        """
        index = self._read()
        earlier = [number for number in index.open if number < trial.number]
        return index.finished + len(earlier) >= self.settings.n_trials

    def _screen(self, trial: Trial) -> TrialTask | TrialRecord | Idle:
        """Training of ``trial``, unless it violates a limit or its network was trained."""
        screen = Screening(study=self.study, pricer=self.pricer, refinement=self.refinement)
        try:
            arch, violated = screen.judge(trial)
        except Exception as error:  # a network that cannot be decoded or measured is one failed trial
            return trial_loop.finish_trial(
                self.study, self._frozen(trial_id(trial)), Outcome.FAILED, reason=failure_reason(error)
            )
        if violated and not is_final(trial):
            return trial_loop.finish_trial(
                self.study, self._frozen(trial_id(trial)), Outcome.INFEASIBLE, reason=violated
            )
        task = TrialTask(number=trial.number, trial_id=trial_id(trial), arch=arch)
        self._read()
        result = self._deduplicated(task)
        if result is None:
            self._state.parked.append(task)
            return Idle.WAIT
        return result

    def _resume_parked(self) -> TrialTask | TrialRecord | None:
        """First parked candidate whose duplicate has finished training."""
        for task in self._state.parked:
            result = self._deduplicated(task)
            if result is not None:
                self._state.parked.remove(task)
                return result
        return None

    def _deduplicated(self, task: TrialTask) -> TrialTask | TrialRecord | None:
        """Deduplicate ``task``: itself, the finished duplicate, or None to wait.

        A ``TrialRecord`` if another trial trained or stopped this network already; None while another trial trains it.

        A running trial with its network written into it claims that network unless it is marked as parked. Each worker
        claims before it looks for others and gives way to any, so that no two of them train a network at the same time,
        whichever trial was killed and restarted in between. Of those that gave way the earliest trial claims again.
        """
        index = self._state.index
        known = index.trained if is_final(index.open[task.number]) else index.tried
        duplicate = known.get(task.arch.arch_id)
        if duplicate is not None:
            return self._finish_duplicate(task, duplicate)
        is_parked = _is_parked(index.open[task.number])
        if self._is_claimed(task):
            if not is_parked:
                storage_of(self.study).set_trial_system_attr(task.trial_id, _PARKED, True)
            return None
        if not is_parked:
            return self._state.calibration.assigned(self.study, index, task)
        storage_of(self.study).set_trial_system_attr(task.trial_id, _PARKED, False)
        self._read()
        return self._deduplicated(task)

    def _is_claimed(self, task: TrialTask) -> bool:
        """Whether another running trial of this network trains it or is earlier."""
        running, arch_id = self._state.index.running(), task.arch.arch_id
        duplicates = [trial for trial in running if trial.user_attrs.get("arch_id") == arch_id]
        return any(
            duplicate.number < task.number or not _is_parked(duplicate)
            for duplicate in duplicates
            if duplicate.number != task.number
        )

    def _finish_duplicate(self, task: TrialTask, duplicate: FrozenTrial) -> TrialRecord:
        trial, reason = self._frozen(task.trial_id), f"same as trial {duplicate.number}"
        if duplicate.user_attrs["outcome"] == Outcome.STOPPED:
            return trial_loop.finish_trial(self.study, trial, Outcome.DUPLICATE, reason=f"{reason}, which was stopped")
        facts = copied_accuracy(duplicate)
        values = self._values(trial, facts.get("accuracy", facts.get("estimated_accuracy", 0.0)))
        return trial_loop.finish_trial(self.study, trial, Outcome.DUPLICATE, values=values, reason=reason, facts=facts)

    def _ask_final(self) -> TrialTask | TrialRecord | Idle:
        """Next training after the search: of a finalist, or of a check."""
        self.release()
        if any(not is_final(trial) for trial in self._read().running()):
            return Idle.WAIT  # other workers run the last trials of the search
        settings = self.settings
        queue_final_trainings(
            self.study, self.estimator, self.objective, n_trials=settings.n_trials, seed=settings.seed
        )
        trial = start_final_training(self.study, self.pricer.space.parameters)
        if trial is None:
            return Idle.WAIT if self._read().running() else Idle.OVER
        try:
            if self.worker:
                trial.set_user_attr(WORKER, self.worker)
            return self._screen(trial)
        except KeyboardInterrupt:
            trial_loop.release_trial(self.study, trial_id(trial))
            raise

    def _frozen(self, trial_id: int) -> FrozenTrial:
        return storage_of(self.study).get_trial(trial_id)

    def _has_ended(self, index: TrialIndex) -> bool:
        """Whether no further candidate is wanted.

        In an exhausted space finalists are planned before there are ``n_trials``.
        """
        n_trials = self.settings.n_trials
        is_scoring = self.estimator.is_scoring
        return index.finished >= n_trials or (is_scoring and is_planned(self.study, self.estimator, n_trials))

    def _exhaustion(self) -> str:
        """Why the space yields no new candidates; empty if it does.

        Every point has been tried, or ``study.max_screened`` candidates in a row were rejected.
        """
        so_far = f"stopped after {self._state.index.finished} of {self.settings.n_trials} trials"
        if self._exhausted():
            return (
                f"{so_far}: all {self.pricer.space.size} points of space {self.pricer.space.name!r} have been tried. "
                "Widen the space, or lower study.n_trials."
            )
        if self._state.rejected >= self.settings.max_screened:
            return (
                f"{so_far}: the last {self._state.rejected} candidates were infeasible or duplicates. Few new "
                "networks are left under these limits; relax them, widen the space, or lower study.n_trials."
            )
        return ""

    def _exhausted(self) -> bool:
        """Whether every point of a small space has been tried."""
        space, index = self.pricer.space, self._state.index
        if index.total < space.size or index.open:
            return False
        all_params = (trial.params for trial in self.study.get_trials(deepcopy=False))
        complete = (params for params in all_params if len(params) == len(space.parameters))
        return len({tuple(sorted(params.items())) for params in complete}) >= space.size


def _is_parked(trial: FrozenTrial) -> bool:
    return bool(trial.system_attrs.get(_PARKED))
