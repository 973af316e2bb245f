"""The study on disk: several writers, one search at a time, and nothing lost when a worker is killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from nas.arch.errors import NasError
from nas.study.objective import ObjectiveSettings
from nas.study.storage import MAX_RETRIES, check_folder, claim_folder, exclusive, open_storage, open_study, recover
from nas.study.trials import distributions, finished, to_rows

from .fakes import PARETO, FakeEvaluator, make_search, new_study, small_space

HOLD_THE_LOCK = """
import sys, time
from pathlib import Path
from nas.study.storage import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def url(folder: Path) -> str:
    (folder / "runs").mkdir(exist_ok=True)
    return f"sqlite:///{folder / 'runs' / 'optuna.db'}"


def killed_trial(study: optuna.Study) -> optuna.trial.FrozenTrial:
    """A trial as a killed worker leaves it: asked for, priced, RUNNING."""
    trial = study.ask(distributions(small_space().parameters))
    trial.set_user_attr("arch_id", "unknown")
    return study.trials[-1]


def test_sqlite_is_opened_with_a_write_ahead_log(tmp_path: Path) -> None:
    storage = open_storage(url(tmp_path))
    open_study(storage, "s", PARETO, {})
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1  # NORMAL
    storage.engine.dispose()
    plain = sqlite3.connect(tmp_path / "runs" / "optuna.db")
    assert plain.execute("PRAGMA journal_mode").fetchone() == ("wal",)  # kept in the file: others see it too
    plain.close()


@pytest.mark.parametrize("text", ["nosuchdb://host/db", "sqlite:///{file}"])
def test_a_database_that_cannot_be_opened_is_the_users_to_mend(tmp_path: Path, text: str) -> None:
    (tmp_path / "text.db").write_text("this is no database, but it is long enough to be read as one" * 20)
    with pytest.raises(NasError, match=r"study\.storage '.*' cannot be opened: ") as caught:
        open_storage(text.format(file=tmp_path / "text.db"))
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_not_made_for_a_database(tmp_path: Path) -> None:
    with pytest.raises(NasError, match=r"no does not exist; make it first"):
        open_storage(f"sqlite:///{tmp_path / 'no' / 'optuna.db'}")
    assert list(tmp_path.iterdir()) == []


def test_passwords_are_struck_out() -> None:
    with pytest.raises(NasError) as caught:
        open_storage("nosuchdb://user:secret@host/db")
    assert "secret" not in str(caught.value) and "user:***@host" in str(caught.value)


def test_a_folder_of_another_study_is_refused(tmp_path: Path) -> None:
    identity = {"study.seed": 0, "space.width": (1.0, 1.3)}
    check_folder(tmp_path, "sqlite:///a.db", identity)  # nobody's yet
    claim_folder(tmp_path, "sqlite:///a.db", identity)
    check_folder(tmp_path, "sqlite:///a.db", identity)
    with pytest.raises(
        NasError, match=r"holds the results of a study in sqlite:///a\.db, this one is in sqlite:///b\.db"
    ):
        check_folder(tmp_path, "sqlite:///b.db", identity)
    with pytest.raises(NasError, match=r"begun with study\.seed = 0, now it is 7"):
        check_folder(tmp_path, "sqlite:///a.db", {**identity, "study.seed": 7})


def test_a_study_goes_on_with_the_same_identity(tmp_path: Path) -> None:
    identity = {"space.width": [1.0, 1.3], "study.seed": 0, "space.path": Path("x")}
    first = open_study(open_storage(url(tmp_path)), "s", PARETO, identity)
    first.add_trial(optuna.trial.create_trial(values=[0.5, 1.0]))
    again = open_study(open_storage(url(tmp_path)), "s", PARETO, identity)
    assert len(again.trials) == 1
    assert again.metric_names == ["accuracy", "latency_ms"]


@pytest.mark.parametrize(
    ("now", "message"),
    [
        ({"proxy.epochs": 8, "study.seed": 0}, r"begun with proxy\.epochs = 4, now it is 8: .* another study\.name"),
        ({"proxy.epochs": 8, "study.seed": 1}, r"proxy\.epochs = 4, now it is 8 \(and 1 more: study\.seed\)"),
        ({"study.seed": 0}, r"proxy\.epochs = 4, now it is null"),
        ({"proxy.epochs": 4, "study.seed": 0, "new": 1}, r"begun with new = null, now it is 1"),
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


def test_a_second_search_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(NasError, match=r"another process is at work on .*"), exclusive(tmp_path):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    with exclusive(tmp_path):
        pass


def test_the_lock_is_given_back_when_a_search_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path / "new"):
        raise ZeroDivisionError
    with exclusive(tmp_path / "new"):
        pass


def test_trials_of_a_killed_worker_are_tried_again(tmp_path: Path) -> None:
    study = open_study(open_storage(url(tmp_path)), "s", PARETO, {})
    left = killed_trial(study)
    assert recover(study) == 1
    assert [trial.state for trial in study.trials] == [TrialState.WAITING]
    assert finished(study) == 0 and to_rows(study) == []
    evaluator = FakeEvaluator()
    make_search(small_space(), evaluator, study=study, n_trials=1).run()
    assert [(trial.number, trial.params) for trial in study.trials] == [(left.number, left.params)]
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE]
    assert len(evaluator.trained) == 1
    assert recover(study) == 0


def test_a_trial_killed_before_its_genotype_was_complete_is_given_up_and_not_counted() -> None:
    study = new_study()
    study.ask({"width": optuna.distributions.CategoricalDistribution([0.5, 1.0])})
    assert recover(study) == 1
    assert [trial.state for trial in study.trials] == [TrialState.FAIL]
    assert finished(study) == 0
    search = make_search(small_space(), FakeEvaluator(), study=study, n_trials=2)
    search.run()
    untouched = make_search(small_space(), FakeEvaluator(), n_trials=2)
    untouched.run()
    assert [row.arch_id for row in to_rows(study)[1:]] == [row.arch_id for row in to_rows(untouched.study)]


def test_a_candidate_that_kills_its_worker_again_and_again_fails() -> None:
    study = new_study()
    killed_trial(study)
    for _ in range(MAX_RETRIES):
        recover(study)
        assert study.trials[0].state is TrialState.WAITING
        study.ask()
    recover(study)
    assert finished(study) == 1
    (row,) = to_rows(study)
    assert row.outcome == "failed" and "killed 3 times" in row.reason
