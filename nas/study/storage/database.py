"""Optuna's database storage, with a few statements for each trial.

Optuna writes each choice and each attribute of a trial in a transaction of its own, reads them as objects of the ORM,
and decodes the same distribution again for every trial. The tables stay Optuna's: any other program of Optuna's reads
what is written here.
"""

from __future__ import annotations

import copy
import json
import math
import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any, Final

import sqlalchemy
from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
    json_to_distribution,
)
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import BindParameter, Connection, CursorResult, Select, Table, bindparam, func, select

from nas.study.storage.optuna_private import check_tables, optuna_tables, trial_id
from nas.study.storage.trial_writes import TrialWrites

_SQLITE_TIMEOUT_S: Final = 60.0
_CHUNK: Final = 500  # trials read at once: as many variables as every database takes in a statement
_revisions: Final[set[str]] = set()  # of tables, found to be those of the installed Optuna
_FINITE: Final = "FINITE"
_INFINITE: Final = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}  # Optuna's names of numbers
_FIRST: Final = itemgetter(0)
_NUMBER: Final = attrgetter("number")
# Columns that are read, by table: the first one tells the rows of a trial apart, or orders them.
_COLUMNS: Final = {
    "trials": ("number", "state", "datetime_start", "datetime_complete"),
    "trial_params": ("param_id", "param_name", "param_value", "distribution_json"),
    "trial_values": ("objective", "value", "value_type"),
    "trial_intermediate_values": ("step", "intermediate_value", "intermediate_value_type"),
    "trial_user_attributes": ("key", "value_json"),
    "trial_system_attributes": ("key", "value_json"),
}


@dataclass(slots=True)
class _KnownTrials:
    """Trials of one study as of the last read.

    ``trials``: in the order of their numbers. ``open``: those that were not finished, by id. ``last_id``: the newest.
    """

    trials: list[FrozenTrial] = field(default_factory=list)
    open: dict[int, FrozenTrial] = field(default_factory=dict)
    last_id: int = -1

    def enter(self, trial: FrozenTrial) -> None:
        """Enter ``trial`` as it is now."""
        place = bisect_left(self.trials, trial.number, key=_NUMBER)
        is_known = place < len(self.trials) and self.trials[place].number == trial.number
        self.trials[place : place + is_known] = [trial]
        self.last_id = max(self.last_id, trial_id(trial))
        self.open.pop(trial_id(trial), None)
        if not trial.state.is_finished():
            self.open[trial_id(trial)] = trial

    def of(self, states: Container[TrialState] | None) -> list[FrozenTrial]:
        """Trials in one of ``states``, or all; finished ones are looked at if wanted."""
        if states is None:
            return list(self.trials)
        wants_finished = any(state.is_finished() and state in states for state in TrialState)
        candidates = self.trials if wants_finished else sorted(self.open.values(), key=_NUMBER)
        return [trial for trial in candidates if trial.state in states]


