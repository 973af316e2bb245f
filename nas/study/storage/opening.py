"""Opening or creating a study, and refusing another study's name or folder."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import optuna
import sqlalchemy

from nas.core.credentials import mask_url
from nas.core.errors import NasError, quoted
from nas.core.files import write_text_atomically
from nas.core.parsing import MAX_JSON_CHARACTERS, parse_json, read_text
from nas.study.objective import Objective
from nas.study.storage.attributes import set_system_attribute, system_attributes
from nas.study.storage.backends import close_backend, make_backend
from nas.study.storage.lease import work_under_lease
from nas.study.storage.optuna_private import storage_of
from nas.study.storage.retry_policy import (
    RetryPolicy,
    RetryWait,
    call_with_retries,
    is_refusal,
    is_transient,
    is_unreached,
    storage_error_reason,
)
from nas.study.storage.retrying_storage import RetryingStorage
from nas.study.storage.study_format import FORMAT_ATTRIBUTE, STUDY_FORMAT, check_study_format, with_present_names
from nas.study.storage.urls import check_url_file, checked_url, url_file

_OWNER: Final = "study.json"
IDENTITY: Final = "nas:identity"
_COMMON_GROUPS: Final = {"constraint", "data", "latency", "objective", "proxy", "study"}
_SUPERNET: Final = "estimator.supernet"
# Settings that are not stored where they have this value.
_WHEN_ABSENT: Final = {"estimator.name": "proxy", "latency.speed": "typical"}
_MAX_OVERRIDES: Final = 12  # shown in a line
_TABLES: Final = 20  # a few more than Optuna has
_SILENT: Final = RetryPolicy()


def open_storage(url: str, retry: RetryPolicy = _SILENT) -> RetryingStorage:
    """Optuna's storage at ``url``, with retries while it is unavailable.

    It may be locked, full or unreachable for a while.

    Raises: NasError for a URL that is no storage's, and for a storage that cannot be opened or stays away.
    """
    url = checked_url(url)
    check_url_file(url)

    def make() -> optuna.storages.BaseStorage:
        try:
            return _with_tables(url, retry)
        except NasError:
            raise
        except Exception as error:  # of several hierarchies; each means the same to the user
            if is_transient(error) and not is_refusal(error):
                raise
            raise NasError(
                f"study.storage {mask_url(url)!r} cannot be opened: {storage_error_reason(error, url)}."
            ) from None

    return RetryingStorage(call_with_retries(make, RetryWait(retry, url)), url, retry)


def reach_storage(url: str, retry: RetryPolicy = _SILENT) -> RetryingStorage:
    """``open_storage`` for the first contact of a command.

    A server that does not answer is not waited for: a wrong host is more likely then than a short absence.

    Raises: NasError as ``open_storage``, and at once where no server answers.
    """
    url = checked_url(url)
    try:
        if url_file(url) is None:
            close_backend(_answering(make_backend(url)))
    except Exception as error:  # as in ``open_storage``, which reports or retries all others
        if is_unreached(error) and not is_refusal(error):
            raise NasError(
                f"study.storage {mask_url(url)!r}: no server answers there ({storage_error_reason(error, url)}); "
                "correct its host and port, or start it, and run the command again."
            ) from None
    return open_storage(url, retry)


def existing_storage(url: str, retry: RetryPolicy = _SILENT) -> RetryingStorage | None:
    """The storage at ``url``; None if that is a file that does not exist.

    Raises: NasError as ``open_storage``.
    """
    return open_storage(url, retry) if _may_exist(url) else None


def check_reachable(url: str, retry: RetryPolicy) -> None:
    """Refuse a storage that cannot be opened; none is created.

    Raises: NasError as ``reach_storage``.
    """
    if _may_exist(url):
        reach_storage(url, retry).close()


def open_study(
    storage: optuna.storages.BaseStorage, name: str, objective: Objective, identity: Mapping[str, Any]
) -> optuna.Study:
    """The study ``name``, created or resumed.

    ``identity`` is what must stay the same for trials to be comparable, by dotted names; a study that was started with
    another is refused with the first difference in words.
    """
    study = optuna.create_study(
        study_name=name, storage=storage, directions=list(objective.directions), load_if_exists=True
    )
    known = system_attributes(study)
    if IDENTITY not in known and study.trials:
        known = system_attributes(study)  # another process may have written it meanwhile, and then begun trials
        if IDENTITY not in known:
            raise NasError(f"study.name {name!r}: the storage holds a study of that name that is not of this project.")
    if IDENTITY not in known:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(objective.metric_names))
        set_system_attribute(study, FORMAT_ATTRIBUTE, STUDY_FORMAT)  # first: with an identity alone it is format 1
        set_system_attribute(study, IDENTITY, _text_of(identity))
    else:
        check_stored_format(study)
        _check_identity(name, study_identity(known), stored_identity(identity))
    if tuple(direction.name.lower() for direction in study.directions) != objective.directions:
        raise NasError(f"study.name {name!r}: was started with other objectives; choose another study.name.")
    work_under_lease(study)
    return study


def check_stored_format(study: optuna.Study) -> None:
    """Refuse a ``study`` stored in a format newer than this version reads.

    Raises: NasError.
    """
    storage = storage_of(study)
    place = f" in {mask_url(storage.url)}" if isinstance(storage, RetryingStorage) else ""
    check_study_format(f"study {study.study_name!r}{place}", system_attributes(study).get(FORMAT_ATTRIBUTE))


def matching_study(
    url: str, name: str, objective: Objective, identity: Mapping[str, Any], retry: RetryPolicy = _SILENT
) -> optuna.Study | None:
    """The study ``name`` in the storage at ``url`` if it exists; creates none.

    Raises: NasError as ``open_storage`` and ``open_study``.
    """
    storage = existing_storage(url, retry)
    if storage is None:
        return None
    if name not in optuna.get_all_study_names(storage):
        storage.close()
        return None
    return open_study(storage, name, objective, identity)


def study_identity(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a study's system ``attributes``, by dotted names.

    Empty if nas did not make the study.
    """
    return with_present_names(json.loads(attributes.get(IDENTITY, "{}")))


