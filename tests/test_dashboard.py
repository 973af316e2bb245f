"""Tests of nas.dashboard on the command line: output, serving, shutdown."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen
from wsgiref.simple_server import WSGIServer

import optuna
import pytest
from optuna.trial import TrialState
from optuna_dashboard import get_note

from nas import compound_grid, search
from nas.core.errors import NasError
from nas.dashboard import _background_updates, _Notes, command
from nas.reporting.dashboard.serving import HOST, make_dashboard
from nas.study.storage.opening import open_storage
from tests.deadline import DEADLINE_S
from tests.methods.scaling.tiny import trained_above_chance
from tests.paths import ROOT
from tests.reporting.dashboard_study import attributes, database, made_search, served, show, stop_after_notes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs_dir=nowhere"], r"nowhere/optuna\.db does not exist.*run nas\.search or nas\.compound_grid first"),
        (["storage=journal:///gone.journal"], r"gone\.journal does not exist"),
        (["storage=optuna.db"], r"must be one of sqlite:///FILE"),
        (["storage=3"], r"storage 3: must be text, or null"),
        (["port=http"], r"port 'http': must be a whole number"),
        (["refresh_s=0"], r"refresh_s 0: must be a number of at least 1"),
        (["port=70000"], r"port 70000: must be a whole number of at least 0 and at most 65535"),
        (["host=0.0.0.0"], r"unknown key 'host'|Could not override 'host'"),
    ],
)
def test_user_errors_are_reported_and_leave_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NasError, match=message) as caught:
        command(arguments)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_install_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_storage(database(tmp_path))
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(NasError, match=r"not installed: run pip install 'nas\[dashboard\]'"):
        command([f"runs_dir={tmp_path}"])


def test_it_prints_its_address_and_stops_at_ctrl_c(tmp_path: Path) -> None:
    show(made_search(tmp_path, trials=1), tmp_path)
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "nas.dashboard", f"runs_dir={tmp_path}", f"port={port}"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline(), process.stdout.readline()]
            found = re.search(r"http://127\.0\.0\.1:(\d+)/dashboard/ \(stop with Ctrl-C\)", lines[1])
            assert found and lines[0] == f"port {port} is in use: serving on {found[1]}\n"
            with urlopen(f"http://{HOST}:{found[1]}/api/studies", timeout=DEADLINE_S) as response:
                assert [one["study_name"] for one in json.load(response)["study_summaries"]] == ["small"]
            process.send_signal(signal.SIGINT)
            output, error = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
            process.communicate()
    assert (process.returncode, output, error) == (0, "stopped\n", "")


@pytest.fixture
def ended_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run commands in an empty folder, with a dashboard that stops as soon as its notes are written."""
    monkeypatch.chdir(tmp_path)
    stop_after_notes(monkeypatch)


