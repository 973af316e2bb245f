"""A search of four workers that is killed again and again, its parent too: at the end nothing is missing or twice."""

from __future__ import annotations

import csv
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from nas.search import command
from nas.study.storage.opening import open_storage
from nas.study.storage.retrying_storage import RetryingStorage
from nas.study.trial_attributes import count_finished, trial_records
from tests.engines.commands import TINY, Forked, Search, beside, is_alive, send, wait_for, workers_of

N_TRIALS = 8
# A training is about a second of CPU, so that most kills hit one.
LONG = (*TINY, "sampler=random", "proxy.epochs=12", f"study.n_trials={N_TRIALS}", "engine.workers=4")
KILLS = 2  # of workers, before and after that of their parent


@pytest.fixture(params=["sqlite", "postgres"])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'optuna.db'}"
    url: str = request.getfixturevalue("postgres").url()
    return url


@pytest.fixture
def opened(storage_url: str, tmp_path: Path) -> Iterator[Callable[[Forked], optuna.Study]]:
    """The study as another process sees it, as soon as it is ready."""
    storages: list[RetryingStorage] = []

    def study(search: Forked) -> optuna.Study:
        wait_for((tmp_path / "runs" / "tiny" / "config.yaml").is_file, search)  # written when the study is ready
        storages.append(open_storage(storage_url))
        return optuna.load_study(study_name="tiny", storage=storages[-1])

    yield study
    for storage in storages:
        storage.close()


@pytest.mark.slow
def test_whatever_is_killed_every_trial_is_there_once(
    storage_url: str,
    opened: Callable[[Forked], optuna.Study],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    rng = random.Random(7)
    # Random kills may hit one trial again and again.
    arguments = (*LONG, f"study.storage={storage_url}", "engine.max_retries=99")
    search = Forked(command, [*arguments])
    study = opened(search)
    kill_workers(search, study, rng)
    workers = workers_of(search.pid)
    search.kill()
    search.communicate()
    wait_for(lambda: not any(is_alive(pid) for pid in workers))  # nobody told them
    assert study.trials

    with beside(lambda search: kill_workers(search, study, rng)):
        assert command([*arguments]) == 0, capfd.readouterr()
    check_whole(study)
    check_results(tmp_path / "runs" / "tiny")
    if storage_url.startswith("sqlite"):
        with closing(sqlite3.connect(tmp_path / "optuna.db")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def kill_workers(search: Search, study: optuna.Study, rng: random.Random) -> None:
    """Kill ``KILLS`` workers of a search at random moments while trials are under way; fewer if it is so fast."""
    for _ in range(KILLS):
        wait_for(
            lambda: _over(study) or (study.get_trials(states=(TrialState.RUNNING,)) and workers_of(search.pid)), search
        )
        time.sleep(rng.uniform(0.0, 0.5))
        workers = workers_of(search.pid)
        if workers:
            send([rng.choice(workers)], signal.SIGKILL)


def _over(study: optuna.Study) -> bool:
    return count_finished(study) >= N_TRIALS


def check_whole(study: optuna.Study) -> None:
    trained = [row.arch_id for row in trial_records(study) if row.outcome == "trained"]
    assert count_finished(study) == len(trained) == len(set(trained)) == N_TRIALS
    assert [trial.number for trial in study.trials] == list(range(len(study.trials)))
    assert not study.get_trials(states=(TrialState.RUNNING,))
    assert all("outcome" in trial.user_attrs for trial in study.trials if trial.state.is_finished())


def check_results(folder: Path) -> None:
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as stream:
        assert sum(row["outcome"] == "trained" for row in csv.DictReader(stream)) == N_TRIALS
    assert all((folder / name).is_file() for name in ("report.html", "winners/winner_1.yaml", "latency.json"))
