"""Tests of nas.report: reports rendered again, running searches, study list."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path

import optuna
import pytest

from nas import report, search
from nas.arch import zoo
from nas.arch.files import load_spec_file
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.data import images as images
from nas.data.sources import DataSettings
from nas.estimators.base import Evaluation
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.training.results import EpochResult
from tests.deadline import DEADLINE_S
from tests.json_output import json_answer
from tests.paths import ROOT
from tests.study.fakes import accuracy_of, epoch_result

MADE = ("report.html", "trials.csv", "pareto.svg")
# Of the 16 points only the largest is predicted above 14 ms.
SEARCH = (
    "+space=mobilenet_v1", "latency=macs", "latency.ms_per_gmac=30", "constraint.latency_ms=14", "estimator=proxy",
    "sampler=tpe", "data=digits", "proxy=tiny",
    "proxy.epochs=3", "data.subset=100", "study.name=made", "study.n_trials=5",
)  # fmt: skip


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: None) -> None:
    """Commands run in an empty folder, and nothing is trained."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(ProxyEvaluator, "evaluate", synthetic_trainings(lambda _: None))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished search."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(ProxyEvaluator, "evaluate", synthetic_trainings(lambda _: None))
        assert search.command(list(SEARCH)) == 0
    return folder


@pytest.fixture
def searched(finished: Path, tmp_path: Path) -> None:
    """That search is in the working directory."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)


def synthetic_trainings(before: Callable[[int], object]) -> Callable[..., Evaluation]:
    """Fake trainings of three epochs with synthetic accuracies.

    ``before`` is called with the number of each.
    """
    calls = 0

    def evaluate(
        _: ProxyEvaluator, arch: ArchSpec, *, repeat: int = 0, on_epoch: Callable[[EpochResult], None] | None = None
    ) -> Evaluation:
        nonlocal calls
        calls += 1
        before(calls)
        for epoch in (1, 2, 3):
            if on_epoch:
                on_epoch(epoch_result(epoch, accuracy=accuracy_of(arch) * epoch / 3))
        return Evaluation(accuracy=accuracy_of(arch), cpu_s=0.1, duration_s=0.1)

    return evaluate


def made(folder: Path) -> dict[str, str]:
    return {name: (folder / "runs" / "made" / name).read_text(encoding="utf-8") for name in MADE}


@pytest.mark.usefixtures("searched")
def test_a_page_rendered_again_is_the_same_without_images_or_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = made(tmp_path)
    for name in MADE:
        (tmp_path / "runs" / "made" / name).unlink()
    winners = {path: path.read_bytes() for path in (tmp_path / "runs" / "made" / "winners").iterdir()}

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("images were requested")

    monkeypatch.setattr(images, "load_images", refuse)
    monkeypatch.setattr(ProxyEvaluator, "evaluate", refuse)
    assert report.command(["study=made"]) == 0
    assert capsys.readouterr().out == "open runs/made/report.html\n"
    assert made(tmp_path) == first
    assert {path: path.read_bytes() for path in winners} == winners
    assert "winners/winner_1.yaml" in first["report.html"]
    assert first["report.html"].count('src="data:image/png;base64,') == 10  # samples of each digit


def test_a_search_at_work_has_a_report_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def before(call: int) -> None:
        if call in (1, 4):  # the search holds its lock in the meantime
            assert report.command(["study=made"]) == 0
            seen.append(made(tmp_path)["report.html"])

    monkeypatch.setattr(ProxyEvaluator, "evaluate", synthetic_trainings(before))
    assert search.command(list(SEARCH)) == 0
    early, late = seen
    assert "0 trained" in early and "No candidate was trained" in early and "1 still running" in early
    assert "Unfinished: 0 of 5 trials." in early and "Unfinished: 3 of 5 trials." in late
    assert "3 trained, 1 infeasible" in late and "1 still running when this was written" in late
    assert late.count('class="hit"') == 3 and "trial_" in late and "winners/winner_1.yaml" not in late
    page = made(tmp_path)["report.html"]
    assert "5 trained" in page and "Unfinished" not in page and "resized to 8 x 8 px" in page
    winner = load_spec_file("runs/made/winners/winner_1.yaml")
    digits = images.load_images(DataSettings(resolution_px=8, subset=100))
    assert winner.provenance["class_names"] == [str(digit) for digit in range(10)]
    assert winner.provenance["normalisation"] == {"mean": list(digits.mean), "std": list(digits.std)}
    assert winner.provenance["published"] == zoo.published_name(winner.arch) != ""


@pytest.mark.usefixtures("searched")
def test_studies_are_listed_with_what_they_hold(capsys: pytest.CaptureFixture[str]) -> None:
    optuna.create_study(study_name="somebody-else-s", storage="sqlite:///runs/optuna.db")
    assert report.command([]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("made"))
    assert line.split()[:4] == ["made", "search", "5", "1"] and "%" in line
    (fact,) = json_answer(report.command, capsys, ())["studies"]
    assert (fact["name"], fact["kind"], fact["trained"], fact["others"], fact["running"]) == ("made", "search", 5, 1, 0)
    assert f"{100 * fact['best_accuracy']:.2f}%" in line
    (reported,) = json_answer(report.command, capsys, ("made",))["studies"]
    assert (reported["trained"], reported["infeasible"], reported["report"]) == (5, 1, "runs/made/report.html")
    assert reported["best_accuracy"] == fact["best_accuracy"]
    with pytest.raises(NasError, match=r"study 'nade': is not in .*; there are made\. Did you mean 'made'\?"):
        report.command(["study=nade"])


def test_missing_items_are_reported(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(NasError, match=r"^runs/optuna\.db does not exist: run nas\.search"):
        report.command([])
    (tmp_path / "runs").mkdir()
    with pytest.raises(NasError, match=r"study 'made': runs/optuna\.db does not exist"):
        report.command(["study=made"])
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    (tmp_path / "runs" / "made" / "config.yaml").unlink()
    with pytest.raises(NasError, match=r"runs/made/config\.yaml: does not exist"):
        report.command(["study=made"])
    with pytest.raises(NasError, match=r"study\.name 'a/b'"):
        report.command(["study=a/b"])
    for mistake in ("study=3", "storage=3"):
        with pytest.raises(NasError, match=r"^(study|storage) 3: must be text, or null"):
            report.command([mistake])


@pytest.mark.usefixtures("searched")
def test_the_suggested_command_validates_the_proxy(tmp_path: Path) -> None:
    page = made(tmp_path)["report.html"]
    (command,) = re.findall(r"<pre class=\"command\">python -m nas.search (.*study.first=made.*)</pre>", page)
    assert search.command(shlex.split(unescape(command))) == 0
    assert report.command(["study=made"]) == 0
    page = made(tmp_path)["report.html"]
    # The synthetic accuracies are deterministic: all five networks keep their order.
    assert "Kendall tau 1.00" in page and "the same 5 networks in study made-longer (epochs 9 instead of 3)" in page
    assert "study.first=made" not in page
    with pytest.raises(NasError, match=r"study\.first: study 'nobody': is not in"):
        search.command([*SEARCH, "study.name=other", "study.first=nobody"])
    assert not (tmp_path / "runs" / "other").exists()
    with pytest.raises(
        NasError, match=r"study\.first 'made': trial \d+ has width .*, which is not in space 'mobilenet_v1'"
    ):
        search.command(
            [*SEARCH, "study.name=other", "study.first=made", "space.width=[0.6]", "study.seed_published=false"]
        )


def test_help_loads_nothing_heavy() -> None:
    code = """
import sys
from nas.report import command
command(["--help"]), command(["--cfg", "job"])
print(sorted({"torch", "timm", "optuna", "sklearn", "matplotlib", "onnxruntime"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "study=NAME" in done.stdout
