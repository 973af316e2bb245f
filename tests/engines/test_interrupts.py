"""How searches in several processes end before their time: by their limits, by one interrupt and by a second."""

from __future__ import annotations

import signal
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from nas.engines.local import supervisor
from nas.search import command
from nas.study.storage.opening import open_storage
from nas.study.trial_attributes import trial_records
from tests.deadline import DEADLINE_S
from tests.engines.commands import TINY, OwnProcess, beside, is_held, is_pending, send, wait_for, workers_of

ENDLESS = (*TINY, "proxy.epochs=100000")


def states_and_reasons(folder: Path) -> list[tuple[TrialState, str]]:
    with closing(open_storage(f"sqlite:///{folder / 'runs' / 'optuna.db'}")) as storage:
        study = optuna.load_study(study_name="tiny", storage=storage)
        return [(study.trials[row.number].state, row.reason) for row in trial_records(study)]


def test_a_training_beyond_its_time_is_ended_and_fails(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command([*ENDLESS, "study.n_trials=1", "engine.trial_timeout_s=1"]) == 0
    said = "".join(capfd.readouterr())
    reason = "trained for longer than engine.trial_timeout_s 1; raise it, or lower proxy.epochs or data.subset"
    assert states_and_reasons(tmp_path) == [(TrialState.FAIL, reason)], said
    assert f"trial 0 failed: {reason}" in " ".join(said.split()) and "Traceback" not in said


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_gives_trials_back_and_a_second_one_waits_for_nobody(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(supervisor, "_GRACE_S", DEADLINE_S)  # workers that are asked to end are waited for
    config = tmp_path / "runs" / "tiny" / "config.yaml"

    def interrupt(search: OwnProcess) -> None:
        wait_for(lambda: config.is_file() and len(states_and_reasons(tmp_path)) == 2, search)
        workers = workers_of(search.pid)
        assert len(workers) == 2
        if times == 2:  # no worker can give its trial back
            send(workers, signal.SIGSTOP)
            wait_for(lambda: all(map(is_held, workers)), search)
        search.send_signal(signal.SIGINT)
        if times == 2:
            wait_for(lambda: all(is_pending(pid, signal.SIGINT) for pid in workers), search)  # it has been heard
            search.send_signal(signal.SIGINT)

    with beside(interrupt):
        assert command([*ENDLESS, "study.n_trials=2", "engine.workers=2"]) == 130
    said = "".join(capfd.readouterr())
    assert "Traceback" not in said and "stopped; go on with: python -m nas.search" in said
    with closing(open_storage(f"sqlite:///{tmp_path / 'runs' / 'optuna.db'}")) as storage:
        study = optuna.load_study(study_name="tiny", storage=storage)
        assert [trial.state for trial in study.trials[:2]] == [TrialState.WAITING] * 2
        assert not any("kills" in trial.user_attrs for trial in study.trials)
    assert (tmp_path / "runs" / "tiny" / "trials.csv").exists() == (times == 1)
