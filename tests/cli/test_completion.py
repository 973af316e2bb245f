"""Tests of tab completion: candidates, a real bash, no heavy imports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nas.cli.completion import completions
from nas.core.errors import NasError
from nas.search import command
from tests.deadline import DEADLINE_S
from tests.paths import ROOT


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("nas-search sampler=n", ["sampler=nsga2", "sampler=nsga3"]),
        ("nas-search space=mo", ["space=mobilenet_v1", "space=mobilenet_v3", "space=mobilenet_v3_small"]),
        ("nas-search +space=mn", ["+space=mnasnet"]),
        ("nas-search obj", ["objective.", "objective="]),
        ("nas-search study.n", ["study.n_trials=", "study.name="]),
        ("nas-search proxy=careful proxy.epochs=", ["proxy.epochs=12"]),
        ("nas-search space=mixnet space.choices.g", ["space.choices.groups."]),
        ("nas-search -m study.seed=0,1 'space.choices.groups=[1, 2]' pruner=m", ["pruner=median", "pruner=mo_asha"]),
        ("nas-search --m", ["--multirun"]),
        ("nas-search nonsense=1 sampler=g", ["sampler=gp", "sampler=guided"]),
        ("nas-search nothing.of.the.sort", []),
        ("nas-search 'open", []),
    ],
)
def test_the_last_word_is_completed(line: str, expected: list[str]) -> None:
    assert completions("search", line) == expected


def test_an_empty_word_has_all_groups_and_keys_but_hydra_s_own() -> None:
    found = completions("search", "nas-search ")
    assert {"space=", "experiment=", "sampler=", "study.", "runs_dir="} <= set(found)
    assert not any("hydra" in word for word in found)


def test_experiments_are_those_of_the_command() -> None:
    searches, grids = (completions(name, "x experiment=") for name in ("search", "compound_grid"))
    assert "experiment=first_look" in searches and "experiment=mobilenet_v1_table" in grids
    assert not set(searches) & set(grids)


def test_files_and_a_folder_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf" / "space").mkdir(parents=True)
    (tmp_path / "conf" / "space" / "mine.yaml").write_text("# Mine.\nname: mine\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert completions("search", "nas-search space=min") == ["space=mine"]
    assert completions("search", "nas-search data.root=./co") == ["data.root=./conf"]


def installed(folder: Path) -> dict[str, str]:
    """An environment where ``nas-search`` is a command, as the package installs it."""
    script = folder / "nas-search"
    script.write_text(f"#!{sys.executable}\nfrom nas.search import main\nmain()\n", encoding="utf-8")
    script.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_a_real_bash_completes(tmp_path: Path) -> None:
    script = """
eval "$(nas-search -sc install=bash)"
complete -p nas-search
COMP_LINE="nas-search sampler=n" COMP_POINT=20 COMP_CWORD=1
hydra_bash_completion
echo "${COMPREPLY[@]}"
"""
    done = subprocess.run(
        ["bash", "-c", script], env=installed(tmp_path), cwd=tmp_path, capture_output=True, text=True,
        timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    output = done.stdout.splitlines()
    assert "hydra_bash_completion nas-search" in output[0] and output[1] == "sampler=nsga2 sampler=nsga3"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(
    shell: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/nas-search"])
    assert command(["-sc", f"install={shell}"]) == 0
    assert "nas-search" in capsys.readouterr().out
    assert command(["-sc", f"uninstall={shell}"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-sc"], r"-sc '': must be install=, uninstall= or query= of bash, zsh or fish\. eval"),
        (["-sc", "install=tcsh"], r"-sc 'install=tcsh': must be"),
        (["-sc", "install=bash"], r"shells complete only the installed command"),
    ],
)
def test_user_errors_name_the_remedy(arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/nas/search.py"])
    with pytest.raises(NasError, match=message):
        command(arguments)


def test_nothing_heavy_is_loaded() -> None:
    heavy = "{'torch', 'timm', 'optuna', 'sklearn', 'matplotlib', 'onnxruntime', 'rich'}"
    code = (
        f"import sys; from nas.search import command; command(['-sc', 'query=bash']); print({heavy} & set(sys.modules))"
    )
    environment = {**os.environ, "COMP_LINE": "nas-search sampler=g", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=True
    )
    assert done.stdout.splitlines() == ["sampler=gp", "sampler=guided", "set()"]
