"""Tests of the trial index against a count over all trials.

Workers change the study at random in between.
"""

from __future__ import annotations

import random
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from nas.methods.search.trials.trial_index import TrialIndex
from nas.study.recovery import INTERRUPTED_OUTCOME
from nas.study.storage.opening import open_storage
from nas.study.trial_attributes import count_finished

OUTCOMES = ("trained", "stopped", "failed", "infeasible", "duplicate", INTERRUPTED_OUTCOME)


def act(study: optuna.Study, rng: random.Random) -> None:
    """Random action of some worker: queue, start, finish, or release a trial."""
    running = study.get_trials(states=(TrialState.RUNNING,))
    if not running or rng.random() < 0.4:
        study.enqueue_trial({}) if rng.random() < 0.3 else study.ask()
        return
    trial = rng.choice(running)
    if rng.random() < 0.2:
        study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        return
    outcome = rng.choice(OUTCOMES)
    facts = {"outcome": outcome, "arch_id": rng.choice("abcdefgh")}
    for name, value in facts.items():
        study._storage.set_trial_user_attr(trial._trial_id, name, value)
    if outcome in ("trained", "duplicate"):
        study.tell(trial.number, 0.5)
    else:
        study.tell(trial.number, state=TrialState.FAIL if outcome == "failed" else TrialState.PRUNED)


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "sqlite"])
def test_it_says_what_a_count_over_all_trials_says(tmp_path: Path, on_disk: bool) -> None:
    storage = open_storage(f"sqlite:///{tmp_path / 'optuna.db'}") if on_disk else optuna.storages.InMemoryStorage()
    study, rng = optuna.create_study(storage=storage), random.Random(0)
    ledger = TrialIndex()
    for _ in range(40 if on_disk else 200):
        for _ in range(rng.randrange(4)):
            act(study, rng)
        ledger.read(study)
        trials = study.get_trials()
        assert ledger.total == len(trials) and ledger.finished == count_finished(study)
        assert ledger.interrupted == sum(trial.user_attrs.get("outcome") == INTERRUPTED_OUTCOME for trial in trials)
        assert sorted(ledger.open) == [trial.number for trial in trials if not trial.state.is_finished()]
        running = [trial.number for trial in trials if trial.state is TrialState.RUNNING]
        assert sorted(trial.number for trial in ledger.running()) == running
        first: dict[str, int] = {}
        for trial in trials:
            if trial.user_attrs.get("outcome") in ("trained", "stopped") and trial.state.is_finished():
                first.setdefault(trial.user_attrs["arch_id"], trial.number)
        assert {arch_id: trial.number for arch_id, trial in ledger.tried.items()} == first


def test_a_finished_trial_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    study, ledger = optuna.create_study(), TrialIndex()
    for _ in range(3):
        study.tell(study.ask(), 1.0)
    ledger.read(study)
    looked_at = []
    monkeypatch.setattr(
        "nas.methods.search.trials.trial_index.is_counted", lambda trial: looked_at.append(trial.number) or False
    )
    study.tell(study.ask(), 1.0)
    ledger.read(study)
    ledger.read(study)
    assert looked_at == [3]
