"""The search loop: ask Optuna for a genotype, screen it, train what is worth it, tell what came out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from nas.arch.errors import NasError
from nas.study.candidates import Candidate, Pricer, Survey
from nas.study.evaluate import Evaluator
from nas.study.objective import ObjectiveSettings
from nas.study.plan import SamplerSettings, StudySettings
from nas.study.rows import Outcome, TrialRow
from nas.study.samplers import make_sampler
from nas.study.storage import INTERRUPTED, requeue

_SEEDED: Final = "nas:seeded"
_WAIT_S: Final = 0.5
# Optuna's samplers and its dashboard still read the constraints under this older name.
_LEGACY_CONSTRAINTS: Final = "constraints"

OnTrial = Callable[[TrialRow], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One worker's view of a study. Several workers may run it on the same storage at the same time."""

    study: optuna.Study
    pricer: Pricer
    evaluator: Evaluator
    objective: ObjectiveSettings
    sampler: SamplerSettings
    settings: StudySettings

    def run(self, on_trial: OnTrial | None = None) -> None:
        """Ask, screen, train and tell until the study has its trials.

        An exception in a candidate's training fails that trial with its reason and the search goes on. A
        KeyboardInterrupt queues the unfinished candidate again and leaves. Raises: NasError if the space has nothing
        new left to offer under the limits.
        """
        turned_down = 0
        while (done := finished(self.study)) < self.settings.n_trials:
            running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if done + len(running) >= self.settings.n_trials:
                time.sleep(_WAIT_S)  # other workers hold the last trials; one of theirs may yet be turned down
                continue
            row = self.step()
            if on_trial:
                on_trial(row)
            turned_down = turned_down + 1 if row.outcome in (Outcome.INFEASIBLE, Outcome.DUPLICATE) else 0
            if finished(self.study) < self.settings.n_trials:
                self._check_supply(turned_down)

    def step(self) -> TrialRow:
        """One candidate from ask to tell."""
        trials = self.study.get_trials(deepcopy=False)
        turn = sum(trial.user_attrs.get("outcome") != INTERRUPTED for trial in trials)
        self.study.sampler = make_sampler(self.sampler, seed=self.settings.seed, trial=turn)
        trial = self.study.ask(distributions(self.pricer.space.parameters))
        try:
            return self._evaluate(trial)
        except KeyboardInterrupt:
            if not self._frozen(trial).state.is_finished():
                requeue(self.study, self._frozen(trial))
            raise

    def _evaluate(self, trial: Trial) -> TrialRow:
        try:
            candidate = self.pricer.price(trial.params)
            record(trial, candidate, has_interval=self.pricer.predictor.error is not None)
            broken = self._screen(trial, candidate)
            if broken:
                return self._close(trial, Outcome.INFEASIBLE, reason=broken)
            twin = self._twin(trial, candidate.arch.arch_id)
            if twin is not None:
                return self._close(
                    trial, Outcome.DUPLICATE, twin.user_attrs["accuracy"], f"same as trial {twin.number}"
                )
            evaluation = self.evaluator.evaluate(candidate.arch)
            trial.set_user_attr("cpu_s", round(evaluation.cpu_s, 2))
            return self._close(trial, Outcome.TRAINED, evaluation.accuracy)
        except Exception as error:  # whatever a candidate does to its training, the search goes on
            return self._close(trial, Outcome.FAILED, reason=_reason(error))

    def _screen(self, trial: Trial, candidate: Candidate) -> str:
        """Tell Optuna how far the candidate is beyond each limit; the broken limits in words."""
        violations = self.pricer.constraints.violations(candidate.measures)
        known = self._frozen(trial).constraints  # of a trial that was interrupted
        for name, excess in violations.items():
            if name not in known:
                trial.set_constraint(name, excess)
        if violations:
            storage = self.study._storage
            storage.set_trial_system_attr(trial._trial_id, _LEGACY_CONSTRAINTS, list(violations.values()))
        return self.pricer.constraints.explain(candidate.measures)

    def _twin(self, trial: Trial, arch_id: str) -> FrozenTrial | None:
        """An earlier trained trial of the same network; one that another worker is training now is waited for."""
        while True:
            same = [
                other
                for other in self.study.get_trials(deepcopy=False)
                if other.number != trial.number and other.user_attrs.get("arch_id") == arch_id
            ]
            for other in same:
                if other.user_attrs.get("outcome") == Outcome.TRAINED and other.state is TrialState.COMPLETE:
                    return other
            if not any(other.state is TrialState.RUNNING and other.number < trial.number for other in same):
                return None
            time.sleep(_WAIT_S)

    def _close(self, trial: Trial, outcome: Outcome, accuracy: float | None = None, reason: str = "") -> TrialRow:
        if reason:
            trial.set_user_attr("reason", reason)
        if accuracy is not None:
            trial.set_user_attr("accuracy", accuracy)
        trial.set_user_attr("outcome", outcome.value)
        if outcome is Outcome.FAILED:
            self.study.tell(trial, state=TrialState.FAIL)
        elif outcome is Outcome.INFEASIBLE:
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            latency_ms = trial.user_attrs["latency_ms"]
            self.study.tell(trial, list(self.objective.values(accuracy or 0.0, latency_ms)))
        return to_row(self._frozen(trial))

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return self.study._storage.get_trial(trial._trial_id)

    def _check_supply(self, turned_down: int) -> None:
        """Raise NasError if the space is used up, or the last ``turned_down`` candidates say that it nearly is."""
        so_far = f"stopped after {finished(self.study)} of {self.settings.n_trials} trials"
        if self._exhausted():
            raise NasError(
                f"{so_far}: all {self.pricer.space.size} points of space {self.pricer.space.name!r} have been tried. "
                "Widen the space, or lower study.n_trials."
            )
        if turned_down >= self.settings.max_screened:
            raise NasError(
                f"{so_far}: the last {turned_down} candidates were infeasible or repeats. The space has little new "
                "left under these limits; loosen them, widen the space, or lower study.n_trials."
            )

    def _exhausted(self) -> bool:
        """Whether every point of a small space has been dealt with."""
        space, trials = self.pricer.space, self.study.get_trials(deepcopy=False)
        if len(trials) < space.size or any(not trial.state.is_finished() for trial in trials):
            return False
        complete = (trial.params for trial in trials if len(trial.params) == len(space.parameters))
        return len({tuple(sorted(params.items())) for params in complete}) >= space.size


