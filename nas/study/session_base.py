"""The study of a plan in its storage: found or opened, and refused where it is another one's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import optuna
from rich.console import Console

from nas.core.errors import NasError
from nas.data.images import ImageData
from nas.data.summary import ImageSummary
from nas.latency.predictors.base import LatencyPredictor
from nas.latency.store import save_predictor
from nas.study.catalog import load_study
from nas.study.config import StudyPlan
from nas.study.manifest import PREDICTOR_FILE, REPORT_FILE, StudyManifest, check_manifest_format, library_versions
from nas.study.storage.attributes import system_attributes
from nas.study.storage.opening import (
    check_folder,
    existing_storage,
    matching_study,
    open_storage,
    open_study,
    stored_identity,
    study_identity,
)
from nas.study.storage.retry import RetryPolicy, retry_policy


class SessionBase:
    """A plan with its predictor: which study is its own, alike for every kind of study."""

    __slots__ = ()
    plan: StudyPlan
    data: ImageData
    predictor: LatencyPredictor
    patience: RetryPolicy

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change within the study."""
        return self.plan.identity(self.predictor.device.key)

    def find(self) -> optuna.Study | None:
        """The study if it was begun before by a plan that asks for the same. Raises: NasError for any other plan."""
        plan = self.plan
        check_folder(plan.folder, plan.storage_url, self.identity)
        return matching_study(plan.storage_url, plan.name, plan.objective, self.identity, self.patience)

    def open(self) -> optuna.Study:
        """The study, created or resumed."""
        plan = self.plan
        return open_study(open_storage(plan.storage_url, self.patience), plan.name, plan.objective, self.identity)

    def keep(self) -> None:
        """Write into the study's folder what its trials follow from: configuration, images and predictor."""
        plan = self.plan
        save_predictor(self.predictor, plan.folder / PREDICTOR_FILE)
        manifest = StudyManifest(
            command=plan.command, versions=library_versions(), images=ImageSummary.of(self.data), settings=plan.settings
        )
        manifest.write(plan.folder)


def check_storage(plan: StudyPlan, console: Console) -> RetryPolicy:
    """The patience of ``plan`` with its storage; one that the user named is looked at before a calibration is spent.

    Makes none. Raises: NasError if it cannot be opened, or is a server that stays away, and for the folder of a study
    of a newer format.
    """
    check_manifest_format(plan.folder)
    patience = retry_policy(console, plan.study.patience_s)
    storage = existing_storage(plan.storage_url, patience) if plan.study.storage is not None else None
    if storage is not None:
        storage.close()
    return patience


def is_study_finished(plan: StudyPlan, has_all: Callable[[optuna.Study], bool]) -> bool:
    """Whether the report of ``plan`` stands in its folder and its own study ``has_all`` that it is to have."""
    if not (plan.folder / REPORT_FILE).is_file():
        return False
    try:
        study = load_study(plan.storage_url, plan.name)
    except NasError:
        return False
    with closing(study._storage):
        known = study_identity(system_attributes(study))
        wanted = stored_identity(plan.identity(known.get("latency.device", "")))
        return known == wanted and has_all(study)
