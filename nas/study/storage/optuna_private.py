"""Adapter to Optuna's private names: no other module may touch them."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import optuna
    from optuna.storages import RDBStorage
    from optuna.study import FrozenStudy
    from optuna.trial import FrozenTrial, Trial, TrialState
    from sqlalchemy import Table


def storage_of(study: optuna.Study) -> Any:
    """Storage of ``study``: a ``RetryingStorage`` if this project opened it."""
    return study._storage


def study_id(study: optuna.Study | FrozenStudy) -> int:
    """Key of ``study`` in its storage: the integer that storage calls take."""
    return int(study._study_id)


def trial_id(trial: Trial | FrozenTrial) -> int:
    """Key of ``trial`` in its storage, unique over all its studies, unlike ``number``."""
    return int(trial._trial_id)


def check_tables(database: RDBStorage) -> None:
    """Optuna's check of its tables, which loads all its migration scripts.

    Raises: RuntimeError with a remedy if another version of Optuna made them.
    """
    database._version_manager.check_table_schema_compatibility()


def optuna_tables() -> Mapping[str, Table]:
    """Optuna's tables by name."""
    from optuna.storages._rdb.models import BaseModel

    tables: Mapping[str, Table] = BaseModel.metadata.tables
    return tables


class StudyView:
    """A study whose trials a sampler sees through ``view``; all else is its own.

    Optuna's samplers read the trials by a private method of ``Study``.
    """

    def __init__(self, study: optuna.Study, view: Callable[[list[FrozenTrial]], list[FrozenTrial]]) -> None:
        self._study = study
        self._view = view

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        """Trials in one of ``states`` after the view."""
        trials = self._view(self._study._get_trials(deepcopy, None, use_cache))
        return trials if states is None else [trial for trial in trials if trial.state in states]
