"""Adapter to Optuna's private names: no other module may touch them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage, RDBStorage
    from optuna.study import FrozenStudy
    from optuna.trial import FrozenTrial, Trial


def storage_of(study: optuna.Study) -> Any:
    """Storage of ``study``: a ``RetryingStorage`` if this project opened it."""
    return study._storage


def study_id(study: optuna.Study | FrozenStudy) -> int:
    """Key of ``study`` in its storage: the integer that storage calls take."""
    return int(study._study_id)


def trial_id(trial: Trial | FrozenTrial) -> int:
    """Key of ``trial`` in its storage, unique over all its studies, unlike ``number``."""
    return int(trial._trial_id)


def with_trial_cache(database: RDBStorage) -> BaseStorage:
    """``database`` behind Optuna's cache of finished trials."""
    from optuna import storages

    cached: BaseStorage = storages._CachedStorage(database)
    return cached


def database_behind_cache(storage: BaseStorage) -> Any:
    """Database that ``with_trial_cache`` wrapped; None for any other ``storage``."""
    from optuna import storages

    return storage._backend if isinstance(storage, storages._CachedStorage) else None


def check_tables(database: RDBStorage) -> None:
    """Optuna's check of its tables, which loads all its migration scripts.

    Raises: RuntimeError with a remedy if another version of Optuna made them.
    """
    database._version_manager.check_table_schema_compatibility()
