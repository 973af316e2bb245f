"""A study in its storage: made, resumed, and refused where it or its folder is another's."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy

from nas.core.errors import NasError
from nas.study.objective import ObjectiveSettings
from nas.study.storage import opening
from nas.study.storage.attributes import system_attributes
from nas.study.storage.opening import (
    check_folder,
    check_reachable,
    claim_study,
    matching_study,
    open_storage,
    open_study,
    reach_storage,
)
from nas.study.storage.retry_policy import RetryPolicy
from nas.study.storage.retrying_storage import RetryingStorage
from nas.study.storage.study_format import with_present_names
from tests.study.fakes import PARETO, new_study

Opened = Callable[..., RetryingStorage]


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'optuna.db'}"


def test_sqlite_is_opened_with_a_write_ahead_log(tmp_path: Path) -> None:
    storage = open_storage(url(tmp_path))
    open_study(storage, "s", PARETO, {})
    engine = storage.backend.engine
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1  # NORMAL
    storage.close()
    plain = sqlite3.connect(tmp_path / "optuna.db")
    assert plain.execute("PRAGMA journal_mode").fetchone() == ("wal",)  # kept in the file: others see it too
    plain.close()


def test_a_database_that_cannot_be_opened_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "optuna.db").write_text("this is no database, but it is long enough to be read as one" * 20)
    with pytest.raises(NasError, match=r"study\.storage '.*' cannot be opened: file is not a database\.$"):
        open_storage(url(tmp_path))


@pytest.mark.parametrize(
    ("url", "package"),
    [
        ("postgresql://me:x@127.0.0.1:9/d", "psycopg"),
        ("mysql://me:x@127.0.0.1:9/d", "pymysql"),
        ("grpc://127.0.0.1:9", "grpc"),
    ],
)
def test_a_server_that_never_answered_is_not_waited_for(url: str, package: str) -> None:
    pytest.importorskip(package)

    def slept(_: float) -> None:
        pytest.fail("it is waited for")

    for open_first in (reach_storage, check_reachable):
        with pytest.raises(
            NasError, match=r"^study\.storage '.*127\.0\.0\.1:9.*': no server answers there \(.*\); correct"
        ) as caught:
            open_first(url, RetryPolicy(sleep=slept))
        assert "\n" not in str(caught.value) and "me:x" not in str(caught.value)


@pytest.mark.parametrize(
    "said", ["FATAL:  the database system is starting up", "FATAL:  sorry, too many clients already"]
)
def test_a_server_that_answers_is_waited_for_from_the_start(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server's own words are those of PostgreSQL's errcodes 57P03 and 53300."""
    answers = iter(range(3))
    make = opening.make_backend

    def busy_at_first(_: str) -> optuna.storages.BaseStorage:
        if next(answers, None) is not None:
            raise sqlalchemy.exc.OperationalError("connect", {}, Exception(f"connection to server failed: {said}"))
        return make(url(tmp_path))

    monkeypatch.setattr(opening, "make_backend", busy_at_first)
    pauses: list[float] = []
    reach_storage("postgresql://me:x@h/d", RetryPolicy(sleep=pauses.append)).close()
    assert len(pauses) == 2  # the first answer was that to the first contact


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_folder_that_is_not_there_is_not_made_for_a_study(tmp_path: Path, kind: str) -> None:
    with pytest.raises(NasError, match=r"no does not exist; make it first"):
        open_storage(f"{kind}:///{tmp_path / 'no' / 'study'}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_folder_is_no_file_nor_a_file_a_folder(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NasError, match=r"is a folder; name a file in it"):
        open_storage(f"{kind}:///{tmp_path}")
    with pytest.raises(NasError, match=r"file is a file; name a file in a folder"):
        open_storage(f"{kind}:///{tmp_path / 'file' / 'study'}")


def test_a_file_that_is_no_journal_is_not_written_into(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("milk, bread")
    with pytest.raises(NasError, match=r"notes\.txt': is no journal of Optuna's; name another file\."):
        open_storage(f"journal:///{path}")
    assert path.read_text() == "milk, bread"


def test_a_search_and_a_grid_are_told_apart_in_words(tmp_path: Path) -> None:
    claim_study(new_study(), tmp_path, "sqlite:///a.db", {"study.seed": 0, "space.name": "mixnet"})
    with pytest.raises(NasError, match=r"is of another kind, it has settings of space"):
        check_folder(tmp_path, "sqlite:///a.db", {"study.seed": 0, "phi": 1})


def test_a_folder_of_another_study_is_refused(tmp_path: Path) -> None:
    identity = {"study.seed": 0, "space.width": (1.0, 1.3)}
    check_folder(tmp_path, "sqlite:///a.db", identity)  # nobody's yet
    claim_study(new_study(), tmp_path, "sqlite:///a.db", identity)
    check_folder(tmp_path, "sqlite:///a.db", identity)
    with pytest.raises(
        NasError, match=r"holds the results of a study in sqlite:///a\.db, this one is in sqlite:///b\.db"
    ):
        check_folder(tmp_path, "sqlite:///b.db", identity)
    with pytest.raises(NasError, match=r"started with study\.seed = 0, now it is 7"):
        check_folder(tmp_path, "sqlite:///a.db", {**identity, "study.seed": 7})


def test_a_study_goes_on_with_the_same_identity(storage_url: str, opened: Opened) -> None:
    identity = {"space.width": [1.0, 1.3], "study.seed": 0, "space.path": Path("x")}
    first = open_study(opened(storage_url), "s", PARETO, identity)
    first.add_trial(optuna.trial.create_trial(values=[0.5, 1.0]))
    again = open_study(opened(storage_url), "s", PARETO, identity)
    assert len(again.trials) == 1
    assert again.metric_names == ["accuracy", "latency_ms"]
    with pytest.raises(NasError, match=r"started with study\.seed = 0, now it is 1"):
        open_study(opened(storage_url), "s", PARETO, {**identity, "study.seed": 1})


def test_to_ask_for_a_study_does_not_make_it(storage_url: str, opened: Opened) -> None:
    assert matching_study(storage_url, "s", PARETO, {}) is None
    open_study(opened(storage_url), "other", PARETO, {})
    assert matching_study(storage_url, "s", PARETO, {}) is None
    assert optuna.get_all_study_names(opened(storage_url)) == ["other"]
    study = matching_study(storage_url, "other", PARETO, {})
    assert study is not None
    study._storage.close()


def test_several_may_open_a_new_storage_at_once(storage_url: str) -> None:
    def begin(_: int) -> int:
        storage = open_storage(storage_url)
        number: int = open_study(storage, "s", PARETO, {"a": 1}).ask().number
        storage.remove_session()
        storage.close()
        return number

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(begin, range(4))) == [0, 1, 2, 3]


def test_a_study_that_another_process_begins_meanwhile_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = optuna.storages.InMemoryStorage()

    def read_before_another_begins(study: optuna.Study) -> dict[str, Any]:
        known = system_attributes(study)
        monkeypatch.setattr(opening, "system_attributes", system_attributes)
        open_study(storage, "s", PARETO, {"a": 1}).ask()
        return known

    monkeypatch.setattr(opening, "system_attributes", read_before_another_begins)
    assert open_study(storage, "s", PARETO, {"a": 1}).ask().number == 1


@pytest.mark.parametrize(
    ("now", "message"),
    [
        ({"proxy.epochs": 8, "study.seed": 0}, r"started with proxy\.epochs = 4, now it is 8: .* another study\.name"),
        ({"proxy.epochs": 8, "study.seed": 1}, r"proxy\.epochs = 4, now it is 8 \(and 1 more: study\.seed\)"),
        ({"study.seed": 0}, r"proxy\.epochs = 4, now it is null"),
        ({"proxy.epochs": 4, "study.seed": 0, "new": 1}, r"started with new = null, now it is 1"),
    ],
)
def test_trials_that_could_not_be_compared_are_not_mixed(now: Mapping[str, int], message: str) -> None:
    storage = optuna.storages.InMemoryStorage()
    open_study(storage, "s", PARETO, {"proxy.epochs": 4, "study.seed": 0})
    with pytest.raises(NasError, match=message):
        open_study(storage, "s", PARETO, now)


def test_other_peoples_studies_and_other_objectives_are_refused() -> None:
    storage = optuna.storages.InMemoryStorage()
    theirs = optuna.create_study(study_name="theirs", storage=storage, directions=list(PARETO.directions))
    theirs.add_trial(optuna.trial.create_trial(values=[0.5, 1.0]))
    with pytest.raises(NasError, match="not of this project"):
        open_study(storage, "theirs", PARETO, {})
    open_study(storage, "ours", PARETO, {})
    with pytest.raises(NasError, match=r"study\.name 'ours': .*choose another study\.name"):
        open_study(storage, "ours", ObjectiveSettings(kind="mnasnet", target_ms=1.0), {})


def test_a_study_that_was_begun_under_an_earlier_name_of_a_setting_goes_on(tmp_path: Path) -> None:
    storage = optuna.storages.InMemoryStorage()
    open_study(storage, "s", PARETO, {"table.sides_px": [224, 160]})
    open_study(storage, "s", PARETO, {"table.resolution_px": (224, 160)})
    claim_study(new_study(), tmp_path, "sqlite:///a.db", {"table.sides_px": [224, 160]})
    check_folder(tmp_path, "sqlite:///a.db", {"table.resolution_px": (224, 160)})
    with pytest.raises(NasError, match=r"started with table\.resolution_px = \[224, 160\], now it is \[224\]"):
        open_study(storage, "s", PARETO, {"table.resolution_px": (224,)})
    assert with_present_names({"table": {"sides_px": [8], "widths": None}, "sides_px": 1}) == {
        "table": {"resolution_px": [8], "widths": None},
        "sides_px": 1,
    }


def test_a_study_that_stored_settings_of_a_supernet_it_does_not_use_goes_on() -> None:
    storage = optuna.storages.InMemoryStorage()
    before = {"estimator.name": "zero_cost", "estimator.supernet": {"lr": 0.01}, "estimator.anchors": 8}
    open_study(storage, "scored", PARETO, before)
    open_study(storage, "scored", PARETO, {"estimator.name": "zero_cost", "estimator.anchors": 8})
    open_study(storage, "shared", PARETO, {**before, "estimator.name": "supernet"})
    with pytest.raises(NasError, match=r"study 'shared' was started with estimator\.supernet = \{'lr': 0\.01\}, now"):
        open_study(storage, "shared", PARETO, {**before, "estimator.name": "supernet", "estimator.supernet": {"lr": 1}})
