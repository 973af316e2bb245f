"""Writes to one trial that belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import TrialState


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialWrites:
    """What is to be written into an unfinished trial.

    ``params``: choices by name, each as its number within the distribution. ``state``: one that ends the trial, with
    its ``values``; None leaves it running.
    """

    params: Mapping[str, tuple[float, BaseDistribution]] = field(default_factory=dict)
    user_attrs: Mapping[str, Any] = field(default_factory=dict)
    system_attrs: Mapping[str, Any] = field(default_factory=dict)
    state: TrialState | None = None
    values: Sequence[float] | None = None


def write_one_by_one(storage: BaseStorage, trial_id: int, writes: TrialWrites) -> None:
    """Write with the calls that every storage of Optuna has, the state last."""
    for name, (value, distribution) in writes.params.items():
        storage.set_trial_param(trial_id, name, value, distribution)
    for name, value in writes.user_attrs.items():
        storage.set_trial_user_attr(trial_id, name, value)
    for name, value in writes.system_attrs.items():
        storage.set_trial_system_attr(trial_id, name, value)
    if writes.state is not None:
        storage.set_trial_state_values(trial_id, writes.state, writes.values)