def seed_study(
    study: optuna.Study, survey: Survey, *, published: Mapping[str, Mapping[str, Any]], startup: int
) -> None:
    """Queue the first trials of a new study, whatever their number, so that extending it later changes nothing.

    These are the ``published`` genotypes by name, as baselines, then up to ``startup`` different feasible networks
    of the survey.
    """
    if study.user_attrs.get(_SEEDED):
        return
    for name, genotype in published.items():
        study.enqueue_trial(dict(genotype), user_attrs={"published": name}, skip_if_exists=True)
    first: dict[str, Candidate] = {}
    for candidate in survey.feasible:
        first.setdefault(candidate.arch.arch_id, candidate)
    for candidate in list(first.values())[:startup]:
        study.enqueue_trial(dict(candidate.genotype), skip_if_exists=True)
    study.set_user_attr(_SEEDED, True)


def distributions(parameters: Mapping[str, tuple[Any, ...]]) -> dict[str, optuna.distributions.BaseDistribution]:
    """Optuna's distributions of a space's parameters."""
    return {name: optuna.distributions.CategoricalDistribution(choices) for name, choices in parameters.items()}


def finished(study: optuna.Study) -> int:
    """Trials that count: trained ones and those that failed by themselves."""
    counted = (Outcome.TRAINED.value, Outcome.FAILED.value)
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))
    return sum(trial.user_attrs.get("outcome") in counted for trial in trials)


def record(trial: Trial, candidate: Candidate, *, has_interval: bool) -> None:
    """Write what is known before training into the trial, as scalars that dashboards show.

    A predictor that was never held against measurements has no interval worth showing.
    """
    trial.set_user_attr("arch_id", candidate.arch.arch_id)
    trial.set_user_attr("blocks", "; ".join(" ".join(stage) for stage in candidate.arch.strings))
    for name, value in candidate.measures.items():
        trial.set_user_attr(name, round(value, 6))
    if has_interval:
        trial.set_user_attr("latency_low_ms", round(candidate.latency.low_ms, 6))
        trial.set_user_attr("latency_high_ms", round(candidate.latency.high_ms, 6))


def to_row(trial: FrozenTrial) -> TrialRow:
    """A trial as a row of the record."""
    attrs = trial.user_attrs
    outcome = attrs.get("outcome", Outcome.RUNNING.value)
    keys = (
        "accuracy", "latency_ms", "latency_low_ms", "latency_high_ms", "macs_m", "params_m", "peak_memory_mb", "cpu_s",
    )  # fmt: skip
    return TrialRow(
        number=trial.number,
        outcome=Outcome.FAILED if outcome == INTERRUPTED else Outcome(outcome),
        arch_id=attrs.get("arch_id", ""),
        reason=attrs.get("reason", ""),
        blocks=attrs.get("blocks", ""),
        genotype=dict(trial.params),
        **{key: attrs.get(key) for key in keys},
    )


def to_rows(study: optuna.Study) -> list[TrialRow]:
    """All trials that were begun, oldest first; queued ones are left out."""
    trials = study.get_trials(deepcopy=False)
    return [to_row(trial) for trial in trials if trial.state is not TrialState.WAITING]


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:500] if text else type(error).__name__
