"""A grid before its first training: what is loaded, which networks there are, what they really cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import optuna
from rich.console import Console

from nas.arch.files import dumps
from nas.core.console import bar, say
from nas.core.files import write_text_atomically
from nas.data.images import ImageData
from nas.data.images import load as load_data
from nas.data.summary import ImageSummary
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.latency.predictors.base import LatencyPredictor
from nas.methods.scaling.ask_tell import Race
from nas.methods.scaling.config import BASELINE_FILE, CompoundPlan
from nas.methods.scaling.context import Background
from nas.methods.scaling.design.entries import Entries
from nas.methods.scaling.design.networks import EntriesAt, find_entries
from nas.methods.scaling.preflight import growth_table, notes, summary
from nas.methods.scaling.trial_attributes import LABEL
from nas.study.candidates import Pricer
from nas.study.kind import Timed
from nas.study.manifest import versions
from nas.study.measurement import Measurer
from nas.study.predictor import study_predictor
from nas.study.progress import TrialProgress
from nas.study.session_base import KeptSession, reached
from nas.study.storage.opening import claim
from nas.study.storage.ownership import Hold
from nas.study.storage.retry import Patience
from nas.study.trial_attributes import finished
from nas.study.trial_record import TrialRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(KeptSession):
    """A plan with everything heavy loaded; each worker process makes its own. Nothing is measured here."""

    plan: CompoundPlan
    data: ImageData
    predictor: LatencyPredictor
    evaluator: ProxyEvaluator
    entries_at: EntriesAt
    patience: Patience
    pricer: Pricer | None = None
    measure: Measurer | None = None

    def background(self, study: optuna.Study) -> Background:
        """What the report of ``study`` has to know besides the trials."""
        return Background(
            plan=self.plan,
            images=ImageSummary.of(self.data),
            versions=versions(),
            predictor=self.predictor,
            entries=self.entries(study),
            proxy_of=self.evaluator.proxy,
        )

    def begin(self, study: optuna.Study | None, console: Console, hold: Hold) -> optuna.Study:
        """Say which networks there are, queue the first round, and keep what the study was begun with."""
        self._say_what_there_is(self.entries(study) if study else self.entries_at(()), console)
        study = hold(study or self.open())
        plan = self.plan
        claim(study, plan.folder, plan.storage_url, self.identity)
        race = self.race(study)
        if not study.trials:
            race.prepare_round()
        write_text_atomically(plan.folder / BASELINE_FILE, dumps(self.entries_at(()).baseline.arch))
        self.keep()
        return study

    def entries(self, study: optuna.Study) -> Entries:
        """The networks as far as they are known."""
        return self.race(study).entries

    def race(self, study: optuna.Study, *, worker: str = "") -> Race:
        """The race on ``study``."""
        return Race(
            study=study,
            entries_at=self.entries_at,
            settings=self.plan.race,
            epochs=self.plan.proxy.epochs,
            has_interval=self.predictor.error is not None,
            everybody=bool(self.plan.compare),
            worker=worker,
        )

    def total(self, study: optuna.Study) -> int:
        """Trainings that the study has at most; fewer if the noise tells the networks apart before."""
        return finished(study) if self.is_complete(study) else self.race(study).most_trainings

    def is_complete(self, study: optuna.Study) -> bool:
        """Whether all rounds are over."""
        return self.race(study).is_over

    def progress(self, study: optuna.Study, console: Console) -> TrialProgress:
        """What a person sees while ``study`` runs."""
        labels = {trial.number: trial.user_attrs[LABEL] for trial in study.get_trials(deepcopy=False)}

        def describe(row: TrialRow) -> str:
            if row.number not in labels:  # of a later round
                labels.update((trial.number, trial.user_attrs[LABEL]) for trial in study.get_trials(deepcopy=False))
            seed = row.genotype.get("seed", 0)
            return f"{labels[row.number]} (seed {seed}): accuracy {100 * (row.accuracy or 0):.1f}%"

        return TrialProgress(
            console, lambda row: row.accuracy or 0.0, describe, total=self.total(study), done=finished(study)
        )

    def tasks(self, study: optuna.Study, *, timed: Timed | None = None, worker: str = "") -> Race:
        """The race on ``study``; nothing is measured, ``timed`` is not asked."""
        return self.race(study, worker=worker)

    def _say_what_there_is(self, entries: Entries, console: Console) -> None:
        say(console, summary(self.plan, entries))
        console.print(growth_table(self.plan, entries))
        found = notes(self.plan, entries, self.evaluator.proxy(entries.baseline.arch))
        say(console, *(f"note: {note}" for note in found))


def prepare(plan: CompoundPlan, console: Console) -> Session:
    """Load the images and the predictor (calibrated now if this device never was), and find the networks."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    patience = reached(plan, console)
    base_px = plan.baseline.resolution_px
    with bar(console, f"images of {plan.data.name}") as progress:
        data = load_data(replace(plan.data, resolution_px=_image_side(plan)), on_progress=progress)
    predictor = study_predictor(plan, console)
    evaluator = ProxyEvaluator(
        data=data,
        settings=plan.proxy,
        largest_kernel=plan.largest_kernel,
        seed=plan.study.seed,
        base_resolution_px=base_px,
        checkpoints_dir=plan.folder / "checkpoints",
    )
    baseline = replace(plan.baseline, classes=data.classes, in_channels=data.channels)
    entries_at = find_entries(plan, baseline, predictor.predict, evaluator.proxy)
    return Session(
        plan=plan,
        data=data,
        predictor=predictor,
        evaluator=evaluator,
        entries_at=entries_at,
        patience=patience,
    )


def _image_side(plan: CompoundPlan) -> int | None:
    """The side that images are kept at: their own, or that of the largest proxies where files are of any size."""
    if plan.data.resolution_px or plan.data.name != "imagefolder":
        return plan.data.resolution_px
    return math.ceil(plan.proxy.resolution_px * plan.most_resolution)
