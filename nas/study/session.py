"""A study's session: its plan with everything heavy loaded, and its storage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import optuna
from optuna.trial import FrozenTrial
from rich.console import Console

from nas.arch.spec import ArchSpec
from nas.core.console import print_lines, progress_bar
from nas.core.errors import NasError
from nas.core.formatting import first_names
from nas.core.progress import ProgressCallback
from nas.data.dense import (
    DenseDataSettings,
    DenseDescription,
    load_dense_data,
    write_dense_description,
)
from nas.data.description import DatasetDescription, write_description
from nas.data.images import ImageData, load_images
from nas.data.samples import with_samples
from nas.data.summary import ImageSummary
from nas.estimators.proxy.evaluator import ProxyEvaluator, TaskData
from nas.estimators.scorers import with_scorer
from nas.estimators.settings import EstimatorSettings
from nas.latency.predictors.base import LatencyPredictor
from nas.latency.store import save_predictor
from nas.study.candidates import Pricer
from nas.study.catalog import load_study
from nas.study.config import StudyPlan
from nas.study.context import ContextParts, stored_description
from nas.study.manifest import (
    PREDICTOR_FILE,
    REPORT_FILE,
    StudyManifest,
    check_manifest_format,
    library_versions,
    read_manifest,
)
from nas.study.measurement import Measurer
from nas.study.predictor import study_predictor
from nas.study.progress import TrialProgress
from nas.study.storage.attributes import system_attributes
from nas.study.storage.opening import (
    check_folder,
    check_reachable,
    matching_study,
    open_storage,
    open_study,
    stored_identity,
    study_identity,
)
from nas.study.storage.optuna_private import storage_of
from nas.study.storage.ownership import AcquireStudy
from nas.study.storage.retry_policy import RetryPolicy, console_retry_policy
from nas.study.trial_attributes import MeasuredLatency
from nas.study.trial_loop import AskTell
from nas.training.tasks import check_train_images

Pause = Callable[[], AbstractContextManager[object]]
TrialTimer = Callable[[FrozenTrial, ArchSpec], MeasuredLatency]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySession(ABC):
    """A plan with everything heavy loaded; each worker process makes its own.

    ``evaluator`` trains. ``pricer`` and ``measure`` answer workers that ask for a measurement (``latency.refine``);
    None where none does, or where the predictor's device is not this machine.
    """

    plan: StudyPlan
    data: TaskData
    predictor: LatencyPredictor
    evaluator: ProxyEvaluator
    retry: RetryPolicy
    pricer: Pricer | None = None
    measure: Measurer | None = None

    @property
    def images(self) -> ImageData:
        """Images with a class each, for what classifies alone."""
        return self.evaluator.images

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change within the study, by dotted names."""
        return self.plan.identity(self.predictor.device.key)

    def find(self) -> optuna.Study | None:
        """The study, if an equal plan created it before; else None.

        Raises: NasError if another plan did.
        """
        plan = self.plan
        check_folder(plan.folder, plan.storage_url, self.identity)
        study = matching_study(plan.storage_url, plan.name, plan.objective, self.identity, self.retry)
        if study is not None:
            _check_same_classes(plan, self.data)
        return study

    def open(self) -> optuna.Study:
        """The study, created or resumed."""
        plan = self.plan
        return open_study(open_storage(plan.storage_url, self.retry), plan.name, plan.objective, self.identity)

    def write_manifest(self) -> None:
        """Write configuration, images and predictor into the study's folder.

        Of the images: what they are, and a few samples.
        """
        plan = self.plan
        save_predictor(self.predictor, plan.folder / PREDICTOR_FILE)
        manifest = StudyManifest(
            command=plan.command,
            versions=library_versions(),
            images=ImageSummary.of(self.data),
            settings=plan.settings,
        )
        manifest.write(plan.folder)
        dataset = self.dataset  # samples are drawn and compressed at each access
        if isinstance(dataset, DatasetDescription):
            write_description(dataset, plan.folder)
        elif dataset is not None:
            write_dense_description(dataset, plan.folder)

    @property
    def dataset(self) -> DatasetDescription | DenseDescription | None:
        """Description of the images for the report, with samples as proxies see them."""
        if not isinstance(self.data, ImageData):
            return self.data.description
        return with_samples(self.data, self.plan.proxy.resolution_px)

    @property
    def context_parts(self) -> ContextParts:
        """What the context of every study has, from what is loaded here."""
        return ContextParts(
            images=ImageSummary.of(self.data),
            versions=library_versions(),
            predictor=self.predictor,
            proxy_of=self.evaluator.proxy,
            dataset=self.dataset,
        )

    @abstractmethod
    def start(self, study: optuna.Study | None, console: Console, acquire: AcquireStudy) -> optuna.Study:
        """Print what to expect, and queue the first trials of ``study``.

        ``study`` is created if it is None, and acquired by ``acquire``.
        """

    def prepare_scorer(self, study: optuna.Study, console: Console) -> None:
        """Do what scoring needs before the first trial, once; resumes after a kill."""
        scorer = self.evaluator.scorer
        if scorer is None or self.is_complete(study):
            return
        with progress_bar(console, f"estimator ({', '.join(scorer.names)})") as progress:
            scorer.prepare(progress, lambda text: print_lines(console, text))

    @abstractmethod
    def total(self, study: optuna.Study) -> int:
        """Trials that ``study`` is to have, as far as is known now."""

    @abstractmethod
    def is_complete(self, study: optuna.Study) -> bool:
        """Whether ``study`` has all its trials."""

    @abstractmethod
    def progress(self, study: optuna.Study, console: Console) -> TrialProgress:
        """What a person sees while ``study`` runs."""

    def check_latencies(self, study: optuna.Study, say: Callable[[str], object], pause: Pause = nullcontext) -> None:
        """Measure networks of ``study`` when due, and correct predictions by them.

        Called after each trial by the process that runs the study. ``say`` prints a line; ``pause``: context in which
        no worker trains, nor writes to the storage. A method that measures nothing during a study leaves it.
        """
        return

    @abstractmethod
    def ask_tell(self, study: optuna.Study, *, timer: TrialTimer | None = None, worker: str = "") -> AskTell:
        """What asks ``study`` for trainings and tells it their results.

        ``timer`` measures a trial's network somewhere else than in this process. ``worker`` is written into the trials
        that are taken, so that those of a killed worker can be recognised.
        """