def test_it_answers_before_its_notes_are_written_and_stops_between_two_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made_search(tmp_path, trials=6)
    has_answered, stops, noted = threading.Event(), threading.Event(), list[str]()

    def refresh(*given: Any) -> None:
        """Write a note once the first page was delivered; the next one when the dashboard is to stop."""
        on_note = given[-1]
        on_note()
        assert has_answered.wait(DEADLINE_S)
        noted.append("first")
        stops.set()
        while True:
            time.sleep(0.001)
            on_note()

    def serve(server: WSGIServer) -> None:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with urlopen(f"http://{HOST}:{server.server_port}/api/studies", timeout=DEADLINE_S) as response:
            assert json.load(response)["study_summaries"] and not noted
        thread.join()
        assert f":{server.server_port}/dashboard/" in capsys.readouterr().out
        has_answered.set()
        assert stops.wait(DEADLINE_S)
        raise KeyboardInterrupt

    found = SimpleNamespace(study=None, plan=None, manifest=None, kind=SimpleNamespace(refresh_notes=refresh))
    monkeypatch.setattr("nas.dashboard.reopen_study", lambda *_: found)
    monkeypatch.setattr("nas.dashboard.storage_of", lambda _: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(WSGIServer, "serve_forever", serve)
    assert command([f"runs_dir={tmp_path}", "port=0"]) == 0
    assert noted == ["first"] and capsys.readouterr().out.endswith("stopped\n")


@pytest.mark.usefixtures("ended_at_once")
def test_studies_that_never_came_to_their_end_are_shown_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("latency=macs", "data.subset=100")
    trained_above_chance(monkeypatch)
    with monkeypatch.context() as killed:
        killed.setattr("nas.methods.search.conclude.write_search_notes", lambda *_: None)
        killed.setattr("nas.methods.scaling.conclude.write_scaling_notes", lambda *_: None)
        tiny = ("+space=mobilenet_v1", "estimator=proxy", "data=digits", "proxy=tiny", "study.n_trials=2")
        assert search.command([*small, *tiny, "study.name=a"]) == 0
        grid = ("phi=1", "baseline=mobilenetv2_035", "grid.alpha=[1.0,2.0]", "grid.beta=[1.0]", "grid.gamma=[1.0]")
        proxy = ("proxy.resolution_px=8", "proxy.epochs=1", "proxy.width_multiplier=0.3", "proxy.min_map_px=1")
        assert compound_grid.command([*small, *grid, *proxy, "race.seeds=1", "study.name=b"]) == 0
    shutil.rmtree("runs/a/winners")
    studies = {name: optuna.load_study(study_name=name, storage="sqlite:///runs/optuna.db") for name in "ab"}
    studies["a"].ask()  # under way: nothing is known of it yet
    optuna.create_study(study_name="somebody-else-s", storage="sqlite:///runs/optuna.db")
    assert not any(map(get_note, studies.values()))
    capsys.readouterr()
    assert command(["port=0"]) == 0
    address, *output = capsys.readouterr().out.splitlines()
    assert "/dashboard/ (stop with Ctrl-C)" in address
    assert output == ["writing the notes of a ...", "writing the notes of b ...", "stopped"]
    assert "2 trained" in get_note(studies["a"]) and "1 still running" in get_note(studies["a"])
    assert "![accuracy over latency]" in get_note(studies["a"]) and "[spec](/artifacts/1/" in get_note(studies["a"])
    assert get_note(studies["b"]).startswith("# b: compound grid\n\nBest: 2/1/1 with")
    assert len(list(Path("runs/artifacts").iterdir())) > 10
    assert command(["port=0"]) == 0 and "writing" not in capsys.readouterr().out
    shutil.rmtree("runs/artifacts")
    assert command(["port=0"]) == 0 and "writing the notes of a" in capsys.readouterr().out
    Path("runs/a/config.yaml").unlink()
    shutil.rmtree("runs/artifacts")
    assert command(["port=0"]) == 0
    assert re.search(r"notes not updated: runs/a/config.yaml: does not exist.*\n.*of b", capsys.readouterr().out)


def test_only_newly_ended_trials_get_new_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = (
        "latency=macs", "data.subset=100", "+space=mobilenet_v1", "estimator=proxy", "data=digits",
        "proxy=tiny", "study.n_trials=2", "study.name=a",
    )  # fmt: skip
    assert search.command([*small]) == 0
    study = optuna.load_study(study_name="a", storage="sqlite:///runs/optuna.db")
    notes = _Notes("sqlite:///runs/optuna.db", Path("runs"), sys.stdout)
    before = attributes(study)
    trial = study.ask()
    notes.write(verbose=False)
    assert attributes(study) == before  # a search at work is not written into for a trial that has only started
    trial.set_user_attr("outcome", "failed")
    trial.set_user_attr("reason", "out of memory")
    study.tell(trial, state=TrialState.FAIL)
    notes.write(verbose=False, is_over=lambda: True)
    assert attributes(study) == before
    notes.write(verbose=False)
    after = attributes(study)
    changed = {key for key in after if "note" in key and after[key] != before.get(key)}
    assert {key.rpartition("note")[0] for key in changed} == {"dashboard:", f"dashboard:{trial._trial_id}:"}
    assert "**Failed**: out of memory." in str(after[f"dashboard:{trial._trial_id}:note_str:0"])
    notes.write(verbose=False)
    assert attributes(study) == after


class Writing:
    """Notes whose update, once started, lasts until the dashboard stops; ``short`` ones before it take no time."""

    def __init__(self, short: int) -> None:
        self.short, self.calls = short, list[bool]()
        self.has_started = threading.Event()
        self.has_ended = False

    def write(self, *, verbose: bool, is_over: Callable[[], bool]) -> None:
        self.calls.append(verbose)
        if len(self.calls) <= self.short:
            return
        self.has_started.set()
        while not is_over():
            time.sleep(0.001)
        self.has_ended = True


@pytest.mark.parametrize(("every_s", "short"), [(0.001, 1), (None, 0)], ids=["repeated", "at the start only"])
def test_an_update_in_progress_is_completed(every_s: float | None, short: int) -> None:
    notes = Writing(short)
    with _background_updates(notes, every_s, io.StringIO()):
        assert notes.has_started.wait(DEADLINE_S) and not notes.has_ended
    assert notes.has_ended and notes.calls == [True, False][: short + 1]  # only the first one names the studies


def test_nobody_else_can_reach_it(tmp_path: Path) -> None:
    made_search(tmp_path, trials=1)
    server = make_dashboard(database(tmp_path), tmp_path, 0)
    assert server.server_address[0] == "127.0.0.1"
    server.server_close()


def test_the_page_fetches_nothing_from_other_hosts(tmp_path: Path) -> None:
    search = made_search(tmp_path, trials=1)
    show(search, tmp_path)
    with served(tmp_path) as address:
        with urlopen(f"{address}/dashboard/studies/1", timeout=DEADLINE_S) as response:
            policy, page = response.headers["Content-Security-Policy"], response.read().decode()
        assert "default-src 'self'" in policy and "http" not in policy
        assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)
        with pytest.raises(HTTPError, match="404"):
            urlopen(f"{address}/artifacts/1/{'0' * 8}", timeout=DEADLINE_S)


@pytest.mark.usefixtures("ended_at_once")
def test_a_program_gets_the_address_alone(capsys: pytest.CaptureFixture[str]) -> None:
    show(made_search(Path("runs"), trials=1), Path("runs"))
    assert command(["port=0", "json=true"]) == 0
    out, output = capsys.readouterr()
    address = json.loads(out)["address"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/dashboard/", address) and address in output


def test_help_has_the_equivalent_optuna_dashboard_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["--help"]) == 0
    assert "optuna-dashboard sqlite:///runs/optuna.db --artifact-dir runs/artifacts" in capsys.readouterr().out
