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
from nas.study.measuring import Refinement
from nas.study.objective import ObjectiveSettings
from nas.study.plan import SamplerSettings, StudySettings
from nas.study.rows import Outcome, TrialRow
from nas.study.samplers import make_sampler
from nas.study.storage import INTERRUPTED, requeue
from nas.study.trials import (
    at_study_speed,
    distributions,
    finished,
    measured_before,
    record,
    record_measured,
    to_row,
)

_SEEDED: Final = "nas:seeded"
_WAIT_S: Final = 0.5
# Optuna's samplers and its dashboard still read the constraints under this older name.
_LEGACY_CONSTRAINTS: Final = "constraints"

OnTrial = Callable[[TrialRow], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One worker's view of a study. Several workers may run it on the same storage at the same time.

    With a ``refinement``, candidates that pass the limits as predicted are measured and screened again before they
    are trained, and what was measured is the latency that the study counts with.
    """

    study: optuna.Study
    pricer: Pricer
    evaluator: Evaluator
    objective: ObjectiveSettings
    sampler: SamplerSettings
    settings: StudySettings
    refinement: Refinement | None = None

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
            if row is None:
                continue
            if on_trial:
                on_trial(row)
            turned_down = turned_down + 1 if row.outcome in (Outcome.INFEASIBLE, Outcome.DUPLICATE) else 0
            if finished(self.study) < self.settings.n_trials:
                self._check_supply(turned_down)

    def step(self) -> TrialRow | None:
        """One candidate from ask to tell; None if another worker began the last that was wanted a moment before."""
        trials = self.study.get_trials(deepcopy=False)
        turn = sum(trial.user_attrs.get("outcome") != INTERRUPTED for trial in trials)
        self.study.sampler = make_sampler(self.sampler, seed=self.settings.seed, trial=turn)
        trial = self.study.ask(distributions(self.pricer.space.parameters))
        if self._is_surplus(trial):
            requeue(self.study, self._frozen(trial))
            return None
        try:
            return self._evaluate(trial)
        except KeyboardInterrupt:
            if not self._frozen(trial).state.is_finished():
                requeue(self.study, self._frozen(trial))
            raise

    def _is_surplus(self, trial: Trial) -> bool:
        """Whether earlier trials, if all of those under way are trained, make the study complete without ``trial``.

        Two workers may have asked at the same moment for the last that was wanted; the later one steps back.
        """
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        earlier = sum(other.number < trial.number for other in running)
        return bool(finished(self.study) + earlier >= self.settings.n_trials)

    def _evaluate(self, trial: Trial) -> TrialRow:
        try:
            candidate, broken = self._screen(trial)
            if broken:
                how = ", as measured" if "measured_ms" in trial.user_attrs else ""
                return self._close(trial, Outcome.INFEASIBLE, reason=broken + how)
            twin = self._twin(trial, candidate.arch.arch_id)
            if twin is not None:
                return self._close(
                    trial, Outcome.DUPLICATE, twin.user_attrs["accuracy"], f"same as trial {twin.number}"
                )
            evaluation = self.evaluator.evaluate(candidate.arch)
            trial.set_user_attr("cpu_s", round(evaluation.cpu_s, 2))
            return self._close(trial, Outcome.TRAINED, evaluation.accuracy)
        except Exception as error:  # whatever a candidate does to its training, the search goes on
            return self._close(trial, Outcome.FAILED, reason=reason_of(error))

    def _screen(self, trial: Trial) -> tuple[Candidate, str]:
        """The priced candidate, and in words the limits that it breaks."""
        pricer = self.refinement.pricer(self.study) if self.refinement else self.pricer
        candidate = pricer.price(trial.params)
        known = measured_before(self.study, candidate.arch.arch_id) if self.refinement else {}
        record(trial, candidate, has_interval=pricer.predictor.error is not None, latency=known)
        measures = {name: known.get(name, value) for name, value in candidate.measures.items()}
        broken = pricer.constraints.explain(measures)
        if self.refinement and not known and not broken:
            record_measured(trial, at_study_speed(self.study, self.refinement.measure(trial, candidate.arch)))
            measures["latency_ms"] = trial.user_attrs["latency_ms"]
            broken = pricer.constraints.explain(measures)
        self._tell_constraints(trial, measures)
        return candidate, broken

    def _tell_constraints(self, trial: Trial, measures: Mapping[str, float]) -> None:
        """Tell Optuna how far ``measures`` are beyond each limit."""
        violations = self.pricer.constraints.violations(measures)
        known = self._frozen(trial).constraints  # of a trial that was interrupted
        for name, excess in violations.items():
            if name not in known:
                trial.set_constraint(name, excess)
        if violations:
            storage = self.study._storage
            storage.set_trial_system_attr(trial._trial_id, _LEGACY_CONSTRAINTS, list(violations.values()))

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


def reason_of(error: Exception) -> str:
    """One line that says what went wrong with a trial."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:500] if text else type(error).__name__
