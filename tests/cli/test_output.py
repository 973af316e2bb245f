"""Output of every command with hostile names, in an ASCII locale, and to a closed or broken standard output."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import optuna
import pytest

from nas.arch import zoo
from nas.arch.files import dump_spec
from nas.cli import app
from nas.core.formatting import escape_controls
from nas.study.storage.opening import IDENTITY
from tests.core.test_streams import ascii_stream, is_harmless, written
from tests.paths import ROOT

SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
HOSTILE = "x\x1b[2J\x07\u202ey"
QUICK = {
    "nas.show": ["mixnet_s", "latency=macs"],
    "nas.scale": ["mixnet_s", "family=true", "phis=[0,1]", "latency=macs"],
    "nas.compare": ["mixnet_s", "mixnet_m", "latency=macs"],
    "nas.report": ["storage=sqlite:///x.db"],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Spec files and studies whose names a terminal would obey."""
    folder = tmp_path_factory.mktemp("files")
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'x.db'}")
    for name in (HOSTILE, "plain"):
        study_key = storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], name)
        storage.set_study_system_attr(study_key, IDENTITY, '{"space.name": "mixnet"}')
    storage.engine.dispose()
    for name in ("a", "b"):
        text = dump_spec(replace(zoo.get("mixnet_s"), name=f"{HOSTILE}{name}"))
        (folder / f"{HOSTILE}{name}.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def working_folder(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def run(monkeypatch: pytest.MonkeyPatch, module: str, *arguments: str) -> int:
    """The exit code of a command as its console script runs it."""
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    monkeypatch.setattr("gc.set_threshold", lambda _: None)
    monkeypatch.setattr("gc.freeze", lambda: None)
    with pytest.raises(SystemExit) as ended:
        import_module(module).main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("nas.show", [f"arch={HOSTILE}a.yaml", "latency=macs"]),
        ("nas.scale", [f"arch={HOSTILE}a.yaml", "phi=1", f"out={HOSTILE}c.yaml", "latency=macs"]),
        ("nas.scale", [f"arch={HOSTILE}a.yaml", "family=true", "phis=[0]", "latency=macs"]),
        ("nas.compare", [f"{HOSTILE}a.yaml", f"{HOSTILE}b.yaml", "latency=macs", f"csv={HOSTILE}.csv"]),
        ("nas.compare", [f"{HOSTILE}a.yaml", f"{HOSTILE}\nz.yaml", "latency=macs"]),
        ("nas.report", ["storage=sqlite:///x.db"]),
        ("nas.report", [f"study={HOSTILE}", "storage=sqlite:///x.db"]),
        ("nas.search", ["space=mixnet", "data=imagefolder", f"data.root={HOSTILE}"]),
        ("nas.dashboard", [f"storage=sqlite:///{HOSTILE}.db"]),
        ("nas.calibrate", ["device=measurements", f"path={HOSTILE}.csv"]),
    ],
)
def test_hostile_names_are_only_shown(
    module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, module, *arguments) in (0, app.EXIT_USAGE)
    out, error = capsys.readouterr()
    assert is_harmless(out + error) and escape_controls(HOSTILE) in out + error
    assert "Traceback" not in error


def ascii_output(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    streams = ascii_stream(), ascii_stream()
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    return lambda: "".join(map(written, streams))


@pytest.mark.parametrize("module", QUICK)
def test_an_ascii_terminal_gets_the_whole_output(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    output = ascii_output(monkeypatch)
    assert run(monkeypatch, module, *QUICK[module]) == 0
    assert output().count("\n") > 4


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_help_is_shown_by_an_ascii_terminal(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    output = ascii_output(monkeypatch)
    assert run(monkeypatch, SCRIPTS[script].removesuffix(":main"), "--help") == 0
    assert "json=true" in output()


@pytest.mark.parametrize("module", QUICK)
def test_a_closed_output_is_no_error(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error = io.StringIO()
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", error)
    assert run(monkeypatch, module, *QUICK[module]) == 0
    sys.stdout.close()
    assert error.getvalue() == ""


@pytest.mark.parametrize("module", QUICK)
def test_an_output_that_nobody_reads_ends_the_command_silently(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    error = io.StringIO()
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", error)
        assert run(monkeypatch, module, *QUICK[module]) == 1
    assert error.getvalue() == ""
