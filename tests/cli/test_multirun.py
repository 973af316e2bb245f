"""Tests of --multirun: the studies, their names, failures, interrupts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from nas import compound_grid, search
from nas.cli.multirun import distinct_names, jobs, split_multirun_flag
from nas.compound_grid import make_plan as make_grid
from nas.core.errors import NasError
from nas.estimators.base import Evaluation
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.training.results import EpochResult
from tests.study.fakes import accuracy_of

SEARCH = (
    "space=mobilenet_v1", "latency=macs", "estimator=proxy", "data=digits", "proxy=tiny", "data.subset=100",
    "study.n_trials=2",
)  # fmt: skip


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: None) -> None:
    """Commands run in an empty folder, and nothing is trained."""
    monkeypatch.chdir(tmp_path)
    trained(monkeypatch, lambda _: None)


def trained(monkeypatch: pytest.MonkeyPatch, before: Callable[[int], object]) -> list[str]:
    """Fake trainings with synthetic accuracies; collects network ids in order.

    ``before`` is called with the count of each.
    """
    seen: list[str] = []

    def evaluate(
        _: ProxyEvaluator, arch: Any, *, repeat: int = 0, on_epoch: Callable[[EpochResult], None] | None = None
    ) -> Evaluation:
        before(len(seen))
        seen.append(arch.arch_id)
        return Evaluation(accuracy=accuracy_of(arch), cpu_s=0.1, duration_s=0.1)

    monkeypatch.setattr(ProxyEvaluator, "evaluate", evaluate)
    return seen


def studies(runs_dir: str = "runs") -> list[str]:
    return sorted(optuna.get_all_study_names(f"sqlite:///{runs_dir}/optuna.db"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["+space=mixnet,mobilenet_v3", "study.seed=0,1,2"],
        ["study.seed=range(0,3)", "latency=macs", "proxy.lr=choice(0.01,0.02)"],
        ["+space=mixnet", "space.choices.groups=[1,2],[1,2,3]", "study.name='a b','c'"],
    ],
)
def test_studies_are_those_of_hydra_s_own_sweeper(arguments: list[str]) -> None:
    expected = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(arguments), None)[0]
    assert [list(job.overrides) for job in jobs(arguments)] == expected


def test_a_glob_selects_the_matching_choices() -> None:
    found = [job.overrides for job in jobs(["space=glob(mobilenet*)", "sampler=random"])]
    names = ("mobilenet_v1", "mobilenet_v3", "mobilenet_v3_small")
    assert found == [(f"+space={name}", "sampler=random") for name in names]


@pytest.mark.parametrize(
    ("names", "swept", "expected"),
    [
        (["a", "b"], [{"space": "x"}, {"space": "y"}], ["a", "b"]),
        (["a", "a"], [{"study.seed": "0"}, {"study.seed": "1"}], ["a-seed0", "a-seed1"]),
        (
            ["a", "a", "b", "b"],
            [{"space": "x", "study.seed": "0"}, {"space": "x", "study.seed": "1"}, {"space": "y", "study.seed": "0"},
             {"space": "y", "study.seed": "1"}],
            ["a-seed0", "a-seed1", "b-seed0", "b-seed1"],
        ),
        (["a", "a"], [{"space": "x"}, {"space": "y"}], ["a-x", "a-y"]),
        (["a", "a"], [{"k.groups": "[1,2]"}, {"k.groups": "[1]"}], ["a-groups_1_2_", "a-groups_1_"]),
    ],
)  # fmt: skip
def test_names_tell_as_much_as_is_needed(names: list[str], swept: list[dict[str, str]], expected: list[str]) -> None:
    assert distinct_names(names, swept) == expected
    assert distinct_names(names[::-1], swept[::-1]) == expected[::-1]


def test_the_flag_may_stand_anywhere() -> None:
    for flag in ("-m", "--multirun"):
        assert split_multirun_flag(["a=1,2", flag, "b=1"]) == (True, ["a=1,2", "b=1"])
    assert split_multirun_flag(["a=1"]) == (False, ["a=1"])


def test_one_study_each_then_a_table_and_the_second_time_nothing_is_trained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["-m", *SEARCH, "study.seed=0,1"]
    assert search.command(arguments) == 0
    names = ["mobilenet_v1-digits-seed0", "mobilenet_v1-digits-seed1"]
    assert studies() == names
    out = capsys.readouterr().out
    assert out.index(f"[1/2] {names[0]}") < out.index(f"[2/2] {names[1]}") < out.index("\nstudy ")
    command = (Path("runs") / names[1] / "config.yaml").read_text(encoding="utf-8")
    assert f"study.seed=1 study.name={names[1]}" in command and "-m " not in command.partition("versions")[0].replace(
        "python -m ", ""
    )
    again = trained(monkeypatch, lambda _: pytest.fail("a training"))
    assert search.command(arguments) == 0
    output = capsys.readouterr().out.splitlines()
    assert output[:2] == [f"[{index}/2] {name}: already finished" for index, name in enumerate(names, start=1)]
    assert again == [] and any(line.startswith("study ") for line in output)


def test_ctrl_c_ends_all_and_the_same_command_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(number: int) -> None:
        if number == 1:
            raise KeyboardInterrupt

    trained(monkeypatch, interrupt)
    arguments = [*SEARCH, "study.seed=0,1", "--multirun"]
    assert search.command(arguments) == 130
    assert studies() == ["mobilenet_v1-digits-seed0"]
    assert "go on with: python -m nas.search" in capsys.readouterr().out
    left = trained(monkeypatch, lambda _: None)
    assert search.command(arguments) == 0
    assert len(left) == 3 and len(studies()) == 2


def test_one_that_cannot_go_on_does_not_keep_the_others_from_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert search.command(["-m", *SEARCH, "constraint.latency_ms=0.001,20"]) == 2
    out, error = capsys.readouterr()
    assert "error: 0 of 16 sampled candidates" in error and error.count("error: ") == 1
    assert studies() == ["mobilenet_v1-digits-latency_ms20"] and "\nstudy " in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["space=mobilenet_v1"], r"--multirun: no setting has several values"),
        (["space=mobilenet_v1", "study.seed=0,0"], r"two studies would be named 'mobilenet_v1-mnist_5k'"),
        (["space=mobilenet_v1", "study.seed=0,x"], r"study\.seed: 'x' is not a whole number"),
        (["space=mobilenet_v1,mixnett"], r"unknown space 'mixnett'.*Did you mean 'mixnet'"),
        (["space=mobilenet_v1", "study.seed=interval(0,1)"], r"'study\.seed=interval\(0,1\)': infinitely many values"),
        (["space=mobilenet_v1", "study.seed=0,["], r"'study\.seed=0,\['"),
        (["space=glob(x*)"], r"matches none of efficientnet, mixnet, "),
        (["mobilenet_v1", "study.seed=0,1"], r"'mobilenet_v1': settings have the form name=value"),
    ],
)
def test_user_errors_are_reported_before_the_first_study(tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(NasError, match=message) as caught:
        search.command(["-m", *arguments])
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_several_values_without_the_flag_say_what_to_do() -> None:
    for command, arguments in ((search.command, SEARCH), (compound_grid.command, ("latency=macs",))):
        with pytest.raises(NasError, match=r"'study\.seed=0,1': write a list in brackets.*--multirun"):
            command([*arguments, "study.seed=0,1"])


def test_grids_are_swept_too(monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    monkeypatch.setattr("nas.cli.app.launch_study", lambda plan, *_, **__: names.append(plan.name) or 130)
    assert make_grid(["phi=1"]).name == "efficientnet_b0-digits-phi1"
    with pytest.raises(NasError, match="does not exist"):  # there is nothing to tell of, for nothing was run
        compound_grid.command(["-m", "baseline=mixnet_s,efficientnet_b0", "study.seed=0,1", "latency=macs"])
    assert names == ["mixnet_s-digits-phi1-seed0"]


@pytest.mark.parametrize("several", [False, True])
def test_json_has_stdout_to_itself(several: bool, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*SEARCH, "json=true", *(["-m", "study.seed=0,1"] if several else [])]
    assert search.command(arguments) == 0
    out, error = capsys.readouterr()
    found = json.loads(out)["studies"]
    assert out.count("\n") == 1 and [one["trained"] for one in found] == [2] * (1 + several)
    assert all((Path(one["folder"]) / "report.html").is_file() for one in found)
    assert "2/2 trial 1: accuracy" in error