class Database(RDBStorage):  # type: ignore[misc]
    """Optuna's database storage, which leaves no connection open on failure.

    It keeps the finished trials that it has read, as Optuna's own cache does, and is not put behind that.
    Its tables are compared with the installed Optuna's migration scripts once per process, not at each opening.
    """

    def __init__(self, url: str, engine_kwargs: dict[str, Any]) -> None:
        self._compatible: set[tuple[int, str, str]] = set()  # study, choice and distribution, found to fit
        self._known: dict[int, _KnownTrials] = defaultdict(_KnownTrials)  # by study
        self._finished: dict[int, FrozenTrial] = {}  # by id
        self._reading = threading.Lock()
        try:
            super().__init__(url, engine_kwargs=engine_kwargs, skip_compatibility_check=True)
            if (revision := self.get_current_version()) not in _revisions:
                check_tables(self)
                _revisions.add(revision)
        except BaseException:
            if hasattr(self, "engine"):
                self.engine.dispose()
            raise

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """The trial as it is stored now. Raises: KeyError."""
        if (finished := self._finished.get(trial_id)) is not None:
            return finished
        with self._transaction() as connection:
            found = list(_read_trials(connection, [trial_id]))
        if not found:
            raise KeyError(f"no trial has the id {trial_id}")
        return found[0]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Trials by number; finished ones are read once, all others at each call."""
        with self._reading:
            known = self._known[study_id]
            with self._transaction() as connection:
                if not known.trials:
                    _check_study(connection, study_id)
                trials = _table("trials")
                newer = select(trials.c.trial_id).where(
                    trials.c.study_id == study_id, trials.c.trial_id > known.last_id
                )
                ids = [*sorted(known.open), *sorted(connection.execute(newer).scalars())]
                for trial in _read_trials(connection, ids):
                    known.enter(trial)
                    if trial.state.is_finished():
                        self._finished[trial_id(trial)] = trial
            found = known.of(states)
        return copy.deepcopy(found) if deepcopy else found

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """Id of a trial by its number. Raises: KeyError."""
        trials = self._known[study_id].trials
        place = bisect_left(trials, trial_number, key=_NUMBER)
        if place < len(trials) and trials[place].number == trial_number:
            return trial_id(trials[place])
        return int(super().get_trial_id_from_study_id_trial_number(study_id, trial_number))

    def delete_study(self, study_id: int) -> None:
        """Delete the study, which may have been read before."""
        super().delete_study(study_id)
        with self._reading:
            for trial in self._known.pop(study_id, _KnownTrials()).trials:
                self._finished.pop(trial_id(trial), None)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Make a trial with all that ``template_trial`` has, in one transaction."""
        template = template_trial or create_trial(state=TrialState.RUNNING)
        trials = _table("trials")
        with self._transaction(writes=True) as connection:
            _check_study(connection, study_id, lock=True)  # numbers are counted: one trial after the other
            row = {
                "study_id": study_id,
                "state": template.state,
                "datetime_start": _to_utc(template.datetime_start),
                "datetime_complete": _to_utc(template.datetime_complete),
            }
            made = connection.execute(trials.insert().values(row)).inserted_primary_key
            new_id: int = made[0] if made else 0
            earlier = select(func.count()).where(trials.c.study_id == study_id, trials.c.trial_id < new_id)
            number = connection.execute(earlier).scalar_one()
            connection.execute(trials.update().where(trials.c.trial_id == new_id).values(number=number))
            internal = {
                name: (template.distributions[name].to_internal_repr(value), template.distributions[name])
                for name, value in template.params.items()
            }
            _insert(connection, "trial_params", new_id, self._param_rows(connection, study_id, internal))
            _insert(connection, "trial_user_attributes", new_id, _attribute_rows(template.user_attrs))
            _insert(connection, "trial_system_attributes", new_id, _attribute_rows(template.system_attrs))
            _insert(connection, "trial_values", new_id, _value_rows(template.values or ()))
            _insert(connection, "trial_intermediate_values", new_id, _step_rows(template.intermediate_values))
        return new_id

    def write_trial(self, trial_id: int, writes: TrialWrites) -> None:
        """Write into an unfinished trial in one transaction, its final state included.

        What is there already is replaced: the answer to the first attempt may have been lost.

        Raises: KeyError, UpdateFinishedTrialError.
        """
        with self._transaction(writes=True) as connection:
            study_id = _lock_unfinished(connection, trial_id)
            params = self._param_rows(connection, study_id, writes.params)
            _put(connection, "trial_params", trial_id, params, key="param_name")
            _put(connection, "trial_user_attributes", trial_id, _attribute_rows(writes.user_attrs), key="key")
            _put(connection, "trial_system_attributes", trial_id, _attribute_rows(writes.system_attrs), key="key")
            if writes.values is not None:
                _put(connection, "trial_values", trial_id, _value_rows(writes.values), key="objective")
            if writes.state is not None:
                _finish(connection, trial_id, writes.state)

    def _param_rows(
        self, connection: Connection, study_id: int, params: Mapping[str, tuple[float, BaseDistribution]]
    ) -> list[dict[str, Any]]:
        """Columns of choices, by their number within the distribution.

        Raises: ValueError for a distribution that does not fit the earlier trials of the study.
        """
        rows = []
        for name, (value, distribution) in params.items():
            text = distribution_to_json(distribution)
            self._check_compatible(connection, study_id, name, text, distribution)
            rows.append({"param_name": name, "param_value": value, "distribution_json": text})
        return rows

    def _check_compatible(
        self, connection: Connection, study_id: int, name: str, text: str, distribution: BaseDistribution
    ) -> None:
        if (study_id, name, text) in self._compatible:
            return
        trials, params = _table("trials"), _table("trial_params")
        query = select(params.c.distribution_json).join(trials, trials.c.trial_id == params.c.trial_id)
        earlier = connection.execute(query.where(trials.c.study_id == study_id, params.c.param_name == name).limit(1))
        if (known := earlier.scalar()) is not None:
            check_distribution_compatibility(_distribution(known), distribution)
            self._compatible.add((study_id, name, text))

    @contextmanager
    def _transaction(self, *, writes: bool = False) -> Iterator[Connection]:
        """One transaction; an error of the database is Optuna's ``StorageInternalError``."""
        try:
            with self.engine.begin() as connection:
                yield connection
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise StorageInternalError("the database refused a statement") from error


