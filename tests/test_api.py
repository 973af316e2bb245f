"""Tests of the public Python API: published figures, studies, errors.

timm's networks too; studies and errors are the same as those of the commands.
"""

from __future__ import annotations

import csv
import doctest
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import spawn
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
import pytest
import timm
import torch

import nas
from nas import api, compound_grid, search, show
from nas.engines.local.worker import without_main_module
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.study.storage.optuna_private import storage_of
from tests.arch.published import reference
from tests.deadline import DEADLINE_S
from tests.json_output import MS_PER_GMAC, json_answer
from tests.methods.scaling.tiny import TINY, Finished, trained_above_chance
from tests.paths import ROOT
from tests.test_report import synthetic_trainings

# Two of the 16 points of the space; nothing is trained.
SEARCH = (
    "space=mobilenet_v1", "latency=macs", "estimator=proxy", "data=digits", "proxy=tiny", "proxy.epochs=3",
    "data.subset=100", "study.n_trials=2",
)  # fmt: skip
SETTINGS = {
    "space": "mobilenet_v1",
    "latency": "macs",
    "estimator": "proxy",
    "data": "digits",
    "data.subset": 100,
    "proxy": "tiny",
    "proxy.epochs": 3,
    "study": {"n_trials": 2},
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: None) -> None:
    """Everything is written into an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[int], object]], None]]:
    """Accuracies are made up; to call it sets what hears the number of each training."""

    def before_each(hear: Callable[[int], object]) -> None:
        monkeypatch.setattr(ProxyEvaluator, "evaluate", synthetic_trainings(hear))

    before_each(lambda _: None)
    yield before_each


def refused(function: Callable[..., Any], *arguments: Any, **settings: Any) -> str:
    """The text of the error that a call ends with."""
    with pytest.raises(nas.NasError) as caught:
        function(*arguments, **settings)
    return str(caught.value)


def closed(result: Any) -> Any:
    """A result whose connection to its storage is given back."""
    storage_of(result.study).close()
    return result


def test_importing_it_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'timm', 'optuna', 'numpy', 'hydra', 'omegaconf', 'yaml', 'rich', 'scipy', 'onnxruntime'}"
    code = f"import sys, nas; print(sorted({heavy} & set(sys.modules)), sorted(set(nas.__all__) - set(dir(nas))))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=DEADLINE_S
    )
    assert done.stdout.strip() == "[] []"


def test_its_types_travel_with_the_package() -> None:
    assert (ROOT / "nas" / "py.typed").is_file()
    assert 'nas = ["py.typed"]' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_examples_in_its_docstrings_hold() -> None:
    result = doctest.testmod(api)
    assert result.attempted >= 4
    assert result.failed == 0


def test_cost_is_that_of_the_published_networks() -> None:
    models = reference("mixnet")["models"]
    assert "mixnet_s" in models
    for name, model in models.items():
        cost = nas.complexity(nas.published(name))
        assert (cost.params, cost.macs) == (model["exact_params"], model["exact_macs_224"])
    assert {"mixnet_s", "efficientnet_b0", "mobilenetv3_large_100"} <= set(nas.published_names())
    assert "Did you mean 'mixnet_s'?" in refused(nas.published, "mixnet-s")


def test_modules_are_timms() -> None:
    spec = nas.published("mobilenetv3_small_050")
    torch.manual_seed(0)
    theirs, ours = timm.create_model("mobilenetv3_small_050").eval(), nas.build(spec).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))
    assert sum(one.numel() for one in ours.parameters()) == nas.complexity(spec).params


def test_networks_of_timm_are_read_by_name_and_as_modules() -> None:
    by_name = nas.from_timm("mobilenetv2_100")
    assert by_name.arch_id == nas.published("mobilenetv2_100").arch_id
    assert nas.from_timm("timm/mobilenetv2_100") == by_name
    with torch.device("meta"):
        assert nas.from_timm(timm.create_model("mobilenetv2_100")) == by_name
    command = refused(show.command, ["arch=timm/mobilenetv2_10"])
    assert refused(nas.from_timm, "mobilenetv2_10") == command


def test_a_spec_file_gives_the_network_again(tmp_path: Path) -> None:
    spec, path = nas.published("mixnet_s"), tmp_path / "new" / "mine.yaml"
    nas.save_spec(spec, path, {"study": "mine"})
    assert nas.load_spec(path) == spec
    assert [one.name for one in path.parent.iterdir()] == ["mine.yaml"]
    kept = path.read_bytes()
    assert "is a Path" in refused(nas.save_spec, spec, path, {"file": Path()}).replace("PosixPath", "Path")
    assert path.read_bytes() == kept
    assert "cannot write" in refused(nas.save_spec, spec, path / "below.yaml")


def test_scalings_are_those_that_were_published() -> None:
    baseline = nas.published("efficientnet_b0")
    for label in ("b1", "b2", "b3"):
        scaled = nas.scale_spec(baseline, rule="published", phi=label).arch
        assert scaled.arch_id == nas.published(f"efficientnet_{label}").arch_id
    members = nas.family(baseline, "published", (1, 2))
    assert [one.arch.arch_id for one in members] == [
        nas.published(f"efficientnet_{label}").arch_id for label in ("b1", "b2")
    ]
    # MobileNetV2 1.4 (arXiv:1801.04381): all channels by 1.4, and the head, which grows only.
    wide = nas.scale_spec(nas.published("mobilenetv2_100"), nas.Scaling(width=1.4, head="grow"))
    assert wide.arch.arch_id == nas.published("mobilenetv2_140").arch_id
    assert wide.factors.width == 1.4


def test_a_scaling_meets_its_targets_as_the_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    from nas.scale import command

    baseline = nas.published("mixnet_s")
    told = json_answer(command, capsys, ("arch=mixnet_s", "target_macs_m=600", "latency=macs"))
    scaled = nas.scale_spec(baseline, target_macs_m=600)
    assert scaled.cost.macs <= 600e6 < 1.1 * scaled.cost.macs
    assert (told["arch_id"], told["phi"]) == (scaled.arch.arch_id, scaled.phi)
    below = nas.scale_spec(baseline, target_macs_m=120, head="pool_conv", hswish_from=0.5)
    told = json_answer(
        command, capsys, ("mixnet_s", "target_macs_m=120", "head=pool_conv", "hswish_from=0.5", "latency=macs")
    )
    assert (told["arch_id"], told["phi"]) == (below.arch.arch_id, below.phi)
    assert below.phi < 0
    assert [step.setting for step in below.rewrites] == ["head=pool_conv", "hswish_from=0.5"]
    by_scaling = nas.scale_spec(baseline, nas.Scaling(head="fixed"), head="pool_conv", hswish_from=0.5)
    assert by_scaling.arch.arch_id == below.baseline.arch_id
    predictor = nas.latency_predictor(latency="macs")
    timed = nas.scale_spec(baseline, target_ms=20, predictor=predictor)
    assert timed.arch == nas.scale_spec(baseline, target_macs_m=20 / MS_PER_GMAC * 1e3).arch
    for settings in ({}, {"phi": 1, "width": 2}, {"phi": -13}, {"hswish_from": 2}, {"target_ms": 20}):
        assert refused(nas.scale_spec, baseline, **settings)
    for given in ("phi=-13", "rule=wide", "head=pool"):
        name, value = given.split("=")
        text = refused(command, ["arch=mixnet_s", given, "latency=macs"])
        assert refused(nas.scale_spec, baseline, **{name: int(value) if name == "phi" else value}) == text


def test_latency_is_that_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    spec = nas.published("mixnet_s")
    told = json_answer(show.command, capsys, ("arch=mixnet_s", "latency=macs", "latency.ms_per_gmac=7"))
    found = nas.predict_latency(spec, latency="macs", ms_per_gmac=7)
    assert found.latency_ms == pytest.approx(nas.complexity(spec).macs * 7e-9)
    assert (found.latency_ms, found.low_ms, found.high_ms) == (
        told["latency_ms"],
        told["latency_low_ms"],
        told["latency_high_ms"],
    )
    assert nas.latency_predictor(latency="macs", ms_per_gmac=7).predict(spec) == found
    assert nas.predict_latency(spec, backend="macs").latency_ms == pytest.approx(found.latency_ms * MS_PER_GMAC / 7)


@pytest.mark.parametrize(
    "settings", [{"backend": "mac"}, {"backnd": "macs"}, {"latency": "mac"}, {"threads": 0}, {"budget_s": 1}]
)
def test_a_wrong_latency_setting_is_refused_as_by_the_command(settings: dict[str, Any]) -> None:
    typed = [f"{name}={value}" if name == "latency" else f"latency.{name}={value}" for name, value in settings.items()]
    text = refused(show.command, ["arch=mixnet_s", *typed])
    assert refused(nas.predict_latency, nas.published("mixnet_s"), **settings) == text


@pytest.mark.parametrize(
    ("typed", "settings"),
    [
        ([], {}),
        (["space=mixnett"], {"space": "mixnett"}),
        (["space.name=mine"], {"space": {"name": "mine"}}),
        (["space=mixnet", "study.n_trails=4"], {"space": "mixnet", "study": {"n_trails": 4}}),
        (["space=mixnet", "study.n_trials=0"], {"space": "mixnet", "study": {"n_trials": 0}}),
        (["space=mixnet", "study.n_trials=four"], {"space": "mixnet", "study": {"n_trials": "four"}}),
        (["space=mixnet", "study.name=a/b"], {"space": "mixnet", "study": {"name": "a/b"}}),
        (["space=mixnet", "data=imagefolder"], {"space": "mixnet", "data": "imagefolder"}),
        (
            ["space=mixnet", "data.root=null", "data.name=imagefolder"],
            {"space": "mixnet", "data": {"root": None, "name": "imagefolder"}},
        ),
        (["space=mixnet", "sampler=tpee"], {"space": "mixnet", "sampler": "tpee"}),
        (["space=mixnet", "space.choices.groups=[]"], {"space": "mixnet", "space.choices": {"groups": []}}),
        (["space=mixnet", "constraint.latency_ms=-1"], {"space": "mixnet", "constraint": {"latency_ms": -1}}),
        (["space=mixnet", "+typo=1"], {"space": "mixnet", "typo": 1}),
    ],
)  # fmt: skip
def test_a_wrong_setting_of_a_search_is_refused_as_by_the_command(typed: list[str], settings: dict[str, Any]) -> None:
    text = refused(search.command, typed)
    assert refused(nas.run_search, *typed) == text
    if "+typo=1" in typed:  # only an override string can add what no configuration has
        assert refused(nas.run_search, **settings).startswith("unknown key 'typo'")
    else:
        assert refused(nas.run_search, **settings) == text


@pytest.mark.parametrize(
    ("typed", "settings"),
    [
        (["baseline=mixnet"], {"baseline": "mixnet"}),
        (["phi=0"], {"phi": 0}),
        (["compare=[depth,wide]"], {"compare": ["depth", "wide"]}),
        (["grid.alpha=[0.5]"], {"grid": {"alpha": (0.5,)}}),
        (["race.seed=2"], {"race": {"seed": 2}}),
    ],
)
def test_a_wrong_setting_of_a_grid_is_refused_as_by_the_command(typed: list[str], settings: dict[str, Any]) -> None:
    text = refused(compound_grid.command, typed)
    assert refused(nas.run_compound_grid, *typed) == text
    assert refused(nas.run_compound_grid, **settings) == text


def test_what_python_alone_can_get_wrong_is_said_in_one_line() -> None:
    spec = nas.published("mixnet_s")
    assert "add space=NAME, one of efficientnet, mixnet" in refused(nas.run_search, space={"name": "mine"})
    assert "nas.save_spec(spec, path) writes one" in refused(nas.run_compound_grid, baseline=spec)
    assert refused(nas.run_search, space=spec).startswith(
        "space: type ArchSpec is not allowed for a setting; give text"
    )
    assert refused(nas.scale_spec, spec, nas.Scaling(width=2), phi=1).startswith("scaling: says how far to go")


def test_options_are_for_commands() -> None:
    assert refused(nas.run_search, "--multirun") == (
        "unknown option '--multirun': settings have the form name=value; see --help."
    )


def test_both_doors_find_the_same(untrained: object, capsys: pytest.CaptureFixture[str]) -> None:
    told = json_answer(search.command, capsys, (*SEARCH, "study.name=typed"))["studies"][0]
    result = closed(nas.run_search(**{**SETTINGS, "study": {"n_trials": 2, "name": "called"}}, progress=False))
    assert capsys.readouterr() == ("", "")
    with open("runs/typed/trials.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [one.arch_id for one in result.trials] == [row["arch_id"] for row in rows]
    assert len({one.arch_id for one in result.trials}) == 2
    assert not result.interrupted
    assert isinstance(result, nas.SearchResult)
    assert [(one.accuracy, one.latency_ms) for one in result.winners] == [
        (one["accuracy"], one["latency_ms"]) for one in told["winners"]
    ]
    assert (result.folder, result.report) == (Path("runs/called"), Path("runs/called/report.html"))
    assert result.report.is_file()
    assert isinstance(result.study, optuna.Study)
    assert sum(trial.state.name == "COMPLETE" for trial in result.study.trials) == 2
    for winner in result.winners:
        assert nas.load_spec(winner.paths["spec"]) == winner.spec
        assert {"spec", "scaled_spec", "module", "proxy_spec"} <= set(winner.paths)
        assert all(path.is_file() for path in winner.paths.values())
        assert f"{winner.accuracy}" in repr(result)
    assert len(repr(result)) < 1000
    again = closed(nas.load_study("called"))
    assert (again.winners, again.trials, again.interrupted) == (result.winners, result.trials, False)
    assert refused(nas.load_study, "cald").startswith("study 'cald': is not in sqlite:///runs/optuna.db")
    assert "letters, digits" in refused(nas.load_study, "a/b")


def test_progress_is_said_on_stderr_from_any_thread(untrained: object, capsys: pytest.CaptureFixture[str]) -> None:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(nas.run_search(*SEARCH, "study.name=threaded")))
    thread.start()
    thread.join(DEADLINE_S)
    said = capsys.readouterr()
    assert len(closed(results[0]).trials) == 2
    assert said.out == ""
    assert "2/2 trial" in said.err


def test_an_interrupted_search_returns_what_it_has_and_goes_on(
    untrained: Callable[[Callable[[int], object]], None],
) -> None:
    def interrupt(number: int) -> None:
        if number == 2:
            raise KeyboardInterrupt

    untrained(interrupt)
    first = closed(nas.run_search(*SEARCH, "study.name=cut", progress=False))
    assert first.interrupted
    assert [one.outcome for one in first.trials if one.accuracy is not None] == ["trained"]
    assert closed(nas.load_study("cut")).interrupted
    untrained(lambda _: None)
    rest = closed(nas.run_search(*SEARCH, "study.name=cut", progress=False))
    assert not rest.interrupted
    assert [one.outcome for one in rest.trials] == ["trained", "trained"]


def test_a_grid_returns_its_ranking_its_best_coefficients_and_its_family(
    grid: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_above_chance(monkeypatch)
    shutil.copytree(grid.folder, ".", dirs_exist_ok=True)
    result = closed(nas.run_compound_grid(*TINY, progress=False))  # which is finished: nothing is trained
    assert isinstance(result, nas.CompoundGridResult)
    with open("runs/tiny/networks.csv", encoding="utf-8", newline="") as stream:
        rows = {row["network"]: row for row in csv.DictReader(stream)}
    best = next(row for row in rows.values() if row["verdict"] == "best")
    triple = tuple(float(best[name]) for name in ("alpha", "beta", "gamma"))
    found = result.coefficients
    assert (found.alpha, found.beta, found.gamma) == pytest.approx(triple)
    assert result.winners[0].name == best["network"]
    assert result.winners[0].accuracy == pytest.approx(float(best["accuracy"]))
    assert result.winners[0].spec.arch_id == best["arch_id"]
    assert len(result.winners) == 1 + len(result.ranking.peers)
    assert result.conclusion is not None and result.conclusion.best == best["network"] and result.conclusion.rounds == 2
    assert [path.name for path in result.family] == [f"phi_{phi}.yaml" for phi in range(len(result.family))]
    assert nas.load_spec(result.family[0]).depth == nas.published("mobilenetv2_035").depth
    assert not result.interrupted
    opened = closed(nas.load_study("tiny", "runs"))
    assert (opened.winners, opened.coefficients) == (result.winners, result.coefficients)


class OfMain:
    """A class that pickle finds in the main module."""


def test_workers_do_not_run_the_callers_script_again(monkeypatch: pytest.MonkeyPatch) -> None:
    main = ModuleType("__main__")
    main.__file__ = str(Path("script.py").resolve())
    main.OfMain = OfMain  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(OfMain, "__module__", "__main__")
    assert "init_main_from_path" in spawn.get_preparation_data("worker")  # as multiprocessing does by itself
    with without_main_module({"plain": 1}):
        assert not {"init_main_from_path", "init_main_from_name"} & spawn.get_preparation_data("worker").keys()
    assert sys.modules["__main__"] is main
    with without_main_module(OfMain()):  # which a worker could not load otherwise
        assert spawn.get_preparation_data("worker")["init_main_from_path"] == main.__file__
        assert isinstance(pickle.loads(pickle.dumps(OfMain())), OfMain)