class SessionParts(NamedTuple):
    """What every session loads before its study is opened."""

    data: TaskData
    predictor: LatencyPredictor
    evaluator: ProxyEvaluator
    retry: RetryPolicy


def load_session_parts(
    plan: StudyPlan,
    console: Console,
    *,
    keep_weights: bool,
    estimator: EstimatorSettings | None = None,
    space: Any = None,
) -> SessionParts:
    """Load the images, print what they are, and load the latency predictor.

    The predictor is calibrated now if this device never was. ``keep_weights``: the weights of trained proxies are
    written into the study's folder. ``estimator``: None trains every network; ``space``: the search space, whose
    networks a supernet contains. Raises: NasError.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    retry = check_storage(plan, console)
    evaluator = load_evaluator(plan, console, keep_weights=keep_weights, estimator=estimator, space=space)
    predictor = study_predictor(plan, console)
    return SessionParts(data=evaluator.data, predictor=predictor, evaluator=evaluator, retry=retry)


def load_evaluator(
    plan: StudyPlan,
    console: Console,
    *,
    keep_weights: bool,
    estimator: EstimatorSettings | None = None,
    space: Any = None,
) -> ProxyEvaluator:
    """Load the images, print what they are, and make the evaluator of ``plan``.

    Arguments as of ``load_session_parts``. Raises: NasError.
    """
    with progress_bar(console, f"images of {plan.data.name}") as progress:
        data = _load_data(plan, progress)
    _print_images(plan, data, console)
    print_lines(console, *(f"note: {notice}" for notice in data.notices))
    evaluator = ProxyEvaluator(
        data=data,
        settings=plan.proxy,
        largest_kernel=plan.largest_kernel,
        seed=plan.study.seed,
        base_resolution_px=plan.base_resolution_px,
        weights_dir=plan.folder / "weights" if keep_weights else None,
        checkpoints_dir=plan.folder / "checkpoints",
    )
    return with_scorer(evaluator, estimator or EstimatorSettings(), space, plan.folder)


def _load_data(plan: StudyPlan, progress: ProgressCallback) -> TaskData:
    """Load the images of ``plan`` with the labels of its task. Raises: NasError."""
    settings = plan.data
    if not isinstance(settings, DenseDataSettings):
        return load_images(replace(settings, resolution_px=plan.image_side_px), on_progress=progress)
    loaded = load_dense_data(settings, on_progress=progress)
    check_train_images(len(loaded.train))
    return loaded


def _print_images(plan: StudyPlan, data: TaskData, console: Console) -> None:
    """Print which images and classes ``data`` has, and what is doubtful about them."""
    if data.description is None:
        return
    print_lines(console, *data.description.lines)
    print_lines(console, *(f"warning: {text}" for text in data.description.warnings))
    before, now = _stored_images(plan), ImageSummary.of(data)
    if before is not None and (before.train, before.val) != (now.train, now.val):
        print_lines(
            console,
            f"warning: {plan.name} was started with {before.train:,} train and {before.val:,} validation images, now "
            f"there are {now.train:,} and {now.val:,}: accuracies before and after do not compare",
        )
    elif _have_changed(plan, data.description):
        print_lines(
            console,
            f"warning: the images of {plan.name}, or their labels, have changed since it was last run: accuracies "
            "before and after do not compare",
        )


def _have_changed(plan: StudyPlan, now: DatasetDescription | DenseDescription) -> bool:
    """Whether images with boxes or masks are others than the study's folder says."""
    if not isinstance(now, DenseDescription):  # that of classifiers has no digest, and need not be read
        return False
    try:
        before = stored_description(plan)
    except NasError:  # it is damaged, and written anew
        return False
    return isinstance(before, DenseDescription) and before.digest not in ("", now.digest)