class SerialSqlite(Database):
    """SQLite with a write-ahead log, where a queued trial is taken once.

    Optuna reads a trial's state and then sets it. Python's sqlite3 begins a transaction only before the second of the
    two, so that two workers may both find the trial WAITING: of 60 queued trials three processes took 9 twice.
    """

    def __init__(self, url: str) -> None:
        self._writing = threading.local()
        super().__init__(url, {"connect_args": {"timeout": _SQLITE_TIMEOUT_S}})
        sqlalchemy.event.listen(self.engine, "connect", _use_write_ahead_log)
        sqlalchemy.event.listen(self.engine, "begin", self._begin)
        self.engine.dispose()  # connections made before the listeners were there

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """As Optuna's, in one transaction from its first read on."""
        with self._from_first_read():
            return bool(super().set_trial_state_values(trial_id, state, values))

    @contextmanager
    def _transaction(self, *, writes: bool = False) -> Iterator[Connection]:
        with self._from_first_read(writes), super()._transaction(writes=writes) as connection:
            yield connection

    @contextmanager
    def _from_first_read(self, wanted: bool = True) -> Iterator[None]:
        """Begin the transactions of this thread with the right to write."""
        self._writing.now = wanted
        try:
            yield
        finally:
            self._writing.now = False

    def _begin(self, connection: Any) -> None:
        if getattr(self._writing, "now", False):
            connection.exec_driver_sql("BEGIN IMMEDIATE")


