"""Trials whose writes are collected and stored in one transaction."""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from nas.study.storage.backends import write_to_backend
from nas.study.storage.optuna_private import storage_of, study_id, trial_id
from nas.study.storage.retrying_storage import RetryingStorage
from nas.study.storage.trial_writes import TrialWrites

_NOT_STORED: Final = -1  # id of a trial that no storage has yet


class TrialDraft:
    """One trial of ``study`` while it is prepared or finished.

    The draft's own ``study`` is the same study, in which Optuna's functions and samplers work as ever, but what is
    written into the draft's trial waits for ``store`` or for the trial's final state. A new trial is not in the storage
    before: nothing is left of it if the process is killed, and other workers do not see it. ``trial``: one that this
    worker holds already.
    """

    def __init__(self, study: optuna.Study, trial: FrozenTrial | None = None) -> None:
        self._storage = _DraftStorage(study, trial)
        self.study = optuna.Study(study.study_name, self._storage, sampler=study.sampler, pruner=study.pruner)

    @property
    def is_new(self) -> bool:
        """Whether the trial is not in the storage yet."""
        return self._storage.is_new

    @property
    def trial(self) -> FrozenTrial:
        """Copy of the trial with all that was written so far."""
        return self._storage.held()

    def ask(self, space: Mapping[str, BaseDistribution]) -> Trial:
        """Take a queued trial or begin a new one, as ``Study.ask`` does."""
        return self.study.ask(dict(space))

    def store(self) -> FrozenTrial:
        """Store what was written; the trial with its number and id in the storage."""
        self._storage.store()
        return self.trial


def _forwarded(name: str) -> Callable[..., Any]:
    """A method that is that of the storage underneath."""

    def method(self: _DraftStorage, *arguments: Any, **named: Any) -> Any:
        return getattr(self.under, name)(*arguments, **named)

    method.__name__ = name
    return method


class _DraftStorage(BaseStorage):  # type: ignore[misc]
    """Another storage, except for one trial, of which it collects the writes."""

    def __init__(self, study: optuna.Study, trial: FrozenTrial | None) -> None:
        self.under: BaseStorage = storage_of(study)
        self.is_new = False
        self._trial: Any = None  # a FrozenTrial: Optuna is not typed here
        self._study_id = study_id(study)
        self._directions = list(study.directions)
        self._hold(trial)

    create_new_study = _forwarded("create_new_study")
    delete_study = _forwarded("delete_study")
    set_study_user_attr = _forwarded("set_study_user_attr")
    set_study_system_attr = _forwarded("set_study_system_attr")
    get_study_name_from_id = _forwarded("get_study_name_from_id")
    get_study_user_attrs = _forwarded("get_study_user_attrs")
    get_study_system_attrs = _forwarded("get_study_system_attrs")
    get_all_studies = _forwarded("get_all_studies")
    remove_session = _forwarded("remove_session")

    def held(self) -> FrozenTrial:
        """Copy of the trial with the writes that were collected."""
        return _copied(self._trial)

    def store(self, state: TrialState | None = None, values: Sequence[float] | None = None) -> None:
        """Store the trial, and its final ``state`` where there is one."""
        if self.is_new:
            template = self.held()
            if state is not None:
                template.state, template.values, template.datetime_complete = state, values, datetime.now()
            stored = self.under.create_new_trial(self._study_id, template)
        else:
            stored, writes = trial_id(self._trial), TrialWrites(**self._collected, state=state, values=values)
            if writes != TrialWrites():
                write_trial(self.under, stored, writes)
        self._hold(self.under.get_trial(stored))

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Begin a new trial; its number may be another once it is stored."""
        self._hold(template_trial or create_trial(state=TrialState.RUNNING))
        self._trial.number = self.under.get_n_trials(study_id)
        self.is_new = True
        return _NOT_STORED

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Collect a choice of the draft's trial."""
        if not self._is_held(trial_id):
            self.under.set_trial_param(trial_id, param_name, param_value_internal, distribution)
            return
        self._trial.params[param_name] = distribution.to_external_repr(param_value_internal)
        self._trial.distributions[param_name] = distribution
        self._collected["params"][param_name] = (param_value_internal, distribution)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Collect an attribute of the draft's trial."""
        if not self._is_held(trial_id):
            self.under.set_trial_user_attr(trial_id, key, value)
            return
        self._trial.user_attrs[key] = self._collected["user_attrs"][key] = value

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Collect an attribute of the draft's trial."""
        if not self._is_held(trial_id):
            self.under.set_trial_system_attr(trial_id, key, value)
            return
        self._trial.system_attrs[key] = self._collected["system_attrs"][key] = value

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Store it at once: it has been trained for."""
        if self.is_new and self._is_held(trial_id):
            self.store()
        self.under.set_trial_intermediate_value(self._stored_id(trial_id), step, intermediate_value)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Store the draft's trial with its final state; hold a trial that is taken."""
        if self._is_held(trial_id) and state.is_finished():
            self.store(state, values)
            return True
        if self._is_held(trial_id):
            self.store()
        is_done = bool(self.under.set_trial_state_values(self._stored_id(trial_id), state, values))
        if is_done and state is TrialState.RUNNING:
            self._hold(self.under.get_trial(self._stored_id(trial_id)))
        return is_done

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """The trial, that of the draft with its writes."""
        return self.held() if self._is_held(trial_id) else self.under.get_trial(trial_id)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """All trials, that of the draft with its writes; a new one stands last."""
        trials: list[FrozenTrial] = self.under.get_all_trials(study_id, deepcopy, states)
        is_shown = self.is_new and study_id == self._study_id and (states is None or self._trial.state in states)
        return [*trials, self.held()] if is_shown else trials

    def get_study_id_from_name(self, study_name: str) -> int:
        """Id of the draft's study, which needs no look-up."""
        return self._study_id

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Directions of the draft's study, which need no look-up."""
        return self._directions

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """Id of a trial by its number."""
        if study_id == self._study_id and self._trial is not None and trial_number == self._trial.number:
            return _NOT_STORED
        return int(self.under.get_trial_id_from_study_id_trial_number(study_id, trial_number))

    def _hold(self, trial: FrozenTrial | None) -> None:
        """Collect the writes to ``trial`` from now on."""
        self._trial = None if trial is None else _copied(trial)
        self._collected: dict[str, dict[str, Any]] = {"params": {}, "user_attrs": {}, "system_attrs": {}}
        self.is_new = False

    def _is_held(self, one: int) -> bool:
        """Whether ``one`` is an id of the draft's trial, before or after it was stored."""
        return self._trial is not None and one in (_NOT_STORED, trial_id(self._trial))

    def _stored_id(self, one: int) -> int:
        return trial_id(self._trial) if self._is_held(one) else one


def write_trial(storage: BaseStorage, trial_id: int, writes: TrialWrites) -> None:
    """Write into an unfinished trial, in one transaction where ``storage`` can."""
    if isinstance(storage, RetryingStorage):
        storage.write_trial(trial_id, writes)
    else:
        write_to_backend(storage, trial_id, writes)


def _copied(trial: FrozenTrial) -> FrozenTrial:
    """Copy of ``trial`` with attributes and choices of its own."""
    copied = copy.copy(trial)
    copied.params, copied.distributions = dict(trial.params), dict(trial.distributions)
    copied.user_attrs, copied.system_attrs = dict(trial.user_attrs), dict(trial.system_attrs)
    copied.intermediate_values = dict(trial.intermediate_values)
    return copied
