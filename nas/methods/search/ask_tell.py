"""Ask-and-tell loop of a search: sample, screen, deduplicate, evaluate, tell.

Optuna is asked for a genotype, which is screened against the limits, handed out for training or scoring, and told its
result.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import optuna
from optuna.trial import FrozenTrial, Trial

from nas.core.errors import NasError
from nas.estimators.base import Evaluation
from nas.estimators.settings import EstimatorSettings
from nas.methods.search.guided import GuidedMemory, GuidedSampler, NoCandidateLeft, prior_results
from nas.methods.search.samplers import FixedSpaceSampler, make_sampler
from nas.methods.search.settings import GUIDED, SamplerSettings, StudySettings
from nas.methods.search.trials.calibration import Calibration
from nas.methods.search.trials.finalists import (
    any_scored,
    is_planned,
    queue_final_trainings,
    start_final_training,
)
from nas.methods.search.trials.gain_stop import GainStop, record_gain_stop, wanted_trials
from nas.methods.search.trials.prior_evaluations import prior_evaluations
from nas.methods.search.trials.screening import Screening
from nas.methods.search.trials.trial_index import TrialIndex
from nas.study import trial_loop
from nas.study.candidates import Pricer
from nas.study.measurement import PredictorRefinement
from nas.study.objective import ObjectiveSettings
from nas.study.storage.optuna_private import storage_of, trial_id
from nas.study.storage.trial_draft import TrialDraft
from nas.study.trial_attributes import WORKER, copied_accuracy, distributions, is_final, told_latency_ms
from nas.study.trial_loop import Idle, TrialTask, failure_reason
from nas.study.trial_record import Outcome, TrialRecord
from nas.training.results import EpochResult

_PARKED: Final = "nas:parked"
_LEAST_TO_STOP: Final = 10  # trials, before a search may end for what is left to gain


@dataclass(slots=True)
class _WorkerState:
    """Per-worker state of a search between calls of ``ask``.

    ``index``: the study's trials as of the last read. ``parked``: trials of this worker whose network another worker is
    training. ``rejected``: candidates since the last training, by why they were rejected: infeasible or duplicates.
    ``calibration``: what scores are worth, once the anchors are trained. ``memory``: of the guided sampler.
    """

    calibration: Calibration
    memory: GuidedMemory
    index: TrialIndex = field(default_factory=TrialIndex)
    parked: list[TrialTask] = field(default_factory=list)
    rejected: Counter[Outcome] = field(default_factory=Counter)


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
        object.__setattr__(
            self, "_state", _WorkerState(Calibration(self.estimator, self.pricer), GuidedMemory(self.settings.seed))
        )

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
            if index.finished + len(index.running()) >= self._wanted:
                return Idle.WAIT  # other workers run the last trials, of which one may still be rejected
            exhaustion = self._exhaustion()
            result = self._ask_exhausted(exhaustion) if exhaustion else self._ask_sampler()
        if isinstance(result, TrialRecord) and result.outcome in (Outcome.INFEASIBLE, Outcome.DUPLICATE):
            self._state.rejected[result.outcome] += 1
        elif not isinstance(result, Idle):
            self._state.rejected.clear()
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
        if self._has_little_to_gain():
            return Idle.WAIT  # the next ask finds that the search has ended, once the running trials have
        try:
            draft, trial = self._draw()
        except NoCandidateLeft as error:
            if self._read().open:
                return Idle.WAIT  # some may have been queued again just now
            advice = "Relax the limits, widen" if self.pricer.constraints.limits else "Widen"
            return self._ask_exhausted(f"{self._so_far}: {error} {advice} the space, or lower study.n_trials.")
        return self._screen(draft, trial)

    def _has_little_to_gain(self) -> bool:
        """Whether the search ends because little is left to gain.

        It is recorded in the study then.
        """
        threshold, index = self.settings.stop_when_gain_below, self._state.index
        anchors = self.estimator.anchors if self.estimator.is_scoring else 0
        least = anchors + max(_LEAST_TO_STOP, 2 * self.sampler.startup)
        running = index.running()
        if threshold is None or index.finished < least or len(index.open) > len(running):  # some are queued
            return False
        gain = self._guided(index.finished).expected_gain(self.study.get_trials(deepcopy=False))
        if gain < threshold:
            record_gain_stop(self.study, GainStop(gain, index.finished + len(running)))
        return gain < threshold

    def _ask_exhausted(self, reason: str) -> TrialTask | TrialRecord | Idle:
        """Next final training of a search that has no candidate left, for ``reason``.

        Raises: NasError with ``reason`` where no candidate was scored: there are no final trainings.
        """
        if not any_scored(self.study):
            every = " To train all of a small space, add estimator=proxy." if self.estimator.is_scoring else ""
            raise NasError(reason + every)
        return self._ask_final()

    def _draw(self) -> tuple[TrialDraft, Trial]:
        """A queued trial, or a candidate of the sampler, which is not stored yet.

        Another worker that asked at the same moment may have drawn the same point, and stored it: then the next one.
        """
        index, space = self._state.index, distributions(self.pricer.space.parameters)
        while True:
            self.study.sampler = FixedSpaceSampler(self._sampler(index.total - index.interrupted - index.final), space)
            draft = TrialDraft(self.study)
            trial = draft.ask(space)
            if not draft.is_new or not self._is_stored(trial):
                return draft, trial
            self._read()

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """Sampler for the trial ``number``."""
        if self.sampler.name != GUIDED:
            return make_sampler(self.sampler, seed=self.settings.seed, trial=number)
        return self._guided(number)

    def _guided(self, number: int) -> GuidedSampler:
        memory = self._state.memory
        if memory.prior is None:
            memory.prior = prior_results(prior_evaluations(self.study, self.pricer.space.parameters), self.pricer)
        return GuidedSampler(
            pricer=self._screening.present_pricer(),
            objective=self.objective,
            startup=self.sampler.startup,
            trial=number,
            memory=memory,
        )

    @property
    def _screening(self) -> Screening:
        return Screening(study=self.study, pricer=self.pricer, refinement=self.refinement)

    def _is_stored(self, trial: Trial) -> bool:
        """Whether another worker has stored the point of ``trial`` since it was asked for."""
        since = self.study.get_trials(deepcopy=False)[trial.number :]
        return any(other.params == trial.params for other in since)

    def _is_surplus(self, number: int | None) -> bool:
        """Whether the trials before ``number``, once trained, already complete the study.

        ``number``: None of a trial that is not stored yet, which comes after all others.

        Two workers may have asked for the last trial at the same moment; the later one gives way. An earlier trial of a
        killed worker may just have been queued again: it takes precedence.
        """
        index = self._read()
        earlier = [other for other in index.open if number is None or other < number]
        return index.finished + len(earlier) >= self._wanted

    def _screen(self, draft: TrialDraft, trial: Trial) -> TrialTask | TrialRecord | Idle:
        """Training of ``trial``, unless it is surplus, infeasible or a duplicate."""
        try:
            if self.worker:
                self._sign(draft, trial)
            return self._screened(draft, trial)
        except KeyboardInterrupt:
            self._drop(draft)
            raise

    def _sign(self, draft: TrialDraft, trial: Trial) -> None:
        """Write the worker's name into ``trial``, at once if the storage has it.

        A trial without the name of a living worker is taken for that of a killed one.
        """
        trial.set_user_attr(WORKER, self.worker)
        if not draft.is_new:
            storage_of(self.study).set_trial_user_attr(trial_id(draft.trial), WORKER, self.worker)

    def _drop(self, draft: TrialDraft) -> None:
        """Give the trial back to the queue; a new one has left nothing in the storage."""
        if not draft.is_new:
            trial_loop.release_trial(self.study, trial_id(draft.trial))

    def _screened(self, draft: TrialDraft, trial: Trial) -> TrialTask | TrialRecord | Idle:
        is_search = not is_final(trial)  # final trainings may be left in the queue when the search was extended
        if is_search and self._is_surplus(None if draft.is_new else trial.number):
            self._drop(draft)
            return Idle.WAIT
        try:
            arch, violated = self._screening.judge(draft, trial)
        except Exception as error:  # a network that cannot be decoded or measured is one failed trial
            return trial_loop.finish_trial(draft.study, draft.trial, Outcome.FAILED, reason=failure_reason(error))
        if violated and is_search:
            return trial_loop.finish_trial(draft.study, draft.trial, Outcome.INFEASIBLE, reason=violated)
        stored = draft.store()
        if is_search and stored.number > trial.number and self._is_surplus(stored.number):
            self._drop(draft)
            return Idle.WAIT
        task = TrialTask(number=stored.number, trial_id=trial_id(stored), arch=arch)
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
        queue_final_trainings(
            self.study, self.estimator, self.objective, n_trials=self._wanted, seed=self.settings.seed
        )
        started = start_final_training(self.study, self.pricer.space.parameters)
        if started is None:
            return Idle.WAIT if self._read().running() else Idle.OVER
        return self._screen(*started)

    def _frozen(self, trial_id: int) -> FrozenTrial:
        return storage_of(self.study).get_trial(trial_id)

    def _has_ended(self, index: TrialIndex) -> bool:
        """Whether no further candidate is wanted.

        In an exhausted space finalists are planned before there are as many trials as wanted.
        """
        wanted, is_scoring = self._wanted, self.estimator.is_scoring
        return index.finished >= wanted or (is_scoring and is_planned(self.study, self.estimator, wanted))

    def _exhaustion(self) -> str:
        """Why the space yields no new candidates; empty if it does.

        Every point has been tried, or ``study.max_screened`` candidates in a row were rejected.
        """
        if self._exhausted():
            space = self.pricer.space
            points = f"all {space.size} points of space {space.name!r} have"
            if space.size == 1:
                points = f"the only point of space {space.name!r} has"
            return f"{self._so_far}: {points} been tried. Widen the space, or lower study.n_trials."
        rejected = self._state.rejected
        if rejected.total() >= self.settings.max_screened:
            relax = "relax the limits, " if rejected[Outcome.INFEASIBLE] else ""
            other = "" if self.sampler.name == GUIDED else f"add sampler={GUIDED}, "
            return (
                f"{self._so_far}: of the last {rejected.total()} candidates of sampler {self.sampler.name} "
                f"{rejected[Outcome.INFEASIBLE]} were infeasible and {rejected[Outcome.DUPLICATE]} repeated a network. "
                f"Run it again to draw more, {relax}widen the space, {other}or lower study.n_trials."
            )
        return ""

    @property
    def _wanted(self) -> int:
        return wanted_trials(self.study, self.settings)

    @property
    def _so_far(self) -> str:
        return f"stopped after {self._state.index.finished} of {self.settings.n_trials} trials"

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
