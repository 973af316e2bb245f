"""Tests of nas.search on the command line: errors are immediate and clean.

One line for each, and no files left behind.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nas.cli import app, hydra_config
from nas.core.errors import NasError
from nas.search import command, make_plan
from tests.deadline import DEADLINE_S
from tests.paths import ROOT

HEAVY = ("torch", "timm", "optuna", "sklearn", "matplotlib", "onnxruntime")
SPACES = ("efficientnet", "mixnet", "mnasnet", "mobilenet_v1", "mobilenet_v3", "mobilenet_v3_small")


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in an empty folder."""
    monkeypatch.chdir(tmp_path)


def nas_search(*arguments: str, python: tuple[str, ...] = ("-m", "nas.search")) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it, in the working directory."""
    return subprocess.run(
        [sys.executable, *python, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_a_missing_space_lists_the_spaces(tmp_path: Path) -> None:
    done = nas_search()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: which space?") and "Traceback" not in done.stderr
    for name in SPACES:
        headline = (ROOT / "conf" / "space" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
        assert f"+space={name} {headline.removeprefix('# ')}" in " ".join(done.stderr.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [("space=mixnett",), ("space=mixnet", "study.n_trials=0"), ("space=mixnet", "=3")]
)
def test_a_user_error_is_one_line_and_exit_code_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = nas_search(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("space=mixnett", r"unknown space 'mixnett': choose from efficientnet, mixnet, .* Did you mean 'mixnet'"),
        ("space=", r"unknown space '': choose from"),
        ("space=mixnet space=mnasnet", r"space: given twice"),
        ("space=mixnet sampler=tpee", r"unknown sampler 'tpee': choose from .* Did you mean 'tpe'"),
        (
            "space=mixnet data=digits,cifar10",
            r"unknown data 'digits,cifar10': .* Several at once: nas\.search --multirun",
        ),
        ("space=mixnet study.n_trals=3", r"unknown key 'study\.n_trals'.*Did you mean 'study\.n_trials'"),
        ("space=mixnet +study.n_trals=3", r"study\.n_trals: unknown field; .*Did you mean 'n_trials'"),
        ("spcae=mixnet", r"unknown key 'spcae'.*Did you mean 'space'"),
        ("space=mixnet nonsense=3", r"unknown key 'nonsense'"),
        ("space=mixnet +nonsense=3", r"unknown key 'nonsense': choose from data, "),
        ("space=mixnet +space.choices.kernle=[3]", r"space\.choices\.kernle: unknown.*Did you mean 'kernel"),
        ("space=mixnet ~sampler", r"sampler: missing"),
        ("space=mixnet study.n_trials=0", r"study\.n_trials 0: must be a whole number of at least 1"),
        ("space=mixnet study.n_trials=many", r"study\.n_trials: 'many' is not a whole number"),
        ("space=mixnet study.n_trials=1.5", r"study\.n_trials: 1\.5 is not a whole number"),
        ("space=mixnet study=3", r"study: must be a mapping"),
        ("space=mixnet proxy.epochs=-1", r"proxy\.epochs -1: must be"),
        ("space=mixnet constraint.latency_ms=-1", r"constraint\.latency_ms -1: must be a number above 0"),
        ("space=mixnet constraint.latency_ms=20ms", r"constraint\.latency_ms: '20ms' is not a number"),
        ("space=mixnet space.choices.groups=[0]", r"space\.choices\.groups 0: must be at least 1"),
        ("space=mixnet space.choices.groups=[]", r"space\.choices\.groups: the list is empty"),
        ("space=mixnet objective=mnasnet", r"objective\.target_ms: missing; add objective\.target_ms="),
        ("space=mixnet latency.threads=0", r"latency\.threads 0: must be"),
        ("space=mixnet engine.workers=0", r"engine\.workers 0: must be a whole number of at least 1"),
        ("space=mixnet runs_dir=null", r"runs_dir null: must be the path"),
        ("space=mixnet data=imagefolder", r"data\.root: missing, imagefolder needs a folder"),
        ("space=mixnet data=imagefolder data.root=nowhere", r"data\.root: nowhere does not exist"),
        ("space=mixnet data=cifar10 data.root=.", r"data\.root: .*cifar-10-batches-py does not exist"),
        (
            "space=mixnet study.n_trials=[",
            r"'study\.n_trials=\[': cannot be read; lists are written \[a,b\], .* quotes: ",
        ),
        ("space=mixnet study.name=(a;b", r"'study\.name=\(a;b': cannot be read; lists are written"),
        ("space=mixnet stüdy=1", r"'stüdy=1': cannot be read; "),
        ("space=mixnet study.name=ü", r"study\.name 'ü': may hold "),
        ("space=mixnet study.name=a;b", r"study\.name 'a;b': may hold "),
        ("space=mixnet data=imagefolder data.root=jürgen/a&b", r"data\.root: jürgen/a&b does not exist"),
        ("space=mixnet data=imagefolder data.root=~jürgen/x", r"data\.root=~jürgen/x': there is no user of that name"),
        ("space=mixnet study.seed=0,1", r"'study\.seed=0,1': write a list in brackets, .*--multirun"),
        ("space=mixnet data.root=${nowhere}", r"Interpolation key 'nowhere' not found"),
        ("space=mixnet =3", r"'=3': settings have the form name=value"),
        ("mixnet", r"'mixnet': settings have the form name=value"),
        ("space=mixnet --multirn", r"unknown option '--multirn'"),
    ],
)
def test_user_errors_name_the_setting_and_leave_no_files(tmp_path: Path, overrides: str, message: str) -> None:
    with pytest.raises(NasError, match=message) as caught:
        command(overrides.split())
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_configuration_is_checked_before_anything_heavy_is_loaded(tmp_path: Path) -> None:
    code = f"""
