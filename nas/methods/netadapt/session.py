"""Session of an adaptation: loads its inputs, and checks its target."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

import optuna
from rich.console import Console

from nas.arch.files import dump_spec, load_spec
from nas.arch.spec import ArchSpec
from nas.core.console import print_lines
from nas.core.errors import NasError
from nas.core.files import write_text_atomically
from nas.core.formatting import percent, plural
from nas.data.summary import ImageSummary
from nas.methods.netadapt.ask_tell import NetAdaptAskTell
from nas.methods.netadapt.config import SEED_FILE, NetAdaptPlan
from nas.methods.netadapt.context import NetAdaptContext, netadapt_context
from nas.methods.netadapt.evaluator import NetAdaptEvaluator
from nas.methods.netadapt.proposals import check_reachable, network_pricer
from nas.methods.netadapt.seed_weights import SeedWeights, seed_weights
from nas.methods.netadapt.state import LOSS, retry_failed, step_labels, steps_taken
from nas.methods.netadapt.step_files import StepFiles
from nas.study.candidates import Candidate, price_networks
from nas.study.manifest import read_manifest
from nas.study.measurement import make_measurer
from nas.study.progress import TrialProgress
from nas.study.session import StudySession, TrialTimer, is_study_finished, load_session_parts
from nas.study.storage.opening import claim_study
from nas.study.storage.ownership import AcquireStudy
from nas.study.trial_attributes import count_finished
from nas.study.trial_record import Outcome, TrialRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class NetAdaptSession(StudySession):
    """Plan of an adaptation with images, predictor and evaluator loaded.

    ``seed``: the network to begin with, of the classes and channels of the images; ``weights``: what it begins with.
    """

    plan: NetAdaptPlan
    seed: ArchSpec
    weights: SeedWeights

    @property
    def files(self) -> StepFiles:
        """Networks and weights of the steps."""
        return StepFiles(folder=self.plan.folder, facts=ImageSummary.of(self.data).input_facts)

    @property
    def context(self) -> NetAdaptContext:
        """Context of the report: everything it needs besides the trials."""
        return NetAdaptContext(plan=self.plan, seed=self.seed, **self.context_parts._asdict())

    def start(self, study: optuna.Study | None, console: Console, acquire: AcquireStudy) -> optuna.Study:
        """Check the target, print what to expect, and store the seed network.

        The study is created if it is None.
        """
        self._print_plan(console)
        study = acquire(study or self.open())
        plan = self.plan
        claim_study(study, plan.folder, plan.storage_url, self.identity)
        self.weights.write(self.files)
        facts = ImageSummary.of(self.data).input_facts
        write_text_atomically(plan.folder / SEED_FILE, dump_spec(self.seed, facts))
        self.write_manifest()
        if study.trials:
            retry_failed(study)
        else:
            self.ask_tell(study).prepare_next()
        return study

    def total(self, study: optuna.Study) -> int:
        """Trials of a complete study, as far as is known.

        Those so far, and as many for each step to come as for this one.
        """
        plan, tasks, finished = self.plan, self.ask_tell(study), count_finished(study)
        if tasks.is_over:
            return finished
        seed = 0 if steps_taken(study) else 1
        return finished + seed + (1 + len(tasks.next_proposals) + plan.netadapt.fine_tuned) * tasks.steps_left

    def is_complete(self, study: optuna.Study) -> bool:
        """Whether the last step meets the target."""
        return self.ask_tell(study).is_over

    def progress(self, study: optuna.Study, console: Console) -> TrialProgress:
        """Terminal progress of ``study``."""
        labels = step_labels(study)

        def describe(row: TrialRecord) -> str:
            if row.number not in labels:
                labels.update(step_labels(study))
            step, label = labels[row.number]
            if row.accuracy is None:
                return f"step {step}, {label}: loss {row.scores[LOSS]:.4f}"
            accuracy = percent(row.accuracy, row.standard_error, digits=1)
            return f"step {step}, {label}: accuracy {accuracy}"

        def is_newer(row: TrialRecord) -> float:
            return row.number if row.outcome is Outcome.TRAINED else -1

        return TrialProgress(
            console, is_newer, describe, total=self.total(study), done=count_finished(study), best="last"
        )

    def ask_tell(self, study: optuna.Study, *, timer: TrialTimer | None = None, worker: str = "") -> NetAdaptAskTell:
        """Ask-and-tell interface to ``study``; nothing is measured before the end."""
        plan, seed_cost = self.plan, self._seed.measures[self.plan.target.measure]
        return NetAdaptAskTell(
            study=study,
            seed=self.seed,
            files=self.files,
            price=network_pricer(self.predictor),
            settings=plan.netadapt,
            measure=plan.target.measure,
            target=plan.target.value(seed_cost),
            delta=plan.netadapt.delta * seed_cost,
            step=plan.netadapt.step * seed_cost,
            least_px=plan.least_px,
            trains_seed=not self.weights.is_trained,
            has_interval=self.predictor.error is not None,
            worker=worker,
        )

    @property
    def _seed(self) -> Candidate:
        """The seed network with its cost."""
        (seed,) = price_networks([self.seed], self.predictor)
        return seed

    def _print_plan(self, console: Console) -> None:
        """Check that the target can be reached, and print what to expect.

        Raises: NasError.
        """
        plan, measure = self.plan, self.plan.target.measure
        cost = self._seed.measures[measure]
        target = plan.target.value(cost)
        check_reachable(self._seed, network_pricer(self.predictor), measure, target, plan.netadapt, plan.least_px)
        begins = f"has the weights {plan.weights}"
        if not self.weights.is_trained:
            begins = f"is trained first ({plural(plan.proxy.epochs, 'epoch')})"
        print_lines(
            console,
            f"{self.seed.name} at {self.seed.resolution_px} px {begins}: {measure} {cost:.4g}, to become at most "
            f"{target:.4g} in at most {plural(ceil((cost - target) / (plan.netadapt.step * cost)), 'step')}",
        )


def prepare_netadapt(plan: NetAdaptPlan, console: Console) -> NetAdaptSession:
    """Load the images and the latency predictor of ``plan``.

    The predictor is calibrated first if this device never was. Raises: NasError.
    """
    parts = load_session_parts(plan, console, keep_weights=True)
    base = parts.evaluator
    seed = replace(plan.seed, classes=parts.data.classes, in_channels=parts.data.channels)
    images = parts.evaluator.images
    weights = seed_weights(plan, seed, images, console)
    data = replace(images, mean=weights.mean, std=weights.std) if weights.mean else images
    evaluator = NetAdaptEvaluator(
        data=data,
        settings=plan.proxy,
        largest_kernel=base.largest_kernel,
        seed=base.seed,
        weights_dir=base.weights_dir,
        checkpoints_dir=base.checkpoints_dir,
        initial_state=weights.state if weights.content else None,
        netadapt=plan.netadapt,
    )
    parts = parts._replace(evaluator=evaluator, data=data)
    measure = make_measurer(plan.latency, parts.predictor)
    return NetAdaptSession(plan=plan, seed=seed, weights=weights, measure=measure, **parts._asdict())


def is_netadapt_finished(plan: NetAdaptPlan) -> bool:
    """Whether the study of ``plan`` has all its steps and its report.

    False for a study of another plan.
    """
    return is_study_finished(plan, lambda study: _is_over(plan, study))


def _is_over(plan: NetAdaptPlan, study: optuna.Study) -> bool:
    """Whether the last step meets the target, read without loading images."""
    try:
        as_started = replace(plan, seed=load_spec(plan.folder / SEED_FILE))
        return netadapt_context(as_started, read_manifest(plan.folder)).is_over(study)
    except NasError:  # missing files are written when the study is run
        return False
