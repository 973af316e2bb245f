"""Session of a search: loads its inputs, surveys the space, queues first trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final

import optuna
from optuna.trial import Trial
from rich.console import Console

from nas.arch import zoo
from nas.arch.heads import latency_scope
from nas.arch.spec import ArchSpec
from nas.core.console import print_lines, progress_bar
from nas.core.errors import NasError
from nas.core.formatting import plural
from nas.data.summary import ImageSummary
from nas.estimators.proxy.reduce import Proxy, identical_proxies
from nas.latency.measure.present_speed import present_probe_ms
from nas.latency.measure.system_load import SystemLoad
from nas.latency.speed import speed_of
from nas.latency.store import calibration_command
from nas.methods.search.ask_tell import SearchAskTell
from nas.methods.search.config import SearchPlan
from nas.methods.search.context import SearchContext, search_pricer
from nas.methods.search.latency_check import (
    correct_latencies,
    correction_text,
    is_check_due,
    networks_to_check,
    skip_correction,
)
from nas.methods.search.measurement_notes import new_notes, present_speed_note
from nas.methods.search.pruners import make_pruner
from nas.methods.search.settings import GUIDED
from nas.methods.search.trials.evaluations import EvaluationList
from nas.methods.search.trials.finalists import is_search_complete, most_trials
from nas.methods.search.trials.initial_trials import QUEUED_MARK, queue_initial_trials
from nas.methods.search.trials.prior_evaluations import (
    read_evaluation_lists,
    record_evaluation_lists,
    source_changes,
    stored_counts,
)
from nas.methods.search.trials.warm_start import earlier_networks
from nas.study.candidates import Pricer, Survey, survey
from nas.study.candidates import space_size_text as points
from nas.study.measurement import PredictorRefinement, make_measurer, measure_rows
from nas.study.progress import TrialProgress
from nas.study.session import Pause, StudySession, TrialTimer, is_study_finished, load_session_parts
from nas.study.storage.attributes import system_attributes
from nas.study.storage.opening import claim_study
from nas.study.storage.ownership import AcquireStudy
from nas.study.trial_attributes import (
    LATENCY_SCALE,
    MeasuredLatency,
    count_finished,
    latency_scale,
    trial_records,
)
from nas.study.trial_record import TrialRecord
from nas.training.tasks import small_object_note

_PROXIES_CHECKED: Final = 100
_NOTES_SHOWN: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSession(StudySession):
    """Plan of a search with images, predictor and evaluator loaded."""

    plan: SearchPlan
    pricer: Pricer

    @property
    def context(self) -> SearchContext:
        """Context of the report: everything it needs besides the trials."""
        return SearchContext(plan=self.plan, pricer=self.pricer, **self.context_parts._asdict())

    def find(self) -> optuna.Study | None:
        """The study of the plan in its storage; None if it was not started.

        Raises: NasError as ``StudySession.find``, and where it was started with other sources of earlier evaluations.
        """
        study = StudySession.find(self)  # super() does not work in a slotted dataclass
        if study is not None and self.is_complete(study):
            source_changes(study, self.plan)  # for it is not started, which looks at them
        return study

    def start(self, study: optuna.Study | None, console: Console, acquire: AcquireStudy) -> optuna.Study:
        """Survey the space, print the result, and queue the first trials of ``study``.

        The study is created if it is None.
        """
        is_seeded = study is not None and QUEUED_MARK in system_attributes(study)
        earlier = [] if is_seeded else earlier_networks(self.plan)
        evaluations = [] if is_seeded else read_evaluation_lists(self.plan)
        notes = source_changes(study, self.plan) if study is not None and is_seeded else []
        scale = latency_scale(study) if study is not None else 1.0
        if study is not None and (text := correction_text(study)):
            print_lines(console, f"latency: {text}")
        result = survey_space(replace(self, pricer=replace(self.pricer, latency_scale=scale)), console)
        study = acquire(study or self.open())
        _queue_first(self, study, result, earlier, evaluations)
        if counts := stored_counts(study):
            print_lines(console, f"learning from {counts}", *notes)
        if not self.is_complete(study):
            self._say_present_speed(study, console)
        return study

    def _say_present_speed(self, study: optuna.Study, console: Console) -> None:
        """Print at which speed the machine runs, where its calibration does not know it."""
        speed = speed_of(self.predictor)
        if self.measure is None or speed is None or self.plan.latency.speed == "now":  # then it was measured already
            return
        try:
            probe_ms = present_probe_ms(self.predictor.device)
        except NasError as error:  # the search does not need it
            print_lines(console, f"the present speed of the machine was not measured: {error}")
            return
        print_lines(console, *filter(None, [present_speed_note(study, speed, probe_ms)]))

    def total(self, study: optuna.Study) -> int:
        """Number of trials of a complete study, with those of finalists."""
        return most_trials(study, self.plan.estimator, self.plan.study)

    def is_complete(self, study: optuna.Study) -> bool:
        """Whether ``study`` has all its trials."""
        return is_search_complete(study, self.plan.estimator, self.plan.study)

    def check_latencies(self, study: optuna.Study, say: Callable[[str], object], pause: Pause = nullcontext) -> None:
        """Measure the best networks once, and correct predictions if all are off alike.

        Not with ``latency.refine``, which learns from every measurement: there it says what they show of the machine.
        """
        plan = self.plan
        if self.measure is not None and plan.latency.refine:
            self._say_notes(study, say)
            return
        if self.measure is None or not is_check_due(study, plan.study.n_trials):
            return
        rows = networks_to_check(trial_records(study), plan.objective, plan.constraints.latency_ms)
        if not rows:
            return
        say(f"measuring {plural(len(rows), 'network')} to check the predicted latencies")
        try:
            self.measure_networks(rows, study, say, pause)
        except NasError as error:  # a machine too busy to measure must not end the search
            say(f"the predicted latencies were not checked: {error}")
        if LATENCY_SCALE not in study.user_attrs:
            skip_correction(study)

    def measure_networks(
        self,
        rows: Sequence[TrialRecord],
        study: optuna.Study,
        say: Callable[[str], object],
        pause: Pause = nullcontext,
        *,
        besides: Sequence[ArchSpec] = (),
    ) -> None:
        """Measure the networks of ``rows``, and correct predictions by them.

        All that ``study`` has measured count, but for those ``besides``: networks of no trial, measured in turn with
        the others. Raises: NasError if the machine is too unstable to measure.
        """
        timer, others = self.measure, None
        if timer is None or not rows:
            return

        def measure(archs: Sequence[ArchSpec]) -> list[MeasuredLatency]:
            nonlocal others
            with pause():  # not while the storage is written: a worker that is stopped may hold its lock
                before = SystemLoad.now()
                measured = timer(archs)
                others = SystemLoad.now().others_since(before)
            return measured

        measure_rows(rows, study, self.pricer, measure, besides)
        self._say_notes(study, say)
        if self.plan.latency.refine:  # it has learned from every measurement already
            return
        recalibration = calibration_command(self.predictor.device, self.plan.runs_dir)
        if text := correct_latencies(study, others, recalibration):
            say(text)

    def _say_notes(self, study: optuna.Study, say: Callable[[str], object]) -> None:
        for line in new_notes(study, self.predictor, self.plan.latency):
            say(line)

    def progress(self, study: optuna.Study, console: Console) -> TrialProgress:
        """Terminal progress of ``study``."""
        score, done = self.plan.objective.score, count_finished(study)
        return TrialProgress(console, score, total=self.total(study), done=done)

    def ask_tell(self, study: optuna.Study, *, timer: TrialTimer | None = None, worker: str = "") -> SearchAskTell:
        """Ask-and-tell interface to ``study`` for one worker.

        ``timer`` measures networks elsewhere than in this process.
        """
        plan = self.plan
        return SearchAskTell(
            study=study,
            pricer=self.pricer,
            objective=plan.objective,
            sampler=plan.sampler,
            settings=plan.study,
            epochs=plan.proxy.epochs,
            refinement=PredictorRefinement(self.pricer, timer or self._measure_trial) if plan.latency.refine else None,
            pruner=make_pruner(plan.pruner, plan.objective, epochs=plan.proxy.epochs),
            worker=worker,
            estimator=plan.estimator,
        )

    def _measure_trial(self, _: Trial, arch: ArchSpec) -> MeasuredLatency:
        if self.measure is None:
            raise NasError("latency.refine true: there is nothing to measure.")
        return self.measure([arch])[0]


def prepare_search(plan: SearchPlan, console: Console) -> SearchSession:
    """Load the images and the latency predictor.

    The predictor is calibrated first if this device never was. Raises: NasError.
    """
    parts = load_session_parts(plan, console, keep_weights=True, estimator=plan.estimator, space=plan.space)
    return SearchSession(
        plan=plan,
        pricer=search_pricer(plan, parts.predictor, ImageSummary.of(parts.data)),
        measure=make_measurer(plan.latency, parts.predictor),
        **parts._asdict(),
    )


def survey_space(session: SearchSession, console: Console) -> Survey:
    """Survey the space under the limits, and print the result.

    Raises: NasError where no sampled candidate is feasible.
    """
    plan = session.plan
    with progress_bar(console, f"survey of space {plan.space.name}") as progress:
        result = survey(session.pricer, seed=plan.study.seed, progress=progress)
    descent = "" if result.feasible_sampled else ", 1 was found from the closest by changing one choice at a time"
    print_lines(
        console,
        f"space {plan.space.name}: {points(plan.space)} points; {result.feasible_sampled} of {result.sampled} sampled "
        f"meet the limits ({plan.constraints}){descent}; latency {result.fastest_ms:.2f} to {result.slowest_ms:.2f} ms",
    )
    if scope := latency_scope(plan.task):
        print_lines(console, f"latency, MACs and parameters are of {scope}")
    proxies = [session.evaluator.proxy(candidate.arch) for candidate in result.feasible[:_PROXIES_CHECKED]]
    print_lines(console, f"{proxies[0].realised_note} (first candidate)")
    small = small_object_note(session.evaluator.data, result.feasible[0].arch.head)
    print_lines(console, *(f"note: {note}" for note in [*_proxy_notes(proxies), *filter(None, [small])]))
    return result


def _proxy_notes(proxies: Sequence[Proxy]) -> list[str]:
    """Warnings of the sampled proxies, and how many candidates share a proxy."""
    by_kind = {warning.partition(": ")[2] or warning: warning for proxy in proxies for warning in proxy.warnings}
    notes = list(by_kind.values())[:_NOTES_SHOWN]
    merged = sum(len(group) for group in identical_proxies(proxies))
    if merged:
        notes.append(
            f"{merged} of {len(proxies)} sampled candidates share a proxy with another: training cannot distinguish "
            "them; raise proxy.width_multiplier or proxy.depth_multiplier"
        )
    return notes


def _queue_first(
    session: SearchSession,
    study: optuna.Study,
    result: Survey,
    earlier: Sequence[Mapping[str, Any]],
    evaluations: Sequence[EvaluationList],
) -> None:
    """Store evaluations and queue the first trials of a new study; write its manifest."""
    plan = session.plan
    published: dict[str, Mapping[str, Any]] = {}
    for name in plan.space.published if plan.study.seed_published else ():
        try:
            published[name] = plan.space.encode(zoo.get(name))
        except NasError:
            continue  # a space narrowed on the command line may not contain it
        if plan.sampler.name == GUIDED and session.pricer.worst(session.pricer.price(published[name])) > 0:
            del published[name]  # with this sampler no trial is infeasible
    claim_study(study, plan.folder, plan.storage_url, session.identity)
    anchors = plan.estimator.anchors - len(published) if plan.estimator.is_scoring else 0
    drawn = 0 if plan.sampler.name == GUIDED else plan.sampler.startup  # it draws its own
    startup = max(drawn, anchors)
    if QUEUED_MARK not in system_attributes(study):  # which another process may have set meanwhile
        record_evaluation_lists(study, plan, evaluations)
    queue_initial_trials(study, result, published=published, startup=startup, earlier=earlier)
    session.write_manifest()


def is_search_finished(plan: SearchPlan) -> bool:
    """Whether the search of ``plan`` has all its trials and its report.

    False for a study of another plan.
    """
    return is_study_finished(plan, lambda study: is_search_complete(study, plan.estimator, plan.study))
