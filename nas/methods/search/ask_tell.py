"""The rules of a search: ask Optuna for a genotype, screen it, hand it out for training, tell what came out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import optuna
from optuna.trial import FrozenTrial, Trial

from nas.core.errors import NasError
from nas.estimators.base import Evaluation
from nas.methods.search.samplers import FixedSpaceSampler, make_sampler
from nas.methods.search.screening import Screening
from nas.methods.search.trial_index import TrialIndex
from nas.study import trial_loop
from nas.study.candidates import Pricer
from nas.study.config import SamplerSettings, StudySettings
from nas.study.measurement import PredictorRefinement
from nas.study.objective import ObjectiveSettings
from nas.study.storage.optuna_private import storage_of, trial_id
from nas.study.trial_attributes import WORKER, distributions
from nas.study.trial_loop import Idle, TrialTask, failure_reason
from nas.study.trial_record import Outcome, TrialRecord
from nas.training.results import EpochResult

_PARKED: Final = "nas:parked"


@dataclass(slots=True)
class _Memory:
    """What one worker remembers between its questions.

    ``ledger``: the study as it was read last. ``parked``: its trials whose network another worker is training.
    ``turned_down``: infeasible candidates and repeats since its last training.
    """

    ledger: TrialIndex = field(default_factory=TrialIndex)
    parked: list[TrialTask] = field(default_factory=list)
    turned_down: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchAskTell:
    """One worker's view of a study. Several workers may ask and tell on the same storage at the same time.

    With a ``refinement``, candidates that pass the limits as predicted are measured and screened again before they
    are trained, and what was measured is the latency that the study counts with. ``pruner`` is asked after each of
    the ``epochs`` but the last whether the training is to go on. ``worker`` is written into the trials that it takes.
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
        """The next candidate: a training, a trial that was turned down, or that there is none.

        Raises: NasError if the space has nothing new left to offer under the limits.
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
        """Write the epoch into the trial as its intermediate value; why to stop there, None to go on."""
        storage = storage_of(self.study)
        latency_ms = storage.get_trial(task.trial_id).user_attrs["latency_ms"]
        value = self.objective.values(result.accuracy, latency_ms)[0]
        storage.set_trial_intermediate_value(task.trial_id, result.epoch, value)
        if self.pruner is None or result.epoch >= self.epochs:
            return None
        if self.pruner.prune(self.study, storage.get_trial(task.trial_id)):
            return f"{100 * result.accuracy:.1f}% after epoch {result.epoch}, behind others there"
        return None

    def tell(self, task: TrialTask, evaluation: Evaluation) -> TrialRecord:
        """Tell the accuracy, with the latency that was known before."""
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
        """The study as it is now."""
        self._memory.ledger.read(self.study)
        return self._memory.ledger

    def _asked(self) -> TrialTask | TrialRecord | Idle:
        """One candidate of the sampler, screened."""
        turn = self._memory.ledger.total - self._memory.ledger.interrupted
        space = distributions(self.pricer.space.parameters)
        self.study.sampler = FixedSpaceSampler(make_sampler(self.sampler, seed=self.settings.seed, trial=turn), space)
        trial = self.study.ask(space)
        try:
            if self.worker:
                trial.set_user_attr(WORKER, self.worker)
            if self._is_surplus(trial):
                trial_loop.release_trial(self.study, trial_id(trial))
                return Idle.WAIT
            return self._screened(trial)
        except KeyboardInterrupt:
            trial_loop.release_trial(self.study, trial_id(trial))
            raise

    def _is_surplus(self, trial: Trial) -> bool:
        """Whether earlier trials, if all that are open are trained, make the study complete without ``trial``.

        Two workers may have asked at the same moment for the last that was wanted; the later one steps back. An earlier
        one of a worker that was killed may just have been queued again: it comes first.
        """
        ledger = self._read()
        earlier = [number for number in ledger.open if number < trial.number]
        return ledger.finished + len(earlier) >= self.settings.n_trials

    def _screened(self, trial: Trial) -> TrialTask | TrialRecord | Idle:
        """The training that ``trial`` stands for, unless it breaks a limit or was trained before."""
        screen = Screening(study=self.study, pricer=self.pricer, refinement=self.refinement)
        try:
            arch, broken = screen.judge(trial)
        except Exception as error:  # a network that cannot be decoded or measured is one failed trial
            return trial_loop.finish_trial(
                self.study, self._frozen(trial_id(trial)), Outcome.FAILED, reason=failure_reason(error)
            )
        if broken:
            return trial_loop.finish_trial(self.study, self._frozen(trial_id(trial)), Outcome.INFEASIBLE, reason=broken)
        task = TrialTask(number=trial.number, trial_id=trial_id(trial), arch=arch)
        self._read()
        found = self._first_of_its_kind(task)
        if found is None:
            self._memory.parked.append(task)
            return Idle.WAIT
        return found

    def _unparked(self) -> TrialTask | TrialRecord | None:
        """A parked candidate whose twin's training has ended."""
        for task in self._memory.parked:
            found = self._first_of_its_kind(task)
            if found is not None:
                self._memory.parked.remove(task)
                return found
        return None

    def _first_of_its_kind(self, task: TrialTask) -> TrialTask | TrialRecord | None:
        """``task``, or if another trial trained or stopped its network what came out; None while one trains it.

        A trial under way whose network is written into it has a claim on that network unless it is marked as parked.
        Each worker makes its claim before it looks for others and gives way to any, so that no two of them train a
        network at the same time, whichever trial was killed and taken again meanwhile. Of those that gave way the
        earliest trial claims again.
        """
        ledger = self._memory.ledger
        twin = ledger.tried.get(task.arch.arch_id)
        if twin is not None:
            return self._repeated(task, twin)
        is_parked = _is_parked(ledger.open[task.number])
        if self._is_claimed(task):
            if not is_parked:
                storage_of(self.study).set_trial_system_attr(task.trial_id, _PARKED, True)
            return None
        if not is_parked:
            return task
        storage_of(self.study).set_trial_system_attr(task.trial_id, _PARKED, False)
        self._read()
        return self._first_of_its_kind(task)

    def _is_claimed(self, task: TrialTask) -> bool:
        """Whether another trial under way trains the network of ``task``, or comes before it."""
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
        return storage_of(self.study).get_trial(trial_id)

    def _check_supply(self) -> None:
        """Raise NasError if the space is used up, or the candidates turned down in a row say that it nearly is."""
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
        """Whether every point of a small space has been dealt with."""
        space, ledger = self.pricer.space, self._memory.ledger
        if ledger.total < space.size or ledger.open:
            return False
        every = (trial.params for trial in self.study.get_trials(deepcopy=False))
        complete = (params for params in every if len(params) == len(space.parameters))
        return len({tuple(sorted(params.items())) for params in complete}) >= space.size


def _is_parked(trial: FrozenTrial) -> bool:
    return bool(trial.system_attrs.get(_PARKED))
