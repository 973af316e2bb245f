"""The studies of a storage: how each of them stands, and the one that a name means; none is locked or changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas.arch.errors import NasError, nearest
from nas.study.rows import Outcome
from nas.study.storage import IDENTITY, existing_storage
from nas.study.urls import masked

SEARCH: Final = "search"
GRID: Final = "compound grid"


class Standing(NamedTuple):
    """A study as its trials tell it. ``running``: begun and not ended, by a search at work or by one that was killed.

    ``best``: the highest accuracy in [0, 1]; ``latest``: when a trial began or ended last, as its machine's clock said.
    """

    name: str
    kind: str
    trained: int
    other: int
    running: int
    best: float | None
    latest: datetime | None


def find_study(url: str, name: str) -> optuna.Study:
    """The study ``name`` at ``url``. Raises: NasError, with the studies that there are."""
    storage = _storage(url)
    names = [known for known in optuna.get_all_study_names(storage) if _is_ours(storage, known)]
    if name not in names:
        there = f"there are {', '.join(sorted(names))}" if names else "there is none yet"
        raise NasError(f"study {name!r}: is not in {masked(url)}; {there}.{nearest(Path(name).name, names)}")
    return optuna.load_study(study_name=name, storage=storage)


def standings(url: str) -> list[Standing]:
    """All studies at ``url`` that are this project's, by name. Raises: NasError as ``find_study``."""
    return [_standing(study) for study in studies(_storage(url))]


def studies(storage: optuna.storages.BaseStorage) -> list[optuna.Study]:
    """All studies in ``storage`` that are this project's, by name."""
    names = sorted(name for name in optuna.get_all_study_names(storage) if _is_ours(storage, name))
    return [optuna.load_study(study_name=name, storage=storage) for name in names]


def moments(trials: Sequence[FrozenTrial]) -> list[datetime]:
    """When trials began and ended, as far as they did."""
    return [moment for trial in trials for moment in (trial.datetime_start, trial.datetime_complete) if moment]


def _storage(url: str) -> optuna.storages.BaseStorage:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = existing_storage(url)
    if storage is None:
        raise NasError(f"storage {masked(url)!r}: does not exist; give the runs_dir or the storage of your searches.")
    return storage


def _is_ours(storage: optuna.storages.BaseStorage, name: str) -> bool:
    return IDENTITY in storage.get_study_user_attrs(storage.get_study_id_from_name(name))


def _standing(study: optuna.Study) -> Standing:
    trials = study.get_trials(deepcopy=False)
    outcomes = [trial.user_attrs.get("outcome") for trial in trials if trial.state.is_finished()]
    trained = [trial for trial in trials if trial.user_attrs.get("outcome") == Outcome.TRAINED]
    return Standing(
        name=study.study_name,
        kind=SEARCH if "space.name" in json.loads(study.user_attrs[IDENTITY]) else GRID,
        trained=len(trained),
        other=len(outcomes) - len(trained),
        running=sum(trial.state is TrialState.RUNNING for trial in trials),
        best=max((trial.user_attrs["accuracy"] for trial in trained), default=None),
        latest=max(moments(trials), default=None),
    )
