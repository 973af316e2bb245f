"""The studies of a storage, read without locking or changing them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas.core.credentials import mask_url
from nas.core.errors import NasError, suggestion
from nas.study.storage.attributes import system_attributes
from nas.study.storage.backends import close_backend
from nas.study.storage.opening import IDENTITY, check_stored_format, reach_storage, study_identity
from nas.study.storage.retrying_storage import RetryingStorage
from nas.study.storage.urls import url_file
from nas.study.trial_record import Outcome

OnRefused = Callable[[NasError], object]


class StudySummary(NamedTuple):
    """Counts and best accuracy of a study, from its trials.

    ``running``: started and not ended, by a search at work or by one that was killed.

    ``best``: the highest accuracy in [0, 1], with its ``standard_error`` where that was stored. ``latest``: the last
    start or end of a trial, by its machine's clock.
    """

    name: str
    identity: Mapping[str, Any]
    trained: int
    other: int
    running: int
    best: float | None
    standard_error: float | None
    latest: datetime | None


def load_study(url: str, name: str) -> optuna.Study:
    """The study ``name`` at ``url``.

    Raises: NasError, with the studies that there are, and for one of a newer format.
    """
    storage = existing_studies_storage(url, f"study {name!r}: ")
    names = [known for known in optuna.get_all_study_names(storage) if _is_ours(storage, known)]
    if name not in names:
        there = f"there are {', '.join(sorted(names))}" if names else "there is none yet"
        raise NasError(f"study {name!r}: is not in {mask_url(url)}; {there}.{suggestion(Path(name).name, names)}")
    study = optuna.load_study(study_name=name, storage=storage)
    try:
        check_stored_format(study)
    except NasError:
        storage.close()
        raise
    return study


def summarize_studies(url: str, on_refused: OnRefused) -> list[StudySummary]:
    """Summaries of the studies at ``url``, as ``studies`` lists them.

    Raises: NasError as ``load_study``.
    """
    return [_standing(study) for study in studies(existing_studies_storage(url), on_refused)]


def studies(storage: optuna.storages.BaseStorage, on_refused: OnRefused) -> list[optuna.Study]:
    """The studies in ``storage`` that nas made and this version reads, by name.

    ``on_refused`` is called with the error of each whose format is newer.
    """
    found = []
    for name in sorted(name for name in optuna.get_all_study_names(storage) if _is_ours(storage, name)):
        study = optuna.load_study(study_name=name, storage=storage)
        try:
            check_stored_format(study)
        except NasError as error:
            on_refused(error)
        else:
            found.append(study)
    return found


def trial_times(trials: Sequence[FrozenTrial]) -> list[datetime]:
    """When trials began and ended, as far as they did."""
    return [moment for trial in trials for moment in (trial.datetime_start, trial.datetime_complete) if moment]


def existing_studies_storage(url: str, wanted: str = "") -> RetryingStorage:
    """The storage at ``url``; a missing file is not created.

    Raises: NasError, beginning with ``wanted``, if the file does not exist.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = url_file(url)
    if path is not None and not path.is_file():
        raise NasError(
            f"{wanted}{path} does not exist: run nas.search or nas.compound_grid first, or say where your studies are "
            "with runs_dir= or storage=."
        )
    storage = reach_storage(url)
    # What holds the storage at the end of a command is not always collected: see ``short`` of nas.cli.app.run_command.
    weakref.finalize(storage, close_backend, storage.backend)
    return storage


def _is_ours(storage: optuna.storages.BaseStorage, name: str) -> bool:
    return IDENTITY in storage.get_study_system_attrs(storage.get_study_id_from_name(name))


def _standing(study: optuna.Study) -> StudySummary:
    trials = study.get_trials(deepcopy=False)
    outcomes = [trial.user_attrs.get("outcome") for trial in trials if trial.state.is_finished()]
    trained = [trial for trial in trials if trial.user_attrs.get("outcome") == Outcome.TRAINED]
    best: Mapping[str, Any] = max((trial.user_attrs for trial in trained), key=itemgetter("accuracy"), default={})
    return StudySummary(
        name=study.study_name,
        identity=study_identity(system_attributes(study)),
        trained=len(trained),
        other=len(outcomes) - len(trained),
        running=sum(trial.state is TrialState.RUNNING for trial in trials),
        best=best.get("accuracy"),
        standard_error=best.get("standard_error"),
        latest=max(trial_times(trials), default=None),
    )
