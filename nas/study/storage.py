"""The study on disk: Optuna's storage opened for several writers, a lock, and the recovery of what a kill left."""

from __future__ import annotations

import fcntl
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

import optuna
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from nas.arch.errors import NasError, shown
from nas.arch.files import write_text_atomically
from nas.study.plan import MAX_RETRIES, masked
from nas.study.rows import Outcome

_OWNER: Final = "study.json"
IDENTITY: Final = "nas:identity"
INTERRUPTED: Final = "interrupted"
_SQLITE_TIMEOUT_S: Final = 60.0


class Objective(Protocol):
    """What a study maximises or minimises: Optuna's directions, and the names of the values."""

    @property
    def directions(self) -> tuple[str, ...]: ...
    @property
    def metric_names(self) -> tuple[str, ...]: ...


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """Optuna's storage at ``url``; SQLite with write-ahead log, so that readers and several writers get along.

    Raises: NasError if the database cannot be opened.
    """
    is_sqlite = url.startswith("sqlite:")
    arguments = {"connect_args": {"timeout": _SQLITE_TIMEOUT_S}} if is_sqlite else {}
    _check_folder(url)
    try:
        storage = optuna.storages.RDBStorage(url, engine_kwargs=arguments)
    except Exception as error:  # SQLAlchemy raises from several hierarchies; each means the same to the user
        raise NasError(f"study.storage {masked(url)!r} cannot be opened: {_first_line(error)}") from None
    if is_sqlite:
        sqlalchemy.event.listen(storage.engine, "connect", _use_write_ahead_log)
        storage.engine.dispose()  # connections made before the listener was there
    return storage


