"""What Ray Tune calls, called as Tune calls it; no cluster is started."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nas.core.errors import NasError
from nas.core.version import __version__
from nas.engines.ray import cluster
from nas.engines.ray.tune import ForgetReport, TuneScheduler, TuneSearcher, TuneTraining
from nas.search import command, make_plan
from nas.study.config import EngineSettings
from nas.study.trial_loop import Idle
from tests.engines.test_ray_dispatch import TASK, TwoEpochs

TINY = (
    "space=mobilenet_v1", "latency=macs", "estimator=proxy", "data=digits", "proxy=tiny", "data.subset=100",
    "engine=ray",
)  # fmt: skip


class Dispatcher:
    """Notes what it is told."""

    def __init__(self, *found: Any) -> None:
        self.found = list(found)
        self.told: list[tuple[str, Any]] = []

    def ask(self, _: str) -> Any:
        return self.found.pop(0)

    def report(self, key: str, report: Any) -> bool:
        self.told.append((key, report))
        return report == "the end"

    def lost(self, key: str, reason: str) -> None:
        self.told.append((key, f"lost: {reason}"))

    def unfit(self, reason: str) -> None:
        self.told.append(("", f"unfit: {reason}"))


def test_tune_is_given_a_task_nothing_for_the_moment_or_the_end() -> None:
    searcher = TuneSearcher(Dispatcher(TASK, Idle.WAIT, Idle.OVER))
    assert [searcher.suggest("a") for _ in range(3)] == [{"task": TASK}, None, "FINISHED"]


def test_reports_reach_the_dispatcher_which_ends_the_training(tmp_path: Path) -> None:
    dispatcher = Dispatcher()
    scheduler = TuneScheduler(dispatcher)
    log = tmp_path / "error.txt"
    trial = SimpleNamespace(trial_id="a", error_file=str(log))
    assert scheduler.on_trial_result(None, trial, {"report": 1}) == "CONTINUE"
    assert scheduler.on_trial_result(None, trial, {"report": "the end"}) == "STOP"
    log.write_text("Failure # 1\nThe actor died.\n  Its node has died.\n\n", encoding="utf-8")
    scheduler.on_trial_error(None, trial)
    unborn = "The actor died because of an error raised in its creation task\n traceback\nKeyError: 'x'"
    log.write_text(unborn, encoding="utf-8")
    scheduler.on_trial_error(None, trial)
    told = [report for _, report in dispatcher.told]
    assert told == [1, "the end", "lost: its process or its machine died", "unfit: KeyError: 'x'"]


def test_weights_do_not_stay_in_what_tune_keeps_of_a_trial() -> None:
    result = {"report": b"weights", "trial_id": "a"}
    ForgetReport().on_trial_result(1, [], SimpleNamespace(), result)
    assert result == {"report": None, "trial_id": "a"}


def test_a_worker_goes_from_one_training_to_the_next() -> None:
    worker, evaluator = TuneTraining.__new__(TuneTraining), TwoEpochs()
    worker.setup({"task": TASK}, evaluator=evaluator, version=__version__)
    assert [worker.step()["report"].epoch for _ in range(2)] == [1, 2]
    assert worker.reset_config({"task": TASK})
    assert worker.step()["report"].epoch == 1
    worker.cleanup()
    with pytest.raises(NasError, match=r"a machine of the cluster has nas .*, the driver has 0\.0\.0"):
        worker.setup({"task": TASK}, evaluator=evaluator, version="0.0.0")


def test_a_missing_ray_is_answered_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for module in [
        name for name in sys.modules if name.startswith("nas.engines.ray.") and not name.endswith(".opening")
    ]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(NasError, match=r"engine=ray: Ray Tune cannot be loaded .*: pip install 'ray\[tune\]>=2.50'"):
        command([*TINY])
    assert not (tmp_path / "runs").exists()


def test_an_address_where_nobody_answers_is_told_before_any_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        with pytest.raises(NasError, match=rf"engine.address '{address}': no Ray cluster .*refused.*ray start --head"):
            command([*TINY, f"engine.address={address}"])
    assert capsys.readouterr().out == "" and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("engine.address=ray://head:10001", r"engine\.address 'ray://head:10001': must be null, auto or HOST:PORT"),
        ("engine.cpus_per_trial=1.5", r"engine\.cpus_per_trial 1\.5: must be a whole number"),
        ("engine.gpus_per_trial=-1", r"engine\.gpus_per_trial -1: must be a number of at least 0"),
        ("engine.trial_timeout_s=5", r"unknown key 'engine\.trial_timeout_s'"),
        ("latency=onnxruntime latency.refine=true", r"latency\.refine true: with engine=ray trainings would run"),
    ],
)
def test_settings_that_a_cluster_cannot_have_are_refused(setting: str, message: str) -> None:
    with pytest.raises(NasError, match=message):
        make_plan([*TINY, *setting.split()])


def test_by_default_as_many_trainings_as_there_is_room_for() -> None:
    assert make_plan([*TINY]).engine == EngineSettings(name="ray", workers=None)
    assert EngineSettings(workers=None).processes >= 1 and EngineSettings(workers=3).processes == 3


@pytest.mark.parametrize(
    ("settings", "room"),
    [
        ({}, 6),
        ({"cpus_per_trial": 2}, 3),
        ({"cpus_per_trial": 3}, 1),
        ({"cpus_per_trial": 0.1}, 60),
        ({"gpus_per_trial": 0.25}, 4),
        ({"gpus_per_trial": 2}, 0),
    ],
)
def test_room_is_counted_machine_by_machine(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, float], room: int
) -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}},
        {"Alive": True, "Resources": {"CPU": 2.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
        {"Alive": True, "Resources": {}},
    ]
    monkeypatch.setattr(cluster.ray, "nodes", lambda: nodes)
    said: list[str] = []
    plan = EngineSettings(name="ray", workers=None, address="auto", **settings)
    cluster._say_room(plan, said.append)
    waits = "engine.cpus_per_trial 1, engine.gpus_per_trial 2: no machine of the cluster has as many; waiting for one"
    assert said == [f"Ray: trainings at a time: {room}" if room else f"{waits} to join"]
    if not room:
        with pytest.raises(NasError, match=r"engine\.gpus_per_trial 2: this machine has not as many"):
            cluster._say_room(EngineSettings(name="ray", **settings), said.append)


def test_ray_is_not_started_for_a_study_that_is_complete() -> None:
    cluster.run_ray_trials(SimpleNamespace(is_complete=lambda _: True), None, None, None)
    assert not cluster.ray.is_initialized()
