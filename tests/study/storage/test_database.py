"""Trials read and written by our own statements are those of Optuna's storage, whole or not at all."""

from __future__ import annotations

import math
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.study.storage import database
from nas.study.storage.backends import Journal, close_backend, make_backend
from nas.study.storage.database import Database
from nas.study.storage.retry_policy import is_transient, storage_error_reason
from nas.study.storage.trial_writes import TrialWrites
from nas.study.storage.urls import checked_url

KINDS = CategoricalDistribution(("k3.5", "k7", 1, 2.5, True, None))
SPACE = {"kind": KINDS, "depth": IntDistribution(1, 9), "rate": FloatDistribution(1e-3, 1.0, log=True)}
DIRECTIONS = [optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE]
FAIL = TrialState.FAIL
Backend = Callable[[], Any]


@pytest.fixture
def backend(storage_url: str) -> Iterator[Backend]:
    """Opens the storage as one more process does."""
    made = []

    def opened() -> Any:
        made.append(make_backend(checked_url(storage_url)))
        return made[-1]

    yield opened
    for one in made:
        close_backend(one)


@pytest.fixture
def optunas(backend: Backend) -> Iterator[RDBStorage]:
    """Optuna's own storage on the database of ``backend``."""
    own = backend()
    if not isinstance(own, Database):
        pytest.skip("a journal is read by Optuna itself")
    made = RDBStorage(own.engine.url.render_as_string(hide_password=False))
    yield made
    made.engine.dispose()


def some_trial(rng: random.Random) -> FrozenTrial:
    """A trial in any state, with numbers that databases have no place for."""
    state = rng.choice([*TrialState])
    numbers = [math.inf, -math.inf, 0.0, -1e300, rng.random()]
    names = rng.sample(sorted(SPACE), rng.randint(0, 3))
    values = {"kind": rng.choice(KINDS.choices), "depth": rng.randint(1, 9), "rate": rng.uniform(1e-3, 1.0)}
    return create_trial(
        state=state,
        values=rng.sample(numbers, 2) if state is TrialState.COMPLETE else None,
        params={name: values[name] for name in names},
        distributions={name: SPACE[name] for name in names},
        user_attrs={"arch_id": f"{rng.getrandbits(48):x}", "words": "ä ' \" \\ %s", "none": None},
        system_attrs={"counts": [[1, 2], [3, 4]], "nested": {"a": {"b": 1.5}}},
        intermediate_values={step: rng.choice([*numbers, math.nan]) for step in range(rng.randint(0, 3))},
    )


def shown(trials: list[FrozenTrial]) -> list[str]:
    """Everything of ``trials``; as text, because NaN is not equal to itself, and attributes have no order."""
    attributes = [
        {**vars(trial), "_user_attrs": sorted(trial.user_attrs.items()), "_system_attrs": sorted(trial.system_attrs)}
        for trial in trials
    ]
    return [f"{one} {trial.system_attrs.get('nested')}" for one, trial in zip(attributes, trials, strict=True)]


def test_trials_written_here_are_read_by_optuna_and_the_other_way_round(backend: Backend, optunas: RDBStorage) -> None:
    ours, rng = backend(), random.Random(0)
    studies = [optunas.create_new_study(DIRECTIONS, name) for name in ("a", "b")]
    for index in range(40):
        (ours if index % 2 else optunas).create_new_trial(studies[index % 3 % 2], some_trial(rng))
    for study_id in studies:
        theirs = optunas.get_all_trials(study_id)
        assert shown(ours.get_all_trials(study_id)) == shown(theirs)
        assert shown([ours.get_trial(trial._trial_id) for trial in theirs]) == shown(theirs)
        assert [trial.number for trial in theirs] == list(range(len(theirs)))
        for states in [(TrialState.WAITING,), (TrialState.RUNNING, TrialState.COMPLETE)]:
            assert shown(ours.get_all_trials(study_id, False, states)) == shown(
                optunas.get_all_trials(study_id, False, states)
            )


