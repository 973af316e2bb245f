"""Ask-and-tell loop of a search: sample, screen, deduplicate, train, tell.

Optuna is asked for a genotype, which is screened against the limits, handed out for training, and told its result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import optuna
from optuna.trial import FrozenTrial, Trial

from nas.core.errors import NasError
from nas.estimators.proxy.evaluator import Evaluation
from nas.methods.search.samplers import FixedSpaceSampler, make_sampler
from nas.methods.search.screening import Screening
from nas.methods.search.trial_index import TrialIndex
from nas.study import trial_loop
from nas.study.candidates import Pricer
from nas.study.config import SamplerSettings, StudySettings
from nas.study.measurement import PredictorRefinement
from nas.study.objective import ObjectiveSettings
from nas.study.trial_attributes import WORKER, distributions
from nas.study.trial_loop import Idle, TrialTask, failure_reason
from nas.study.trial_record import Outcome, TrialRecord
from nas.training.results import EpochResult

_PARKED: Final = "nas:parked"


@dataclass(slots=True)
class _Memory:
    """Per-worker state of a search between calls of ``ask``.

    ``index``: the study's trials as of the last read. ``parked``: trials of this worker whose network another worker is
    training. ``rejected``: infeasible candidates and duplicates since the last training.
    """

    ledger: TrialIndex = field(default_factory=TrialIndex)
    parked: list[TrialTask] = field(default_factory=list)
    turned_down: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchAskTell:
    """One worker's ask-and-tell interface to a search study.

    Several workers may ask and tell on the same storage at the same time.

    With a ``refinement``, candidates whose predicted cost meets the limits are measured and screened again before
    training, and the measured latency (ms) is the one that counts in the study. ``pruner`` decides after each of the
    ``epochs`` but the last whether the training continues. ``worker`` is written into the trials that it takes.
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
    _memory: _Memory = field(default_factory=_Memory, init=False, repr=False)

    def ask(self) -> TrialTask | TrialRecord | Idle:
        """Next candidate to train, a rejected trial, or ``Idle`` if there is none.

        Raises: NasError if the space has no new candidate left under the limits.
        """
        ledger = self._read()
        found: TrialTask | TrialRecord | Idle | None = self._unparked()
        if found is None:
            if ledger.finished >= self.settings.n_trials:
                return Idle.OVER
            if ledger.finished + len(ledger.running()) >= self.settings.n_trials:
                return Idle.WAIT  # other workers hold the last trials; one of theirs may yet be turned down
            self._check_supply()
            found = self._asked()
        if isinstance(found, TrialRecord) and found.outcome in (Outcome.INFEASIBLE, Outcome.DUPLICATE):
            self._memory.turned_down += 1
        elif not isinstance(found, Idle):
            self._memory.turned_down = 0
        return found

    def report_epoch(self, task: TrialTask, result: EpochResult) -> str | None:
        """Report the epoch's objective; the reason to stop there, or None to continue.

        The value is stored as an intermediate value of the trial, by epoch.
        """
        storage = self.study._storage
        latency_ms = storage.get_trial(task.trial_id).user_attrs["latency_ms"]
        value = self.objective.values(result.accuracy, latency_ms)[0]
        storage.set_trial_intermediate_value(task.trial_id, result.epoch, value)
        if self.pruner is None or result.epoch >= self.epochs:
            return None
        if self.pruner.prune(self.study, storage.get_trial(task.trial_id)):
            return f"{100 * result.accuracy:.1f}% after epoch {result.epoch}, behind others there"
        return None

    def tell(self, task: TrialTask, evaluation: Evaluation) -> TrialRecord:
        """Finish the trial with its accuracy and the latency known before training."""
        trial = self._frozen(task.trial_id)
        values = self.objective.values(evaluation.accuracy, trial.user_attrs["latency_ms"])
        return trial_loop.finish_trial(
            self.study, trial, Outcome.TRAINED, values=values, accuracy=evaluation.accuracy, cpu_s=evaluation.cpu_s
        )

    def release(self) -> None:
        """Queue the parked candidates again."""
        while self._memory.parked:
            trial_loop.release_trial(self.study, self._memory.parked.pop().trial_id)

    def _read(self) -> TrialIndex:
        """Index of the study's trials, updated from the storage."""
        self._memory.ledger.read(self.study)
        return self._memory.ledger

    def _asked(self) -> TrialTask | TrialRecord | Idle:
        """Draw one candidate from the sampler and screen it."""
        turn = self._memory.ledger.total - self._memory.ledger.interrupted
        space = distributions(self.pricer.space.parameters)
        self.study.sampler = FixedSpaceSampler(make_sampler(self.sampler, seed=self.settings.seed, trial=turn), space)
        trial = self.study.ask(space)
        try:
            if self.worker:
                trial.set_user_attr(WORKER, self.worker)
            if self._is_surplus(trial):
                trial_loop.release_trial(self.study, trial._trial_id)
                return Idle.WAIT
            return self._screened(trial)
        except KeyboardInterrupt:
            trial_loop.release_trial(self.study, trial._trial_id)
            raise

    def _is_surplus(self, trial: Trial) -> bool:
        """Whether the trials before ``trial``, once trained, already complete the study.

        Two workers may have asked for the last trial at the same moment; the later one gives way. An earlier trial of a
        killed worker may just have been queued again: it takes precedence.
        """
        ledger = self._read()
        earlier = [number for number in ledger.open if number < trial.number]
        return ledger.finished + len(earlier) >= self.settings.n_trials

    def _screened(self, trial: Trial) -> TrialTask | TrialRecord | Idle:
        """Training of ``trial``, unless it violates a limit or its network was trained."""
        screen = Screening(study=self.study, pricer=self.pricer, refinement=self.refinement)
        try:
            arch, broken = screen.judge(trial)
        except Exception as error:  # a network that cannot be decoded or measured is one failed trial
            return trial_loop.finish_trial(
                self.study, self._frozen(trial._trial_id), Outcome.FAILED, reason=failure_reason(error)
            )
        if broken:
            return trial_loop.finish_trial(self.study, self._frozen(trial._trial_id), Outcome.INFEASIBLE, reason=broken)
        task = TrialTask(number=trial.number, trial_id=trial._trial_id, arch=arch)
        self._read()
        found = self._first_of_its_kind(task)
        if found is None:
            self._memory.parked.append(task)
            return Idle.WAIT
        return found

    def _unparked(self) -> TrialTask | TrialRecord | None:
        """First parked candidate whose duplicate has finished training."""
        for task in self._memory.parked:
            found = self._first_of_its_kind(task)
            if found is not None:
                self._memory.parked.remove(task)
                return found
        return None

    def _first_of_its_kind(self, task: TrialTask) -> TrialTask | TrialRecord | None:
        """Deduplicate ``task``: itself, the finished duplicate, or None to wait.

        A ``TrialRecord`` if another trial trained or stopped this network already; None while another trial trains it.

        A running trial with its network written into it claims that network unless it is marked as parked. Each worker
        claims before it looks for others and gives way to any, so that no two of them train a network at the same time,
        whichever trial was killed and restarted in between. Of those that gave way the earliest trial claims again.
        """
        ledger = self._memory.ledger
        twin = ledger.tried.get(task.arch.arch_id)
        if twin is not None:
            return self._repeated(task, twin)
        is_parked = _is_parked(ledger.open[task.number])
        if self._is_claimed(task):
            if not is_parked:
                self.study._storage.set_trial_system_attr(task.trial_id, _PARKED, True)
            return None
        if not is_parked:
            return task
        self.study._storage.set_trial_system_attr(task.trial_id, _PARKED, False)
        self._read()
        return self._first_of_its_kind(task)

    def _is_claimed(self, task: TrialTask) -> bool:
        """Whether another running trial trains the network of ``task`` or precedes it."""
        running, arch_id = self._memory.ledger.running(), task.arch.arch_id
        twins = [trial for trial in running if trial.user_attrs.get("arch_id") == arch_id]
        return any(twin.number < task.number or not _is_parked(twin) for twin in twins if twin.number != task.number)

    def _repeated(self, task: TrialTask, twin: FrozenTrial) -> TrialRecord:
        trial, reason = self._frozen(task.trial_id), f"same as trial {twin.number}"
        if twin.user_attrs["outcome"] == Outcome.STOPPED:
            return trial_loop.finish_trial(self.study, trial, Outcome.DUPLICATE, reason=f"{reason}, which was stopped")
        accuracy = twin.user_attrs["accuracy"]
        values = self.objective.values(accuracy, trial.user_attrs["latency_ms"])
        return trial_loop.finish_trial(
            self.study, trial, Outcome.DUPLICATE, values=values, accuracy=accuracy, reason=reason
        )

    def _frozen(self, trial_id: int) -> FrozenTrial:
        return self.study._storage.get_trial(trial_id)

    def _check_supply(self) -> None:
        """Check that the space still yields new candidates.

        Raises: NasError if every point has been tried, or if ``study.max_screened`` candidates in a row were rejected.
        """
        so_far = f"stopped after {self._memory.ledger.finished} of {self.settings.n_trials} trials"
        if self._exhausted():
            raise NasError(
                f"{so_far}: all {self.pricer.space.size} points of space {self.pricer.space.name!r} have been tried. "
                "Widen the space, or lower study.n_trials."
            )
        if self._memory.turned_down >= self.settings.max_screened:
            raise NasError(
                f"{so_far}: the last {self._memory.turned_down} candidates were infeasible or repeats. The space has "
                "little new left under these limits; loosen them, widen the space, or lower study.n_trials."
            )

    def _exhausted(self) -> bool:
        """Whether every point of a small space has been tried."""
        space, ledger = self.pricer.space, self._memory.ledger
        if ledger.total < space.size or ledger.open:
            return False
        every = (trial.params for trial in self.study.get_trials(deepcopy=False))
        complete = (params for params in every if len(params) == len(space.parameters))
        return len({tuple(sorted(params.items())) for params in complete}) >= space.size


def _is_parked(trial: FrozenTrial) -> bool:
    return bool(trial.system_attrs.get(_PARKED))
