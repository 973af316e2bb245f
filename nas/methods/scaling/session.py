"""A grid before its first training: what is loaded, which networks there are, what they really cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import optuna
from rich.console import Console

from nas.arch.files import dump_spec
from nas.core.console import print_lines, progress_bar
from nas.core.files import write_text_atomically
from nas.data.images import ImageData
from nas.data.images import load_images as load_data
from nas.data.summary import ImageSummary
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.latency.predictors.base import LatencyPredictor
from nas.methods.scaling.ask_tell import ScalingAskTell
from nas.methods.scaling.config import BASELINE_FILE, ScalingPlan
from nas.methods.scaling.context import ScalingContext
from nas.methods.scaling.design.entries import Design
from nas.methods.scaling.design.networks import DesignAt, make_design
from nas.methods.scaling.preflight import design_notes, design_summary, growth_table
from nas.methods.scaling.trial_attributes import LABEL_ATTRIBUTE
from nas.study.candidates import Pricer
from nas.study.kind import TrialTimer
from nas.study.manifest import library_versions
from nas.study.measurement import Measurer
from nas.study.predictor import study_predictor
from nas.study.progress import TrialProgress
from nas.study.session_base import SessionBase, check_storage
from nas.study.storage.opening import claim_study
from nas.study.storage.ownership import AcquireStudy
from nas.study.storage.retry import RetryPolicy
from nas.study.trial_attributes import count_finished
from nas.study.trial_record import TrialRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingSession(SessionBase):
    """A plan with everything heavy loaded; each worker process makes its own. Nothing is measured here."""

    plan: ScalingPlan
    data: ImageData
    predictor: LatencyPredictor
    evaluator: ProxyEvaluator
    entries_at: DesignAt
    patience: RetryPolicy
    pricer: Pricer | None = None
    measure: Measurer | None = None

    def background(self, study: optuna.Study) -> ScalingContext:
        """What the report of ``study`` has to know besides the trials."""
        return ScalingContext(
            plan=self.plan,
            images=ImageSummary.of(self.data),
            versions=library_versions(),
            predictor=self.predictor,
            entries=self.entries(study),
            proxy_of=self.evaluator.proxy,
        )

    def begin(self, study: optuna.Study | None, console: Console, hold: AcquireStudy) -> optuna.Study:
        """Say which networks there are, queue the first round, and keep what the study was begun with."""
        self._say_what_there_is(self.entries(study) if study else self.entries_at(()), console)
        study = hold(study or self.open())
        plan = self.plan
        claim_study(study, plan.folder, plan.storage_url, self.identity)
        race = self.race(study)
        if not study.trials:
            race.prepare_round()
        write_text_atomically(plan.folder / BASELINE_FILE, dump_spec(self.entries_at(()).baseline.arch))
        self.keep()
        return study

    def entries(self, study: optuna.Study) -> Design:
        """The networks as far as they are known."""
        return self.race(study).entries

    def race(self, study: optuna.Study, *, worker: str = "") -> ScalingAskTell:
        """The race on ``study``."""
        return ScalingAskTell(
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
        return count_finished(study) if self.is_complete(study) else self.race(study).most_trainings

    def is_complete(self, study: optuna.Study) -> bool:
        """Whether all rounds are over."""
        return self.race(study).is_over

    def progress(self, study: optuna.Study, console: Console) -> TrialProgress:
        """What a person sees while ``study`` runs."""
        labels = {trial.number: trial.user_attrs[LABEL_ATTRIBUTE] for trial in study.get_trials(deepcopy=False)}

        def describe(row: TrialRecord) -> str:
            if row.number not in labels:  # of a later round
                labels.update(
                    (trial.number, trial.user_attrs[LABEL_ATTRIBUTE]) for trial in study.get_trials(deepcopy=False)
                )
            seed = row.genotype.get("seed", 0)
            return f"{labels[row.number]} (seed {seed}): accuracy {100 * (row.accuracy or 0):.1f}%"

        return TrialProgress(
            console, lambda row: row.accuracy or 0.0, describe, total=self.total(study), done=count_finished(study)
        )

    def tasks(self, study: optuna.Study, *, timed: TrialTimer | None = None, worker: str = "") -> ScalingAskTell:
        """The race on ``study``; nothing is measured, ``timed`` is not asked."""
        return self.race(study, worker=worker)

    def _say_what_there_is(self, entries: Design, console: Console) -> None:
        print_lines(console, design_summary(self.plan, entries))
        console.print(growth_table(self.plan, entries))
        found = design_notes(self.plan, entries, self.evaluator.proxy(entries.baseline.arch))
        print_lines(console, *(f"note: {note}" for note in found))


def prepare_scaling(plan: ScalingPlan, console: Console) -> ScalingSession:
    """Load the images and the predictor (calibrated now if this device never was), and find the networks."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    patience = check_storage(plan, console)
    base_px = plan.baseline.resolution_px
    with progress_bar(console, f"images of {plan.data.name}") as progress:
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
    entries_at = make_design(plan, baseline, predictor.predict, evaluator.proxy)
    return ScalingSession(
        plan=plan,
        data=data,
        predictor=predictor,
        evaluator=evaluator,
        entries_at=entries_at,
        patience=patience,
    )


def _image_side(plan: ScalingPlan) -> int | None:
    """The side that images are kept at: their own, or that of the largest proxies where files are of any size."""
    if plan.data.resolution_px or plan.data.name != "imagefolder":
        return plan.data.resolution_px
    return math.ceil(plan.proxy.resolution_px * plan.most_resolution)
