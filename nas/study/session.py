"""A search before its first trial: what is loaded, looked at and queued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import optuna
from optuna.trial import Trial
from rich.console import Console

from nas.arch import zoo
from nas.arch.errors import NasError
from nas.arch.spec import ArchSpec
from nas.latency.predictor import LatencyPredictor, error_text
from nas.latency.store import load
from nas.proxy.data import ImageData
from nas.proxy.data import load as load_data
from nas.proxy.reduce import Proxy, indistinguishable
from nas.study.background import Background, pricer_of
from nas.study.begun import PREDICTOR_FILE, Images, versions
from nas.study.calibrating import find_or_calibrate
from nas.study.candidates import Pricer, Space, Survey, survey
from nas.study.earlier import earlier_networks
from nas.study.evaluate import ProxyEvaluator
from nas.study.internals import internals
from nas.study.kept import KeptSession, reached
from nas.study.lock import Hold
from nas.study.measuring import Measurer, Refinement, measurer
from nas.study.patience import Patience
from nas.study.plan import Plan
from nas.study.progress import TrialProgress, bar, say
from nas.study.pruning import make_pruner
from nas.study.search import Search
from nas.study.search_plan import SearchPlan
from nas.study.seeding import SEEDED, seed_study
from nas.study.storage import claim
from nas.study.trials import Measured, finished
from nas.study.work import Timed

_PROXIES_CHECKED: Final = 100
_NOTES_SHOWN: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(KeptSession):
    """A plan with everything heavy loaded; each worker process makes its own.

    ``measure``: times networks on the predictor's device; None where that is not this machine.
    """

    plan: SearchPlan
    data: ImageData
    predictor: LatencyPredictor
    pricer: Pricer
    evaluator: ProxyEvaluator
    measure: Measurer | None
    patience: Patience

    @property
    def background(self) -> Background:
        """What its report has to know besides the trials."""
        return Background(
            plan=self.plan,
            images=Images.of(self.data),
            versions=versions(),
            pricer=self.pricer,
            proxy_of=self.evaluator.proxy,
        )

    def begin(self, study: optuna.Study | None, console: Console, hold: Hold) -> optuna.Study:
        """Survey the space, say what to expect, and queue the first trials of ``study``, made where there is none."""
        is_seeded = study is not None and SEEDED in internals(study)
        earlier = [] if is_seeded else earlier_networks(self.plan)
        found = look_ahead(self, console)
        study = hold(study or self.open())
        _queue_first(self, study, found, earlier)
        return study

    def total(self, _: optuna.Study) -> int:
        """Trials that a study of this plan has in the end."""
        return self.plan.study.n_trials

    def is_complete(self, study: optuna.Study) -> bool:
        """Whether ``study`` has all its trials."""
        return finished(study) >= self.plan.study.n_trials

    def progress(self, study: optuna.Study, console: Console) -> TrialProgress:
        """What a person sees while ``study`` runs."""
        objective, total = self.plan.objective, self.plan.study.n_trials
        return TrialProgress(console, objective.score, total=total, done=finished(study))

    def tasks(self, study: optuna.Study, *, timed: Timed | None = None, worker: str = "") -> Search:
        """The search on ``study``; ``timed`` measures a network somewhere else than in this process."""
        plan = self.plan
        return Search(
            study=study,
            pricer=self.pricer,
            objective=plan.objective,
            sampler=plan.sampler,
            settings=plan.study,
            epochs=plan.proxy.epochs,
            refinement=Refinement(self.pricer, timed or self._timed) if plan.latency.refine else None,
            pruner=make_pruner(plan.pruner, plan.objective, epochs=plan.proxy.epochs),
            worker=worker,
        )

    def _timed(self, _: Trial, arch: ArchSpec) -> Measured:
        if self.measure is None:
            raise NasError("latency.refine true: there is nothing to measure.")
        return self.measure([arch])[0]


def prepare(plan: SearchPlan, console: Console) -> Session:
    """Load the images and the latency predictor (calibrated now if this device never was)."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    patience = reached(plan, console)
    with bar(console, f"images of {plan.data.name}") as progress:
        side_px = plan.data.resolution_px or plan.proxy.resolution_px
        data = load_data(replace(plan.data, resolution_px=side_px), on_progress=progress)
    predictor = study_predictor(plan, console)
    measure = measurer(plan.latency, predictor)
    pricer = pricer_of(plan, predictor, Images.of(data))
    evaluator = ProxyEvaluator(
        data=data,
        settings=plan.proxy,
        largest_kernel=plan.space.largest_kernel,
        seed=plan.study.seed,
        base_resolution_px=plan.base_resolution_px,
        weights_dir=plan.folder / "weights",
        checkpoints_dir=plan.folder / "checkpoints",
    )
    return Session(
        plan=plan,
        data=data,
        predictor=predictor,
        pricer=pricer,
        evaluator=evaluator,
        measure=measure,
        patience=patience,
    )