def open_study(
    storage: optuna.storages.BaseStorage, name: str, objective: Objective, identity: Mapping[str, Any]
) -> optuna.Study:
    """The study ``name``, created or resumed.

    ``identity`` is what must stay the same for trials to be comparable, by dotted names; a study that was begun with
    another is refused with the first difference in words.
    """
    study = optuna.create_study(
        study_name=name, storage=storage, directions=list(objective.directions), load_if_exists=True
    )
    known = study.user_attrs.get(IDENTITY)
    if known is None:
        if study.trials:
            raise NasError(f"study.name {name!r}: the storage holds a study of that name that is not of this project.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(objective.metric_names))
        study.set_user_attr(IDENTITY, json.dumps(identity, sort_keys=True, default=str))
    else:
        _check_identity(name, json.loads(known), json.loads(json.dumps(identity, default=str)))
    if tuple(direction.name.lower() for direction in study.directions) != objective.directions:
        raise NasError(f"study.name {name!r}: was begun with other objectives; choose another study.name.")
    return study


def known_study(url: str, name: str, objective: Objective, identity: Mapping[str, Any]) -> optuna.Study | None:
    """The study ``name`` in the storage at ``url`` if it was begun before; makes nothing.

    Raises: NasError as ``open_storage`` and ``open_study``.
    """
    _check_folder(url)
    path = _sqlite_path(url)
    if path is not None and not path.exists():
        return None
    storage = open_storage(url)
    if name not in optuna.get_all_study_names(storage):
        return None
    return open_study(storage, name, objective, identity)


def check_folder(folder: Path, storage_url: str, identity: Mapping[str, Any]) -> None:
    """Refuse a ``folder`` that another study's results stand in. Raises: NasError."""
    path = folder / _OWNER
    if not path.is_file():
        return
    known, owner = json.loads(path.read_text(encoding="utf-8")), _owner(storage_url, identity)
    if known["storage"] != owner["storage"]:
        raise NasError(
            f"{folder} holds the results of a study in {known['storage']}, this one is in {owner['storage']}: "
            "choose another study.name or runs_dir."
        )
    _check_identity(folder.name, known["identity"], owner["identity"])


def claim_folder(folder: Path, storage_url: str, identity: Mapping[str, Any]) -> None:
    """Write into ``folder`` whose results stand there."""
    text = json.dumps(_owner(storage_url, identity), indent=1, sort_keys=True)
    write_text_atomically(folder / _OWNER, text + "\n")


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the run's lock: while it is held no other search works on the same study, so RUNNING trials are stale.

    Raises: NasError at once if another process holds it.
    """
    lock = folder / ".lock"
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = lock.open("w")
    except OSError as error:
        raise NasError(f"runs_dir: cannot write to {folder}: {error.strerror}.") from None
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise NasError(
                f"another process is at work on {folder}: wait for it, or choose another study.name."
            ) from None
        try:
            yield
        finally:
            if list(folder.iterdir()) == [lock]:  # the search ended before it began
                lock.unlink()
                with suppress(OSError):  # something else was put there meanwhile
                    for parent in missing:
                        parent.rmdir()


def recover(study: optuna.Study, *, max_retries: int = MAX_RETRIES) -> int:
    """Queue the RUNNING trials of killed workers again; how many there were. Call it with the run's lock held."""
    stale = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    for trial in stale:
        after_kill(study, trial, max_retries=max_retries)
    return len(stale)


def after_kill(study: optuna.Study, trial: FrozenTrial, *, max_retries: int) -> None:
    """Queue a trial again whose worker was killed.

    A trial that this happens to more than ``max_retries`` times (out of memory, as a rule) fails instead: queued again
    and again it would stop the study for ever.
    """
    kills = trial.user_attrs.get("kills", 0) + 1
    study._storage.set_trial_user_attr(trial._trial_id, "kills", kills)
    if kills <= max_retries:
        requeue(study, trial)
    else:
        fail(study, trial, f"its worker was killed {kills} times; out of memory?")


def requeue(study: optuna.Study, trial: FrozenTrial) -> None:
    """Put an unfinished trial back at the head of the queue, so that it is neither lost nor counted.

    It keeps its number and its genotype: whatever comes after it is as if it had never been interrupted. A trial that
    was interrupted before its genotype was complete is given up; its successor draws the same genotype again.
    """
    if "arch_id" in trial.user_attrs or "fixed_params" in trial.system_attrs:
        study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
    else:
        fail(study, trial, "interrupted before it began", outcome=INTERRUPTED)


def fail(study: optuna.Study, trial: FrozenTrial, reason: str, *, outcome: str = Outcome.FAILED) -> None:
    """End an unfinished trial without a result; ``INTERRUPTED`` ones do not count as trials of the study."""
    study._storage.set_trial_user_attr(trial._trial_id, "outcome", str(outcome))
    study._storage.set_trial_user_attr(trial._trial_id, "reason", reason)
    study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)


def _owner(storage_url: str, identity: Mapping[str, Any]) -> dict[str, Any]:
    return {"storage": masked(storage_url), "identity": json.loads(json.dumps(identity, default=str))}


def _check_identity(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if changed:
        key = changed[0]
        more = f" (and {len(changed) - 1} more: {', '.join(changed[1:4])})" if len(changed) > 1 else ""
        raise NasError(
            f"study {name!r} was begun with {key} = {shown(before.get(key))}, now it is {shown(now.get(key))}{more}: "
            "its trials could not be compared. Choose another study.name, or give the earlier value."
        )


def _check_folder(url: str) -> None:
    """Refuse a database in a folder that is not there: more often a slip than a wish for a new tree."""
    path = _sqlite_path(url)
    if path is not None and not path.parent.is_dir():
        raise NasError(f"study.storage {url!r}: folder {path.parent} does not exist; make it first.")


def _sqlite_path(url: str) -> Path | None:
    """The file of an SQLite database; None for one in memory or of another kind."""
    path = url.removeprefix("sqlite:///") if url.startswith("sqlite:") else ""
    return Path(path) if path and path != ":memory:" else None


def _use_write_ahead_log(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _first_line(error: BaseException) -> str:
    said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return said.rstrip(". ") + "."