def stored_identity(identity: Mapping[str, Any]) -> dict[str, Any]:
    """``identity`` as ``study_identity`` reads it back: tuples are lists then."""
    return dict(json.loads(_text_of(identity)))


def check_folder(folder: Path, storage_url: str, identity: Mapping[str, Any]) -> None:
    """Refuse a ``folder`` that holds another study's results. Raises: NasError."""
    path = folder / _OWNER
    if not path.is_file():
        return
    known, owner = _read_owner(path), _owner(storage_url, identity)
    before = mask_url(known["storage"])  # an older version kept the user's name
    if before != owner["storage"]:
        raise NasError(
            f"{folder} holds the results of a study in {before}, this one is in {owner['storage']}: "
            "choose another study.name or runs_dir."
        )
    _check_identity(folder.name, with_present_names(known["identity"]), owner["identity"])


def _read_owner(path: Path) -> dict[str, Any]:
    """Storage and settings of the study that a folder belongs to. Raises: NasError."""
    remedy = "choose another study.name, or delete the file if the folder's results are not needed"
    try:
        known = parse_json(read_text(path, max_characters=MAX_JSON_CHARACTERS))
    except (OSError, UnicodeDecodeError, NasError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
        raise NasError(f"{path}: cannot be read ({reason}); {remedy}.") from None
    fields = ("storage", str), ("identity", dict)
    if not isinstance(known, dict) or not all(isinstance(known.get(name), kind) for name, kind in fields):
        raise NasError(f"{path}: must have the study's storage and identity; {remedy}.")
    return known


def claim_study(study: optuna.Study, folder: Path, storage_url: str, identity: Mapping[str, Any]) -> None:
    """Write the settings' identity into ``study`` and ``folder``.

    Call it with the study acquired.

    Of two searches that made the study in the same moment the other may have written its own identity last.
    """
    set_system_attribute(study, IDENTITY, _text_of(identity))
    text = json.dumps(_owner(storage_url, identity), indent=1, sort_keys=True)
    write_text_atomically(folder / _OWNER, text + "\n")


def _may_exist(url: str) -> bool:
    """Whether ``url`` is that of a server or an existing file. Raises: NasError."""
    check_url_file(url)
    path = url_file(url)
    return path is None or path.exists()


def _answering(backend: optuna.storages.BaseStorage) -> optuna.storages.BaseStorage:
    """``backend``, which has answered a question.

    A proxy is not asked when it is made.
    """
    with suppress(KeyError):  # no study has an empty name
        backend.get_study_id_from_name("")
    return backend


def _text_of(identity: Mapping[str, Any]) -> str:
    return json.dumps(identity, sort_keys=True, default=str)


def _owner(storage_url: str, identity: Mapping[str, Any]) -> dict[str, Any]:
    return {"storage": mask_url(storage_url), "identity": stored_identity(identity)}


def _check_identity(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    unused = {_SUPERNET} if before.get("estimator.name") != "supernet" else set()  # once stored of every estimator
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key) and key not in unused]
    own, wanted = _own_groups(before), _own_groups(now)
    if own and wanted and not own & wanted:
        groups = ", ".join(sorted(own))
        raise NasError(f"study {name!r} is of another kind, it has settings of {groups}: choose another study.name.")
    if changed:
        changed.sort(key=lambda key: not key.endswith(".name"))  # which the others of its group follow from
        key, *others = changed
        more = f" (and {len(others)} more: {', '.join(others[:3])})" if others else ""
        first, second = (quoted(one.get(key, _WHEN_ABSENT.get(key))) for one in (before, now))
        raise NasError(
            f"study {name!r} was started with {key} = {first}, now it is {second}{more}: its trials could not be "
            f"compared. {_advice(before, changed)}"
        )