def test_what_one_process_writes_another_reads_next(backend: Backend) -> None:
    one, other = backend(), backend()
    study_id = one.create_new_study(DIRECTIONS, "s")
    first, second = (one.create_new_trial(study_id) for _ in range(2))
    assert [trial.state for trial in other.get_all_trials(study_id)] == [TrialState.RUNNING] * 2
    one.set_trial_param(second, "kind", 1, KINDS)
    one.set_trial_state_values(second, TrialState.COMPLETE, [1.0, 2.0])
    third = one.create_new_trial(study_id, create_trial(state=TrialState.WAITING))
    one.set_trial_user_attr(first, "a", 1)
    found = other.get_all_trials(study_id)
    assert [trial.state for trial in found] == [TrialState.RUNNING, TrialState.COMPLETE, TrialState.WAITING]
    assert (found[0].user_attrs, found[1].params, found[1].values) == ({"a": 1}, {"kind": "k7"}, [1.0, 2.0])
    assert other.set_trial_state_values(third, TrialState.RUNNING)
    assert one.get_all_trials(study_id)[2].state is TrialState.RUNNING
    assert other.get_trial_id_from_study_id_trial_number(study_id, 1) == second
    with pytest.raises(KeyError):
        other.get_trial(999)


def test_writes_to_a_trial_are_all_stored_or_none(backend: Backend) -> None:
    storage: Database | Journal = backend()
    study_id = storage.create_new_study(DIRECTIONS, "s")
    earlier = storage.create_new_trial(study_id, create_trial(state=TrialState.RUNNING, user_attrs={"a": 1}))
    trial_id = storage.create_new_trial(study_id)
    whole = TrialWrites(
        params={"kind": (1, KINDS)},
        user_attrs={"a": 2, "b": [1]},
        system_attrs={"c": "d"},
        state=TrialState.COMPLETE,
        values=[math.inf, 0.5],
    )
    before = shown([storage.get_trial(trial_id)])
    with pytest.raises(TypeError):
        storage.write_trial(trial_id, TrialWrites(user_attrs={"a": 2}, system_attrs={"c": object()}))
    assert shown([storage.get_trial(trial_id)]) == before
    for one in (earlier, trial_id):
        storage.write_trial(one, whole)
        found = storage.get_trial(one)
        assert (found.params, found.user_attrs, found.values) == ({"kind": "k7"}, {"a": 2, "b": [1]}, [math.inf, 0.5])
        assert (found.state, found.datetime_complete is None) == (TrialState.COMPLETE, False)
    finished = shown([backend().get_trial(trial_id)])
    with pytest.raises(UpdateFinishedTrialError):
        storage.write_trial(trial_id, TrialWrites(user_attrs={"a": 3}, state=TrialState.FAIL))
    with pytest.raises(KeyError):
        storage.write_trial(999, whole)
    assert shown([storage.get_trial(trial_id)]) == finished == shown([backend().get_trial(trial_id)])


def test_a_write_is_repeated_where_its_answer_was_lost(backend: Backend) -> None:
    storage: Database | Journal = backend()
    study_id = storage.create_new_study(DIRECTIONS, "s")
    trial_id = storage.create_new_trial(study_id)
    storage.set_trial_param(trial_id, "depth", 3, SPACE["depth"])
    for kind in (1, 1, 2):
        writes = TrialWrites(params={"depth": (3, SPACE["depth"]), "kind": (kind, KINDS)}, user_attrs={"a": kind})
        storage.write_trial(trial_id, writes)
        found = backend().get_trial(trial_id)
        assert found.params == {"depth": 3, "kind": KINDS.choices[kind]} and found.user_attrs == {"a": kind}


