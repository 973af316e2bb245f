"""A search on a real cluster of three nodes, all on this machine, one of which dies in the middle."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import optuna
import pytest
import ray
from optuna.trial import TrialState
from ray.cluster_utils import Cluster

from nas.search import command
from nas.study.trials import finished, to_rows

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 300.0
ATTEMPTS = 2  # a busy machine may be too slow for Ray's own deadlines
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three nodes of one CPU each; the driver belongs to the first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        folder = mkdtemp(prefix="nas-ray-")  # pytest's own are too long for Ray's sockets
        patch.setenv("RAY_TMPDIR", folder)
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
        shutil.rmtree(folder, ignore_errors=True)


def study(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="tiny", storage=f"sqlite:///{folder / 'runs' / 'optuna.db'}")


@pytest.mark.slow
def test_a_search_survives_a_node_that_dies(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    killed: list[float] = []

    def in_the_middle() -> bool:
        if not (tmp_path / "runs" / "tiny" / "config.yaml").is_file():  # written when the study is ready
            return False
        running = study(tmp_path).get_trials(states=(TrialState.RUNNING,))
        return finished(study(tmp_path)) > 0 and len(running) == 3  # one on each node

    def kill() -> None:
        give_up = time.monotonic() + DEADLINE_S
        while time.monotonic() < give_up and not in_the_middle():
            time.sleep(0.5)
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        killed.append(time.monotonic())

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    arguments = [
        "space=mobilenet_v1", "latency=macs", "proxy=tiny", "data.subset=100", "proxy.epochs=60", "study.name=tiny",
        "study.n_trials=8", "engine=ray", f"engine.address={cluster.address}",
    ]  # fmt: skip
    assert command(arguments) == 0
    killer.join()
    assert killed and not ray.is_initialized()
    trials = study(tmp_path).trials
    assert finished(study(tmp_path)) == 8
    assert all(trial.state in (TrialState.COMPLETE, TrialState.WAITING) for trial in trials)
    assert sum(trial.user_attrs.get("kills", 0) for trial in trials) >= 1
    rows = [row for row in to_rows(study(tmp_path)) if row.outcome == "trained"]
    assert Counter(row.arch_id for row in rows).most_common(1)[0][1] == 1 and len(rows) == 8
    weights = {path.stem for path in (tmp_path / "runs" / "tiny" / "winners").glob("*.safetensors")}
    assert weights
    with sqlite3.connect(tmp_path / "runs" / "optuna.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    said = capfd.readouterr().out
    assert "lost its worker" in said and "8/8 trial" in said