def _use_write_ahead_log(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _table(name: str) -> Table:
    table: Table = optuna_tables()[name]
    return table


@lru_cache(maxsize=4096)
def _distribution(text: str) -> BaseDistribution:
    """The distribution that a column describes, decoded once for all trials."""
    return json_to_distribution(text)


def _check_study(connection: Connection, study_id: int, *, lock: bool = False) -> None:
    """Raises: KeyError if there is no such study."""
    studies = _table("studies")
    query = select(studies.c.study_id).where(studies.c.study_id == study_id)
    if connection.execute(query.with_for_update() if lock else query).first() is None:
        raise KeyError(f"no study has the id {study_id}")


@lru_cache(maxsize=256)
def _distributions(described: tuple[tuple[str, str], ...]) -> dict[str, BaseDistribution]:
    """Distributions by name: one dictionary for all finished trials that have these.

    At 10,000 trials of 68 choices it saves 16 MB, and the garbage collector the way through them.
    """
    return {name: _distribution(text) for name, text in described}


def _read_trials(connection: Connection, trial_ids: Sequence[int]) -> Iterator[FrozenTrial]:
    """Whole trials in the order of ``trial_ids``; those that are gone are left out.

    Their states are read first: what belongs to a finished trial does not change any more.
    """
    for start in range(0, len(trial_ids), _CHUNK):
        chunk = trial_ids[start : start + _CHUNK]
        states = {row.trial_id: row for row in _result(connection, "trials", chunk)}
        params = _by_trial(connection, "trial_params", chunk)
        values = _by_trial(connection, "trial_values", chunk)
        steps = _by_trial(connection, "trial_intermediate_values", chunk)
        user = _by_trial(connection, "trial_user_attributes", chunk)
        system = _by_trial(connection, "trial_system_attributes", chunk)
        for one in chunk:
            if (row := states.get(one)) is None:
                continue
            choices = sorted(params[one], key=_FIRST)  # in the order in which they were made
            known = _distributions(tuple((name, text) for _, name, _, text, _ in choices))
            yield FrozenTrial(
                trial_id=one,
                number=row.number,
                state=row.state,
                value=None,
                datetime_start=_from_utc(row.datetime_start),
                datetime_complete=_from_utc(row.datetime_complete),
                values=[_number(value, kind) for _, value, kind, _ in sorted(values[one], key=_FIRST)] or None,
                params={name: known[name].to_external_repr(value) for _, name, value, _, _ in choices},
                distributions=known if row.state.is_finished() else dict(known),
                user_attrs={key: json.loads(text) for key, text, _ in user[one]},
                system_attrs={key: json.loads(text) for key, text, _ in system[one]},
                intermediate_values={step: _number(value, kind) for step, value, kind, _ in steps[one]},
            )


def _by_trial(connection: Connection, table: str, trial_ids: Sequence[int]) -> dict[int, list[Any]]:
    """Rows of some trials, the trial's id last, as the driver returns them.

    SQLAlchemy's own rows take twice as long, and these columns need no conversion. An error of the driver is raised as
    SQLAlchemy would raise it.
    """
    result = _result(connection, table, trial_ids)
    driver_error = connection.dialect.loaded_dbapi.Error
    try:
        rows = result.cursor.fetchall()
    except driver_error as error:
        dialect = connection.dialect
        raise sqlalchemy.exc.DBAPIError.instance(None, None, error, driver_error, dialect=dialect) from error
    found: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        found[row[-1]].append(row)
    return found


def _result(connection: Connection, table: str, trial_ids: Sequence[int]) -> CursorResult[Any]:
    one, several = _row_queries(table)
    if len(trial_ids) == 1:
        return connection.execute(one, {"trial_id": trial_ids[0]})
    return connection.execute(several, {"trial_ids": trial_ids})


@lru_cache(maxsize=len(_COLUMNS))
def _row_queries(table: str) -> tuple[Select[Any], Select[Any]]:
    """Queries for the rows of one trial, and of several.

    Made once: making one takes as long as running it.
    """
    found = _table(table)
    query = select(*(found.c[name] for name in _COLUMNS[table]), found.c.trial_id)
    several: BindParameter[Any] = bindparam("trial_ids", expanding=True)
    return query.where(found.c.trial_id == bindparam("trial_id")), query.where(found.c.trial_id.in_(several))


def _lock_unfinished(connection: Connection, trial_id: int) -> int:
    """Lock an unfinished trial; the id of its study.

    Raises: KeyError, UpdateFinishedTrialError.
    """
    trials = _table("trials")
    query = select(trials.c.study_id, trials.c.state, trials.c.number).where(trials.c.trial_id == trial_id)
    found = connection.execute(query.with_for_update()).first()
    if found is None:
        raise KeyError(f"no trial has the id {trial_id}")
    if found.state.is_finished():
        raise UpdateFinishedTrialError(f"trial {found.number} is finished and cannot be changed")
    return int(found.study_id)


def _finish(connection: Connection, trial_id: int, state: TrialState) -> None:
    trials = _table("trials")
    now = {"state": state, "datetime_complete": _to_utc(datetime.now())}
    connection.execute(trials.update().where(trials.c.trial_id == trial_id).values(now))


def _put(connection: Connection, table: str, trial_id: int, rows: Sequence[Mapping[str, Any]], *, key: str) -> None:
    """Insert ``rows`` of a trial, or replace those with the same ``key``, a column.

    Only those that are there are replaced: a statement that finds none locks a gap in MySQL.
    """
    if not rows:
        return
    found = _table(table)
    query = select(found.c[key]).where(found.c.trial_id == trial_id)
    known = set(connection.execute(query).scalars())
    _insert(connection, table, trial_id, [row for row in rows if row[key] not in known])
    for row in rows:
        if row[key] in known:
            own = (found.c.trial_id == trial_id) & (found.c[key] == row[key])
            connection.execute(found.update().where(own).values(row))


def _insert(connection: Connection, table: str, trial_id: int, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        connection.execute(_table(table).insert(), [{"trial_id": trial_id, **row} for row in rows])


def _attribute_rows(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]


def _value_rows(values: Sequence[float]) -> list[dict[str, Any]]:
    return [
        {"objective": objective, "value": number, "value_type": kind}
        for objective, (number, kind) in enumerate(map(_number_and_kind, values))
    ]


def _step_rows(values: Mapping[int, float]) -> list[dict[str, Any]]:
    return [
        {"step": step, "intermediate_value": number, "intermediate_value_type": kind}
        for step, (number, kind) in ((step, _number_and_kind(value)) for step, value in values.items())
    ]


def _number_and_kind(value: float) -> tuple[float | None, str]:
    """Columns of a number: databases have no infinite ones."""
    if math.isfinite(value):
        return float(value), _FINITE
    return None, "NAN" if math.isnan(value) else "INF_POS" if value > 0 else "INF_NEG"


def _number(value: float | None, kind: str) -> float:
    return _INFINITE[kind] if value is None else value


def _to_utc(local: datetime | None) -> datetime | None:
    """What a column holds: naive UTC, as Optuna writes it."""
    return None if local is None else local.astimezone(UTC).replace(tzinfo=None)


def _from_utc(stored: datetime | None) -> datetime | None:
    return None if stored is None else stored.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
