"""The study of a plan in its storage: found or opened, and refused where it is another one's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import optuna
from rich.console import Console

from nas.arch.errors import NasError
from nas.latency.predictor import LatencyPredictor
from nas.latency.store import save as save_predictor
from nas.proxy.data import ImageData
from nas.study.begun import PREDICTOR_FILE, REPORT_FILE, Begun, Images, versions
from nas.study.internals import internals
from nas.study.overview import find_study
from nas.study.patience import Patience, patience_on
from nas.study.plan import Plan
from nas.study.search_plan import SearchPlan
from nas.study.storage import (
    as_kept,
    check_folder,
    existing_storage,
    identity_of,
    known_study,
    open_storage,
    open_study,
)
from nas.study.trials import finished


class KeptSession:
    """A plan with its predictor: which study is its own, alike for every kind of study."""

    __slots__ = ()
    plan: Plan
    data: ImageData
    predictor: LatencyPredictor
    patience: Patience

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change within the study."""
        return self.plan.identity(self.predictor.device.key)

    def find(self) -> optuna.Study | None:
        """The study if it was begun before by a plan that asks for the same. Raises: NasError for any other plan."""
        plan = self.plan
        check_folder(plan.folder, plan.storage_url, self.identity)
        return known_study(plan.storage_url, plan.name, plan.objective, self.identity, self.patience)

    def open(self) -> optuna.Study:
        """The study, created or resumed."""
        plan = self.plan
        return open_study(open_storage(plan.storage_url, self.patience), plan.name, plan.objective, self.identity)

    def keep(self) -> None:
        """Write into the study's folder what its trials follow from: configuration, images and predictor."""
        plan = self.plan
        save_predictor(self.predictor, plan.folder / PREDICTOR_FILE)
        begun = Begun(command=plan.command, versions=versions(), images=Images.of(self.data), settings=plan.settings)
        begun.write(plan.folder)


def reached(plan: Plan, console: Console) -> Patience:
    """The patience of ``plan`` with its storage; one that the user named is looked at before a calibration is spent.

    Makes none. Raises: NasError if it cannot be opened, or is a server that stays away.
    """
    patience = patience_on(console, plan.study.patience_s)
    storage = existing_storage(plan.storage_url, patience) if plan.study.storage is not None else None
    if storage is not None:
        storage.close()
    return patience


def is_done(plan: SearchPlan) -> bool:
    """Whether the search of ``plan`` has all its trials and its report; not so of another plan's."""
    return is_kept(plan, lambda study: finished(study) >= plan.study.n_trials)


def is_kept(plan: Plan, has_all: Callable[[optuna.Study], bool]) -> bool:
    """Whether the report of ``plan`` stands in its folder and its own study ``has_all`` that it is to have."""
    if not (plan.folder / REPORT_FILE).is_file():
        return False
    try:
        study = find_study(plan.storage_url, plan.name)
    except NasError:
        return False
    with closing(study._storage):
        known = identity_of(internals(study))
        wanted = as_kept(plan.identity(known.get("latency.device", "")))
        return known == wanted and has_all(study)
