"""Session of a scaling study: loads its inputs, and prices and lists the networks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import optuna
from rich.console import Console

from nas.arch.files import dump_spec, load_spec
from nas.arch.spec import ArchSpec
from nas.core.console import print_lines
from nas.core.errors import NasError
from nas.core.files import write_text_atomically
from nas.methods.scaling.ask_tell import ScalingAskTell
from nas.methods.scaling.config import BASELINE_FILE, ScalingPlan
from nas.methods.scaling.context import ScalingContext, scaling_context
from nas.methods.scaling.design.entries import Design
from nas.methods.scaling.design.networks import DesignAt, make_design
from nas.methods.scaling.preflight import design_notes, design_summary, growth_table
from nas.methods.scaling.trial_attributes import labels_by_number
from nas.study.manifest import read_manifest
from nas.study.progress import TrialProgress
from nas.study.session import StudySession, TrialTimer, is_study_finished, load_session_parts
from nas.study.storage.opening import claim_study
from nas.study.storage.ownership import AcquireStudy
from nas.study.trial_attributes import count_finished
from nas.study.trial_record import TrialRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingSession(StudySession):
    """Plan of a scaling study with images, predictor and evaluator loaded.

    No latency is measured here.
    """

    plan: ScalingPlan
    design_at: DesignAt

    def context(self, study: optuna.Study) -> ScalingContext:
        """Context of the report of ``study``: everything it needs besides the trials."""
        return ScalingContext(plan=self.plan, entries=self.entries(study), **self.context_parts._asdict())

    def start(self, study: optuna.Study | None, console: Console, acquire: AcquireStudy) -> optuna.Study:
        """Print the networks, queue the first round, and write baseline and manifest.

        The study is created if it is None.
        """
        self._print_design(self.entries(study) if study else self.design_at(()), console)
        study = acquire(study or self.open())
        plan = self.plan
        claim_study(study, plan.folder, plan.storage_url, self.identity)
        race = self.race(study)
        if not study.trials:
            race.prepare_round()
        write_text_atomically(plan.folder / BASELINE_FILE, dump_spec(self.design_at(()).baseline.arch))
        self.write_manifest()
        return study

    def entries(self, study: optuna.Study) -> Design:
        """Networks known so far."""
        return self.race(study).entries

    def race(self, study: optuna.Study, *, worker: str = "") -> ScalingAskTell:
        """Ask-and-tell interface to ``study``, as ``ask_tell``."""
        return ScalingAskTell(
            study=study,
            design_at=self.design_at,
            settings=self.plan.race,
            epochs=self.plan.proxy.epochs,
            has_interval=self.predictor.error is not None,
            all_seeds=bool(self.plan.compare),
            worker=worker,
        )

    def total(self, study: optuna.Study) -> int:
        """Upper bound on the number of trainings; their number in a complete study.

        There may be fewer if differences between the networks become significant before.
        """
        return count_finished(study) if self.is_complete(study) else self.race(study).most_trainings

    def is_complete(self, study: optuna.Study) -> bool:
        """Whether all rounds are trained."""
        return self.race(study).is_over

    def progress(self, study: optuna.Study, console: Console) -> TrialProgress:
        """Terminal progress of ``study``."""
        labels = labels_by_number(study)

        def describe(row: TrialRecord) -> str:
            if row.number not in labels:  # a trial of a later round
                labels.update(labels_by_number(study))
            seed = row.genotype.get("seed", 0)
            return f"{labels[row.number]} (seed {seed}): accuracy {100 * (row.accuracy or 0):.1f}%"

        return TrialProgress(
            console, lambda row: row.accuracy or 0.0, describe, total=self.total(study), done=count_finished(study)
        )

    def ask_tell(self, study: optuna.Study, *, timer: TrialTimer | None = None, worker: str = "") -> ScalingAskTell:
        """Ask-and-tell interface to ``study`` for one worker.

        Nothing is measured, so that ``timer`` is not called.
        """
        return self.race(study, worker=worker)

    def _print_design(self, entries: Design, console: Console) -> None:
        print_lines(console, design_summary(self.plan, entries), *self.plan.rules.summary)
        console.print(growth_table(self.plan, entries))
        notes = design_notes(self.plan, entries, self.evaluator.proxy(entries.baseline.arch))
        print_lines(console, *(f"note: {note}" for note in notes))


def prepare_scaling(plan: ScalingPlan, console: Console) -> ScalingSession:
    """Load the images and the latency predictor, and determine the networks.

    The predictor is calibrated first if this device never was. Raises: NasError.
    """
    parts = load_session_parts(plan, console, keep_weights=False)
    baseline = replace(plan.baseline, classes=parts.data.classes, in_channels=parts.data.channels)
    baseline = baseline_as_started(baseline, plan.folder)
    design_at = make_design(plan, baseline, parts.predictor.predict, parts.evaluator.proxy)
    return ScalingSession(plan=plan, design_at=design_at, **parts._asdict())


def baseline_as_started(baseline: ArchSpec, folder: Path) -> ArchSpec:
    """``baseline`` with the block strings that the study in ``folder`` started with.

    Equal networks may have different strings, by which they scale: a later version may read more of timm's. The
    networks of a started study do not change.
    """
    try:
        started = load_spec(folder / BASELINE_FILE)
    except NasError:  # a new study has none
        return baseline
    if started.arch_id != baseline.arch_id:
        return baseline
    return replace(baseline, stages=started.stages, squeeze_excite=started.squeeze_excite)


def is_scaling_finished(plan: ScalingPlan) -> bool:
    """Whether the study of ``plan`` has all its rounds and its report.

    False for a study of another plan.
    """
    return is_study_finished(plan, lambda study: _is_over(plan, study))


def _is_over(plan: ScalingPlan, study: optuna.Study) -> bool:
    """Whether all rounds of ``study`` are trained.

    It is read from the storage and the study's folder, without loading images.
    """
    try:
        as_started = replace(plan, baseline=load_spec(plan.folder / BASELINE_FILE))
        context = scaling_context(as_started, read_manifest(plan.folder), study)
    except NasError:  # missing files are written when the study is run
        return False
    return ScalingAskTell(
        study=study,
        design_at=lambda _: context.entries,
        settings=plan.race,
        epochs=plan.proxy.epochs,
        has_interval=context.predictor.error is not None,
        all_seeds=bool(plan.compare),
    ).is_over
