"""What a study's report has to know besides its trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import optuna

from nas.arch.spec import ArchSpec
from nas.core.credentials import mask_credentials, mask_url
from nas.data.dense.description import DenseDescription, read_dense_description
from nas.data.dense.settings import DenseDataSettings
from nas.data.description import DatasetDescription, read_description
from nas.data.summary import ImageSummary
from nas.estimators.proxy.reduce import Proxy, proxy_factory
from nas.latency.predictors.base import LatencyPredictor, error_text
from nas.latency.speed import speed_of
from nas.latency.store import read_predictor
from nas.study.catalog import trial_times
from nas.study.config import StudyPlan
from nas.study.manifest import PREDICTOR_FILE, StudyManifest
from nas.study.trial_attributes import trial_records
from nas.study.trial_record import TrialRecord

Fact = tuple[str, str]  # name and value
Facts = tuple[Fact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyContext:
    """A study as its report has to know it, besides the trials.

    Made with the images in memory, or from the study's folder alone.

    ``versions``: of the libraries that the study ran with, by name. ``proxy_of``: the network that is trained in the
    place of another. ``dataset``: what the images are; None for studies of versions that did not store it.
    """

    plan: StudyPlan
    images: ImageSummary
    versions: Mapping[str, str]
    predictor: LatencyPredictor
    proxy_of: Callable[[ArchSpec], Proxy]
    dataset: DatasetDescription | DenseDescription | None = None

    def provenance(self, study_name: str) -> dict[str, Any]:
        """Provenance of a result file as plain data, common to all methods."""
        plan = self.plan
        return {
            "study": study_name,
            "data": plan.data.name,
            **self.images.input_facts,
            "command": plan.command,
            "versions": dict(self.versions),
        }

    def latency_facts(self, row: TrialRecord, correction: float = 1.0) -> dict[str, Any]:
        """Predicted and measured latency in ms for a result file, as far as known.

        ``correction``: factor that measured networks gave, and the prediction includes.
        """
        facts: dict[str, Any] = {"predicted_ms": round(row.predicted_ms or 0.0, 4)}
        if (speed := speed_of(self.predictor)) and speed.moved:
            facts["slowdown"] = round(speed.moved, 4)  # of latency.speed=now, against the calibration
        if correction != 1:
            facts["correction"] = correction
        if row.latency_low_ms is not None and row.latency_high_ms is not None:
            facts["predicted_90_percent_ms"] = [round(row.latency_low_ms, 4), round(row.latency_high_ms, 4)]
        if row.measured_ms is not None:
            facts["measured_ms"] = round(row.measured_ms, 4)
            facts["measured_spread_ms"] = round(row.measured_spread_ms or 0.0, 4)
        if row.measured_error_ms is not None:
            facts["measured_standard_error_ms"] = round(row.measured_error_ms, 4)
        return facts

    def records(self, study: optuna.Study) -> list[TrialRecord]:
        """All started trials of ``study``, with the standard errors of accuracies."""
        return trial_records(study, self.images.val)

    @property
    def data_fact(self) -> Fact:
        """The images of the study."""
        return "data", f"{self.plan.data.name}: {self.images}"

    @property
    def image_size_fact(self) -> Fact:
        """The size of the images that the proxies are trained on."""
        side, base = self.plan.proxy.resolution_px, self.plan.base_resolution_px
        others = f" for a network of {base} px, for others in proportion" if base else ""
        how = (
            "stretched"
            if isinstance(self.plan.data, DenseDataSettings) and self.plan.data.fit == "stretch"
            else "resized"
        )
        return "image size in training", f"{how} to {side} x {side} px{others}; the proxies see nothing finer"

    @property
    def class_fact(self) -> Fact:
        """Names of the classes; empty where they were not stored."""
        return "classes in label order", ", ".join(self.images.class_names)

    @property
    def training_fact(self) -> Fact:
        """How proxies are trained."""
        proxy = self.plan.proxy
        return "training", f"epochs {proxy.epochs}, {proxy.optimizer}, batch {proxy.batch_size}"

    def run_facts(self, study: optuna.Study) -> Facts:
        """Closing facts of every report: how and where ``study`` was run and stored."""
        plan = self.plan
        return (
            ("engine", mask_credentials(str(plan.engine))),
            ("seeds", f"study {plan.study.seed}, data {plan.data.seed}, latency {plan.latency.seed}"),
            ("device", str(self.predictor.device)),
            ("latency predictor", error_text(self.predictor)),
            *((("held-out error", str(error.sources)),) if (error := self.predictor.error) and error.sources else ()),
            *((("machine", str(speed)),) if (speed := speed_of(self.predictor)) else ()),
            ("last change", _last_change(study)),
            ("storage", mask_url(plan.storage_url)),
            ("versions", ", ".join(f"{name} {number}" for name, number in self.versions.items())),
        )


class ContextParts(NamedTuple):
    """What every context has besides its plan."""

    images: ImageSummary
    versions: Mapping[str, str]
    predictor: LatencyPredictor
    proxy_of: Callable[[ArchSpec], Proxy]
    dataset: DatasetDescription | DenseDescription | None


def load_context_parts(plan: StudyPlan, manifest: StudyManifest) -> ContextParts:
    """Load the context of a started study from its folder and ``manifest``.

    Raises: NasError.
    """
    return ContextParts(
        images=manifest.images,
        versions=manifest.versions,
        predictor=read_predictor(plan.folder / PREDICTOR_FILE),
        proxy_of=proxy_factory(manifest.images, plan.proxy, plan.largest_kernel, plan.base_resolution_px),
        dataset=stored_description(plan),
    )


def stored_description(plan: StudyPlan) -> DatasetDescription | DenseDescription | None:
    """Description of the images in the folder of a started study; None without one.

    Raises: NasError.
    """
    is_dense = isinstance(plan.data, DenseDataSettings)
    return read_dense_description(plan.folder) if is_dense else read_description(plan.folder)


def _last_change(study: optuna.Study) -> str:
    """Time of the latest trial start or end in ``study``, to the minute.

    By the clock of the machine that ran the trial.
    """
    found = trial_times(study.get_trials(deepcopy=False))
    return f"{max(found):%Y-%m-%d %H:%M}" if found else ""
