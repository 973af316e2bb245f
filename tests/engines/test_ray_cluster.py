"""A search on a real cluster of three nodes, all on this machine: its driver is killed, and then one of the nodes."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from optuna.trial import FrozenTrial, TrialState
from ray.cluster_utils import Cluster

from nas.study.trial_attributes import count_finished, trial_records
from tests.deadline import DEADLINE_S
from tests.paths import ROOT
from tests.studies import open_study_file

EPOCHS = 60  # enough of them for a look between two, also where one takes milliseconds
ATTEMPTS = 2  # a busy machine may be too slow for Ray's own deadlines
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


@pytest.fixture(scope="module")
def cluster(scratch: Path) -> Iterator[Cluster]:
    """Three nodes of one CPU each; the driver belongs to the first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # Ray's 15 gets a hundredth of a core beside six busy processes
        patch.setenv("RAY_TMPDIR", str(scratch))  # pytest's own folders are too long for Ray's sockets
        for attempt in range(1, ATTEMPTS + 1):
            nodes = Cluster()
            try:
                for _ in range(3):
                    nodes.add_node(**NODE)
                break
            except Exception:
                nodes.shutdown()
                if attempt == ATTEMPTS:
                    raise
        yield nodes
        nodes.shutdown()


def start(cluster: Cluster, folder: Path, *more: str) -> subprocess.Popen[str]:
    """The command as a user runs it."""
    arguments = [
        "space=mobilenet_v1", "latency=macs", "estimator=proxy", "data=digits", "proxy=tiny", "data.subset=20",
        f"proxy.epochs={EPOCHS}", "study.name=tiny", "study.n_trials=6", "engine=ray",
        f"engine.address={cluster.address}", *more,
    ]  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "nas.search", *arguments],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},  # a driver that is killed leaves an empty folder there
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def begun_trials(folder: Path) -> list[FrozenTrial]:
    """The trials that have an epoch behind them."""
    if not (folder / "runs" / "tiny" / "config.yaml").is_file():  # written when the study is ready
        return []
    return [trial for trial in open_study_file(folder).get_trials(deepcopy=False) if trial.last_step is not None]


def epochs_of(folder: Path) -> dict[int, int]:
    """The last epoch of each trial that has one."""
    return {trial.number: trial.last_step or 0 for trial in begun_trials(folder)}


def in_the_middle(folder: Path, before: Mapping[int, int]) -> int:
    """How many trials are being trained, with more epochs behind them than ``before``, and with many to come."""
    running = [trial for trial in begun_trials(folder) if trial.state is TrialState.RUNNING]
    return sum(before.get(trial.number, 0) < (trial.last_step or 0) < EPOCHS - 5 for trial in running)


def hold(driver: subprocess.Popen[str], folder: Path, *, trials: int) -> None:
    """Stop a driver when so many trials or more are in the middle, where they wait for it.

    A trial that an earlier driver left has its epochs from then until it is trained again and beyond them. While some
    are in the middle and others are still to begin, the driver goes on in small steps: only the first need it.
    """
    before = epochs_of(folder)
    give_up = time.monotonic() + DEADLINE_S
    while time.monotonic() < give_up and driver.poll() is None:
        driver.send_signal(signal.SIGSTOP)
        if (found := in_the_middle(folder, before)) >= trials:
            return
        time.sleep(1.0 if found else 0.0)
        driver.send_signal(signal.SIGCONT)
        time.sleep(0.05 if found else 0.2)
    driver.kill()
    pytest.fail(f"it never came to the middle:\n{driver.communicate()[0]}")


@pytest.mark.slow
def test_a_search_survives_the_death_of_its_driver_and_of_a_node(cluster: Cluster, tmp_path: Path) -> None:
    driver = start(cluster, tmp_path, "engine.workers=1")  # each process that trains loads torch
    hold(driver, tmp_path, trials=1)
    driver.kill()
    driver.communicate()
    left = len(open_study_file(tmp_path).get_trials(states=(TrialState.RUNNING,)))

    driver = start(cluster, tmp_path)
    hold(driver, tmp_path, trials=3)  # one on each node
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    driver.send_signal(signal.SIGCONT)
    said, _ = driver.communicate(timeout=DEADLINE_S)
    assert driver.returncode == 0, said
    assert f"left unfinished by a killed run: {left}" in said and "Ray: trainings at a time: 3" in said
    assert "lost its worker: its process or its machine died" in said and "6/6 trial" in said
    assert "raylet" not in said

    trials = open_study_file(tmp_path).trials
    assert all(trial.state in (TrialState.COMPLETE, TrialState.WAITING) for trial in trials)
    assert sum(trial.user_attrs.get("kills", 0) for trial in trials) > left
    rows = [row for row in trial_records(open_study_file(tmp_path)) if row.outcome == "trained"]
    assert len({row.arch_id for row in rows}) == len(rows) == count_finished(open_study_file(tmp_path)) == 6
    assert list((tmp_path / "runs" / "tiny" / "winners").glob("*.safetensors"))
    with contextlib.closing(sqlite3.connect(tmp_path / "runs" / "optuna.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