def _advice(before: Mapping[str, Any], changed: Sequence[str]) -> str:
    """What to do about the ``changed`` settings.

    Names their values ``before``, where all are known, or follow from the ``name`` of their group, and can be written
    as words.
    """
    earlier = {**_WHEN_ABSENT, **before}
    texts = {
        key: earlier[key] if isinstance(earlier[key], str) else quoted(earlier[key])
        for key in changed
        if key in earlier
    }
    is_whole = all(key in texts or f"{key.partition('.')[0]}.name" in texts for key in changed)
    is_short = 0 < len(texts) <= _MAX_OVERRIDES and "latency.device" not in texts
    if is_whole and is_short and all(re.fullmatch(r"[\w./+-]{1,40}", text) for text in texts.values()):
        words = " ".join(f"{key}={text}" for key, text in texts.items())
        return f"Add {words} to resume it, or choose another study.name."
    return "Choose another study.name, or give the earlier value."


def _own_groups(identity: Mapping[str, Any]) -> set[str]:
    """Groups of settings that not every kind of study has.

    A study's kind is recognised by them.
    """
    return {key.partition(".")[0] for key in identity} - _COMMON_GROUPS


def _with_tables(url: str, retry: RetryPolicy) -> optuna.storages.BaseStorage:
    """The storage at ``url``, with its tables created once.

    Where several processes open a new database, one creates a table or its row and the others fail; they try again.
    """
    for _ in range(_TABLES):
        try:
            return make_backend(url)
        except sqlalchemy.exc.DBAPIError as error:
            if not isinstance(error, sqlalchemy.exc.IntegrityError) and "already exists" not in str(error):
                raise
            retry.sleep(0.1)
    return make_backend(url)
