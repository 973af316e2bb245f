"""Ask-and-tell loop of an adaptation.

The losses of a step's proposals come first, then the fine-tuning of the best ones together, then the next step.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.estimators.base import Evaluation, ParentNetwork
from nas.methods.netadapt.proposals import Change, PriceNetworks, Proposal, changed, propose, with_changes
from nas.methods.netadapt.selection import ScoredTrial, combine, loss_of, ordered
from nas.methods.netadapt.settings import NetAdaptSettings
from nas.methods.netadapt.state import (
    Phase,
    StepTrial,
    planned,
    queue_trials,
    record_step,
    start_queued_trial,
    step_trial,
    steps_taken,
    trials_at,
)
from nas.methods.netadapt.step_files import StepFiles
from nas.study import trial_loop
from nas.study.storage.optuna_private import storage_of, trial_id
from nas.study.storage.trial_draft import TrialDraft
from nas.study.trial_attributes import WORKER, accuracy_facts, record_candidate
from nas.study.trial_loop import Idle, TrialTask
from nas.study.trial_record import Outcome, TrialRecord
from nas.training.results import EpochResult

_UNCHANGED: Final = "unchanged"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetAdaptAskTell:
    """One worker's ask-and-tell interface to an adaptation.

    Several workers may run it on the same storage at the same time.

    ``seed``: the network to begin with; ``files``: networks and weights of the steps. ``measure`` is to become at most
    ``target``. ``delta``: least reduction of a proposal, ``step``: of a step, in the unit of the measure. ``least_px``:
    smallest input side of a proposal. ``trains_seed``: the seed network has no weights yet. ``worker`` is written into
    the trials that it takes.
    """

    study: optuna.Study
    seed: ArchSpec
    files: StepFiles
    price: PriceNetworks
    settings: NetAdaptSettings
    measure: str
    target: float
    delta: float
    step: float
    least_px: int
    trains_seed: bool
    has_interval: bool
    worker: str = ""

    def ask(self) -> TrialTask | TrialRecord | Idle:
        """Next trial of the step, or ``Idle`` if there is none for this worker.

        When all trials of a phase have ended, the next is planned. Raises: NasError where nothing of a step came to a
        result, or its files are lost.
        """
        while not self.is_over:
            found = start_queued_trial(self.study, self.most_steps)
            if found is not None:
                draft, trial = found
                try:
                    return self._start(draft, trial)
                except KeyboardInterrupt:
                    trial_loop.release_trial(self.study, trial_id(draft.trial))
                    raise
            if self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                return Idle.WAIT  # what follows depends on the trials that are still running
            self.prepare_next()
        return Idle.OVER

    def report_epoch(self, task: TrialTask, result: EpochResult) -> str | None:
        """Record the accuracy after an epoch of the seed network; nothing is stopped."""
        storage_of(self.study).set_trial_intermediate_value(task.trial_id, result.epoch, result.accuracy)
        return None

    def tell(self, task: TrialTask, evaluation: Evaluation) -> TrialRecord:
        """Finish the trial with its loss, and its validation accuracy if it was trained."""
        trial = storage_of(self.study).get_trial(task.trial_id)
        if evaluation.accuracy is None:
            facts = accuracy_facts(evaluation)
            return trial_loop.finish_trial(self.study, trial, Outcome.SCORED, facts=facts)
        return trial_loop.finish_trained(self.study, trial, evaluation, (evaluation.accuracy,))

    def release(self) -> None:
        """Do nothing: no trials are reserved between calls of ``ask``."""

    def prepare_next(self) -> None:
        """Plan what follows on the trials that have ended; queue what a kill left out.

        Two workers may do so at the same time and do the same; a trial that is queued twice is tried once.
        """
        taken, plan = steps_taken(self.study), planned(self.study)
        step = len(taken)
        if plan is None or plan.step < step:
            queue_trials(self.study, self._trials(step, Phase.LOSS if step else Phase.SEED))
        elif len({step_trial(one) for one in trials_at(self.study, step, plan.phase)}) < plan.trials:
            queue_trials(self.study, self._trials(step, plan.phase))
        elif plan.phase is Phase.LOSS:
            queue_trials(self.study, self._trials(step, Phase.FINE_TUNING))
        else:
            self._keep_best(taken, plan.phase)

    @property
    def is_over(self) -> bool:
        """Whether the network of the last step meets the target."""
        return bool(steps_taken(self.study)) and self.cost <= self.target

    @property
    def cost(self) -> float:
        """The measure of the network of the last step."""
        return self._cost_of(self._current)

    @property
    def most_steps(self) -> int:
        """Upper bound on the number of steps."""
        return max(1, ceil((self._cost_of(self.seed) - self.target) / self.step))

    @property
    def steps_left(self) -> int:
        """Upper bound on the number of steps to come, the present one included."""
        return max(1, ceil((self.cost - self.target) / self.step))

    @property
    def next_proposals(self) -> list[Proposal]:
        """Proposals of the present step."""
        arch = self._current
        limit = max(self._cost_of(arch) - self.delta, self.target)
        return propose(arch, self.price, self.measure, limit, self.settings, self.least_px)

    @property
    def _current(self) -> ArchSpec:
        """Network of the last step."""
        steps = len(steps_taken(self.study))
        return self.files.arch(steps - 1) if steps else self.seed

    def _trials(self, step: int, phase: Phase) -> list[StepTrial]:
        if phase is Phase.SEED:
            return [StepTrial(0, Phase.SEED, (), "seed network")]
        return self._loss_trials(step) if phase is Phase.LOSS else self._fine_tuning_trials(step)

    def _loss_trials(self, step: int) -> list[StepTrial]:
        """The network of the step before, and each proposal.

        Raises: NasError without proposals.
        """
        proposals = self.next_proposals
        if not proposals:
            raise NasError(
                f"step {step}: no single change cuts {self.measure} by {self.delta:.3g}; the network of step "
                f"{step - 1} is {self.files.spec_path(step - 1)}. Lower netadapt.delta or netadapt.divisor, or add to "
                "netadapt.kinds, in a study of another name."
            )
        changes = [((), _UNCHANGED), *(((one.change,), one.label) for one in proposals)]
        return [StepTrial(step, Phase.LOSS, found, label) for found, label in changes]

    def _fine_tuning_trials(self, step: int) -> list[StepTrial]:
        """Networks that join the best proposals, each beginning with another one.

        Raises: NasError if no proposal has a loss.
        """
        trials = trials_at(self.study, step, Phase.LOSS)
        proposals = self._ordered(trials, step)
        if not proposals:
            raise self._nothing_found(step, trials)
        current = self.files.arch(step - 1)
        enough = max(self._cost_of(current) - self.step, self.target)
        found: dict[str, StepTrial] = {}
        for first in range(min(self.settings.fine_tuned, len(proposals))):
            changes, arch = combine(current, proposals, self._change, lambda one: self._cost_of(one) <= enough, first)
            label = "; ".join(one.label for one in changes)
            found.setdefault(arch.arch_id, StepTrial(step, Phase.FINE_TUNING, changes, label))
        return list(found.values())

    def _keep_best(self, taken: list[int], phase: Phase) -> None:
        """Keep the best fine-tuned network, or the seed network, as the step's."""
        step = len(taken)
        trials = trials_at(self.study, step, phase)
        trained = [trial for trial in trials if trial.user_attrs.get("outcome") == Outcome.TRAINED]
        if not trained:
            raise self._nothing_found(step, trials)
        number = self._ordered(trained, step)[0].number if step else trained[0].number
        best = next(trial for trial in trained if trial.number == number)
        self.files.keep(step, self._network(best))
        record_step(self.study, [*taken, number])
        self.files.discard_others()

    def _ordered(self, trials: list[FrozenTrial], step: int) -> list[ScoredTrial]:
        """``trials`` with a loss, the best first.

        Raises: NasError if the network of the step before has none.
        """
        unchanged = [one for one in trials_at(self.study, step, Phase.LOSS) if not step_trial(one).changes]
        references = [loss for one in unchanged if (loss := loss_of(one)) is not None]
        if not references:  # an increase over nothing would order the proposals by what they save alone
            raise self._nothing_found(step, unchanged[:1])
        before = self._cost_of(self.files.arch(step - 1))
        return ordered(trials, references[0], self.measure, before, self.settings.criterion)

    def _nothing_found(self, step: int, trials: list[FrozenTrial]) -> NasError:
        reasons = [reason for trial in trials if (reason := trial.user_attrs.get("reason"))]
        because = f": {reasons[0].removesuffix('.')}" if reasons else ""
        if step == 0:
            return NasError(f"the network to begin with could not be trained{because}.")
        what = f"network {step_trial(trials[0]).label!r} came to no loss"
        if trials[1:]:
            what = f"none of {len(trials)} networks came to a loss"
        good = self.files.weights_path(step - 1)
        return NasError(f"step {step}: {what}{because}. The last good weights: {good}")

    def _cost_of(self, arch: ArchSpec) -> float:
        (candidate,) = self.price([arch])
        return candidate.measures[self.measure]

    def _change(self, arch: ArchSpec, change: Change) -> ArchSpec:
        return changed(arch, change, self.settings, self.least_px)

    def _network(self, trial: FrozenTrial | Trial) -> ArchSpec:
        place = step_trial(trial)
        arch = self.files.arch(place.step - 1) if place.step else self.seed
        return with_changes(arch, place.changes, self.settings, self.least_px)

    def _start(self, draft: TrialDraft, trial: Trial) -> TrialTask | TrialRecord:
        """Task of ``trial``, or its record if an earlier trial is the same."""
        if self.worker:
            trial.set_user_attr(WORKER, self.worker)
        place, arch = step_trial(trial), self._network(trial)
        (candidate,) = self.price([arch])
        record_candidate(trial, candidate, has_interval=self.has_interval)
        stored = draft.store()
        trials = trials_at(self.study, place.step, place.phase)
        same = [one for one in trials if step_trial(one) == place and one.state is not TrialState.FAIL]
        if same[0].number < trial.number:
            reason = "two workers queued the same trial"
            return trial_loop.finish_trial(self.study, stored, Outcome.DUPLICATE, reason=reason)
        is_loss = place.phase is Phase.LOSS
        return TrialTask(
            number=trial.number,
            trial_id=trial_id(stored),
            arch=arch,
            repeat=place.step,
            score=is_loss,
            train=not is_loss,
            parent=self._parent(place.step),
        )

    def _parent(self, step: int) -> ParentNetwork | None:
        """Network whose weights the trials of ``step`` begin with."""
        if step:
            return ParentNetwork(arch=self.files.arch(step - 1), weights=self.files.weights(step - 1))
        return None if self.trains_seed else ParentNetwork(arch=self.seed, weights=self.files.seed_weights())
