"""The studies of a storage: how each of them stands, and the one that a name means; none is locked or changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas.core.errors import NasError, nearest
from nas.study.storage.attributes import internals
from nas.study.storage.opening import IDENTITY, identity_of, is_search, open_storage
from nas.study.storage.retrying import RetryingStorage
from nas.study.storage.urls import file_of, masked
from nas.study.trial_record import Outcome

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
    storage = storage_at(url, f"study {name!r}: ")
    names = [known for known in optuna.get_all_study_names(storage) if _is_ours(storage, known)]
    if name not in names:
        there = f"there are {', '.join(sorted(names))}" if names else "there is none yet"
        raise NasError(f"study {name!r}: is not in {masked(url)}; {there}.{nearest(Path(name).name, names)}")
    return optuna.load_study(study_name=name, storage=storage)


def standings(url: str) -> list[Standing]:
    """How all studies at ``url`` that are this project's stand, by name. Raises: NasError as ``find_study``."""
    return [_standing(study) for study in studies(storage_at(url))]


def studies(storage: optuna.storages.BaseStorage) -> list[optuna.Study]:
    """All studies in ``storage`` that are this project's, by name."""
    names = sorted(name for name in optuna.get_all_study_names(storage) if _is_ours(storage, name))
    return [optuna.load_study(study_name=name, storage=storage) for name in names]


def kind_of(study: optuna.Study) -> str:
    """What ``study`` is, ``SEARCH`` or ``GRID``."""
    return SEARCH if is_search(identity_of(internals(study))) else GRID


def moments(trials: Sequence[FrozenTrial]) -> list[datetime]:
    """When trials began and ended, as far as they did."""
    return [moment for trial in trials for moment in (trial.datetime_start, trial.datetime_complete) if moment]


def storage_at(url: str, wanted: str = "") -> RetryingStorage:
    """What is at ``url``. Raises: NasError, which ``wanted`` begins, for a file that is not there and is not made."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = file_of(url)
    if path is not None and not path.is_file():
        raise NasError(
            f"{wanted}{path} does not exist: run nas.search or nas.compound_grid first, or say where your studies are "
            "with runs_dir= or storage=."
        )
    return open_storage(url)


def _is_ours(storage: optuna.storages.BaseStorage, name: str) -> bool:
    return IDENTITY in storage.get_study_system_attrs(storage.get_study_id_from_name(name))


def _standing(study: optuna.Study) -> Standing:
    trials = study.get_trials(deepcopy=False)
    outcomes = [trial.user_attrs.get("outcome") for trial in trials if trial.state.is_finished()]
    trained = [trial for trial in trials if trial.user_attrs.get("outcome") == Outcome.TRAINED]
    return Standing(
        name=study.study_name,
        kind=kind_of(study),
        trained=len(trained),
        other=len(outcomes) - len(trained),
        running=sum(trial.state is TrialState.RUNNING for trial in trials),
        best=max((trial.user_attrs["accuracy"] for trial in trained), default=None),
        latest=max(moments(trials), default=None),
    )