def test_an_error_of_the_driver_while_rows_are_fetched_may_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_error = sqlite3.OperationalError("disk I/O error")
    disk_error.sqlite_errorcode = sqlite3.SQLITE_IOERR

    class Torn:
        @property
        def cursor(self) -> Any:
            monkeypatch.undo()  # for the next read
            return self

        def fetchall(self) -> None:
            raise disk_error

    storage = make_backend(f"sqlite:///{tmp_path / 'study'}")
    trial_id = storage.create_new_trial(storage.create_new_study(DIRECTIONS, "s"))
    result = database._result
    monkeypatch.setattr(database, "_result", lambda *given: Torn() if given[1] == "trial_params" else result(*given))
    with pytest.raises(StorageInternalError) as caught:
        storage.get_trial(trial_id)
    assert is_transient(caught.value) and storage_error_reason(caught.value) == "disk I/O error"
    assert storage.get_trial(trial_id).state is TrialState.RUNNING
    close_backend(storage)


def test_a_choice_of_another_kind_than_before_is_refused_and_makes_no_trial(backend: Backend) -> None:
    storage = backend()
    if not isinstance(storage, Database):
        pytest.skip("Optuna's journal does not compare the choices of a new trial")
    study_id = storage.create_new_study(DIRECTIONS, "s")
    storage.create_new_trial(
        study_id, create_trial(state=TrialState.RUNNING, params={"a": 1}, distributions={"a": KINDS})
    )
    other = create_trial(state=TrialState.RUNNING, params={"a": 1}, distributions={"a": IntDistribution(1, 9)})
    with pytest.raises(ValueError, match="Cannot set different distribution kind"):
        storage.create_new_trial(study_id, other)
    assert len(storage.get_all_trials(study_id)) == 1


def test_workers_that_make_trials_at_the_same_time_number_them_without_gaps(backend: Backend) -> None:
    workers, each = 3, 5
    study_id = backend().create_new_study(DIRECTIONS, "s")
    storages, ready = [backend() for _ in range(workers)], threading.Barrier(workers)

    def make(storage: Any) -> None:
        for index in range(each):
            ready.wait()
            template = create_trial(
                state=TrialState.RUNNING, params={"kind": "k7"}, distributions={"kind": KINDS}, user_attrs={"i": index}
            )
            storage.create_new_trial(study_id, template)
        storage.remove_session()

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(make, storages))
    for storage in (*storages, backend()):
        found = storage.get_all_trials(study_id)
        assert [trial.number for trial in found] == list(range(workers * each))
        assert all(trial.params == {"kind": "k7"} and "i" in trial.user_attrs for trial in found)


def test_several_writes_are_one_append_to_a_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = make_backend(f"journal:///{tmp_path / 'journal'}")
    assert isinstance(journal, Journal)
    trial_id = journal.create_new_trial(journal.create_new_study(DIRECTIONS, "s"))
    syncs: list[int] = []
    monkeypatch.setattr("os.fsync", syncs.append)
    journal.write_trial(trial_id, TrialWrites(user_attrs={"a": 1, "b": 2}, state=TrialState.PRUNED))
    assert len(syncs) == 1
    assert make_backend(f"journal:///{tmp_path / 'journal'}").get_trial(trial_id).user_attrs == {"a": 1, "b": 2}


def test_a_batch_that_a_journal_refuses_is_refused_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process finishes the trial between the check of its state and the append."""
    one, other = (make_backend(f"journal:///{tmp_path / 'journal'}") for _ in range(2))
    assert isinstance(one, Journal)
    study_id = one.create_new_study(DIRECTIONS, "s")
    trial_id = one.create_new_trial(study_id)
    monkeypatch.setattr(one, "check_trial_is_updatable", lambda *_: other.set_trial_state_values(trial_id, FAIL))
    with pytest.raises(UpdateFinishedTrialError):
        one.write_trial(trial_id, TrialWrites(user_attrs={"a": 1, "b": 2}, state=TrialState.PRUNED))
    (found,) = one.get_all_trials(study_id)
    assert (found.state, found.user_attrs) == (FAIL, {})