def _check_same_classes(plan: StudyPlan, data: TaskData) -> None:
    """Refuse to go on with a study whose images had other classes. Raises: NasError."""
    stored, images = stored_description(plan), _stored_images(plan)
    count = len(stored.class_names) if stored else images.classes if images else data.classes
    before, now = set(stored.class_names if stored else data.class_names), set(data.class_names)
    if (count, before) != (data.classes, now):
        changes = [("missing now", before - now), ("new", now - before)]
        named = "; ".join(f"{change}: {first_names(sorted(names))}" for change, names in changes if names)
        raise NasError(
            f"study {plan.name!r} was started with {count:,} classes, now the images have {data.classes:,}"
            f"{f' ({named})' if named else ''}: its trials could not be compared. Choose another study.name, or read "
            "the folders as before (data.train=. takes those of data.root as classes)."
        )


def _stored_images(plan: StudyPlan) -> ImageSummary | None:
    """Summary of the images with which the study in the plan's folder was started."""
    try:
        return read_manifest(plan.folder).images
    except NasError:  # there is none yet, or it is written anew
        return None


def check_storage(plan: StudyPlan, console: Console) -> RetryPolicy:
    """The retry policy of a plan's storage, after a first look at it.

    A storage that the user named is opened before a calibration is spent.

    Creates no storage. Raises: NasError if it cannot be opened, or is a server that does not answer, and for the folder
    of a study of a newer format.
    """
    check_manifest_format(plan.folder)
    retry = console_retry_policy(console, plan.study.patience_s)
    if plan.study.storage is not None:
        check_reachable(plan.storage_url, retry)
    return retry


def is_study_finished(plan: StudyPlan, has_all: Callable[[optuna.Study], bool]) -> bool:
    """Whether a plan's report exists and its own study ``has_all`` its trials."""
    if not (plan.folder / REPORT_FILE).is_file():
        return False
    try:
        study = load_study(plan.storage_url, plan.name)
    except NasError:
        return False
    with closing(storage_of(study)):
        known = study_identity(system_attributes(study))
        wanted = stored_identity(plan.identity(known.get("latency.device", "")))
        return known == wanted and has_all(study)