def look_ahead(session: Session, console: Console) -> Survey:
    """Survey the space under the limits and say what to expect; raises NasError where nothing is feasible."""
    plan = session.plan
    with bar(console, f"survey of space {plan.space.name}") as progress:
        found = survey(session.pricer, seed=plan.study.seed, progress=progress)
    say(
        console,
        f"space {plan.space.name}: {points(plan.space)} points; {len(found.feasible)} of {found.sampled} sampled "
        f"meet the limits ({plan.constraints}); latency {found.fastest_ms:.2f} to {found.slowest_ms:.2f} ms",
    )
    proxies = [session.evaluator.proxy(candidate.arch) for candidate in found.feasible[:_PROXIES_CHECKED]]
    say(console, f"{proxies[0].realised_note} (of the first one)")
    say(console, *(f"note: {note}" for note in _proxy_notes(proxies)))
    return found


def points(space: Space) -> str:
    """The number of points of ``space`` as one reads it."""
    return str(space.size) if space.size < 1_000_000 else f"{space.size:.2g}"


def _proxy_notes(proxies: Sequence[Proxy]) -> list[str]:
    """What a sample of proxies fails to keep apart: warnings of single ones, and candidates that became the same."""
    by_kind = {warning.partition(": ")[2] or warning: warning for proxy in proxies for warning in proxy.warnings}
    notes = list(by_kind.values())[:_NOTES_SHOWN]
    merged = sum(len(group) for group in indistinguishable(proxies))
    if merged:
        notes.append(
            f"{merged} of {len(proxies)} sampled candidates have a proxy that another has too: training cannot tell "
            "them apart; raise proxy.width_multiplier or proxy.depth_multiplier"
        )
    return notes


def _queue_first(session: Session, study: optuna.Study, found: Survey, earlier: Sequence[Mapping[str, Any]]) -> None:
    """Queue the first trials of a new study, and keep beside its results what it was begun with."""
    plan = session.plan
    published: dict[str, Mapping[str, Any]] = {}
    for name in plan.space.published if plan.study.seed_published else ():
        try:
            published[name] = plan.space.encode(zoo.get(name))
        except NasError:
            continue  # a space narrowed on the command line need not hold it any more
    claim(study, plan.folder, plan.storage_url, session.identity)
    seed_study(study, found, published=published, startup=plan.sampler.startup, earlier=earlier)
    session.keep()


def study_predictor(plan: Plan, console: Console) -> LatencyPredictor:
    """The study's own predictor when it goes on, so that its latencies stay comparable; else this device's."""
    saved = plan.folder / PREDICTOR_FILE
    if saved.is_file():
        try:
            return load(saved, plan.latency)
        except NasError as error:
            raise NasError(
                f"study {plan.name!r} was begun with another latency; choose another study.name. {error}"
            ) from None
    predictor = find_or_calibrate(plan.latency, plan.runs_dir, console)
    say(console, f"latency: {predictor.device}; {error_text(predictor)}")
    return predictor