import sys
from nas.core.errors import NasError
from nas.search import command, make_plan
plan = make_plan(["space=mixnet", "latency=macs"])
try:
    command(["space=mixnet", "study.n_trials=0"])
except NasError as error:
    print(error)
print(sorted(set({HEAVY!r}) & set(sys.modules)))
"""
    done = nas_search(python=("-c", code))
    expected = ["study.n_trials 0: must be a whole number of at least 1 and at most 1000000.", "[]"]
    assert done.stdout.splitlines() == expected, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_limit_that_nothing_meets_is_reported_before_the_study_starts(tmp_path: Path) -> None:
    message = r"^0 of 16 sampled candidates of space 'mobilenet_v1' meet latency_ms <= 0\.001"
    with pytest.raises(NasError, match=message) as caught:
        command(["space=mobilenet_v1", "latency=macs", "constraint.latency_ms=0.001"])
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", SPACES)
def test_a_space_is_chosen_with_and_without_a_plus(name: str) -> None:
    plain, plus = (make_plan([f"{prefix}space={name}", "latency=macs"]) for prefix in ("", "+"))
    assert plain.space.parameters == plus.space.parameters
    assert plain.name == f"{name}-mnist_5k"
    assert plain.identity("here") == plus.identity("here")
    assert plain.command == f"python -m nas.search space={name} latency=macs"


def test_overrides_reach_the_plan() -> None:
    overrides = """space=mixnet space.choices.groups=[1,2] objective=mnasnet objective.target_ms=20 sampler=nsga2
        constraint.params_m=5 study.name=mine study.n_trials=70 proxy.epochs=2 runs_dir=~/x"""
    plan = make_plan(overrides.split())
    assert plan.space.parameters["s2.b0.groups"] == (1, 2)
    assert (plan.objective.kind, plan.objective.target_ms) == ("mnasnet", 20)
    assert (plan.sampler.name, plan.constraints.params_m, plan.proxy.epochs) == ("nsga2", 5, 2)
    assert (plan.study.name, plan.study.n_trials, plan.folder) == ("mine", 70, Path.home() / "x" / "mine")


def test_a_folder_of_ones_own_comes_first(tmp_path: Path) -> None:
    theirs = yaml.safe_load((ROOT / "conf" / "space" / "mobilenet_v1.yaml").read_text(encoding="utf-8"))
    (tmp_path / "conf" / "space").mkdir(parents=True)
    text = yaml.safe_dump({**theirs, "name": "mine", "width": 0.5})
    (tmp_path / "conf" / "space" / "mine.yaml").write_text("# A space of my own.\n" + text, encoding="utf-8")
    assert make_plan(["space=mine"]).space.size == 4
    assert "mine" in hydra_config.choices("space") and "mixnet" in hydra_config.choices("space")
    with pytest.raises(NasError, match=r"\+space=mine\s+A space of my own\."):
        command([])


def test_help_and_configuration(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command(["space=mixnet", "--help"]) == 0
    output = capsys.readouterr().out
    assert all(f"+space={name}" in output for name in SPACES) and "study.n_trials" in output
    assert command(["space=mixnet", "--cfg", "job", "study.n_trials=9"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert (config["space"]["name"], config["study"]["n_trials"]) == ("mixnet", 9)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_torch_installation_is_a_plain_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_name: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist\nmore lines")

    monkeypatch.setattr(app, "import_module", broken)
    with pytest.raises(
        NasError, match=r"cannot be loaded \(operator torchvision::nms does not exist\)\. Reinstall torch"
    ):
        app.import_heavy("nas.engines.run")
    assert gc.isenabled()  # which it is not while they are imported


def test_results_that_cannot_be_written_are_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    for folder in ("/proc/x", "file", "file/runs"):
        with pytest.raises(NasError, match=r"runs_dir .*: cannot be written to: "):
            command(["+space=mobilenet_v1", "latency=macs", f"runs_dir={folder}"])
    app.check_writable(tmp_path / "a" / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_two_commands_may_look_at_the_same_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: Path) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "rmdir", gone)  # the other command was faster
    app.check_writable(tmp_path / "runs")
