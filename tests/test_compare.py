"""Tests of nas.compare: networks, studies, table, JSON, CSV, page."""

from __future__ import annotations

import csv
import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import optuna
import pytest
from rich.console import Console

from nas.arch import zoo
from nas.arch.files import dump_spec
from nas.arch.heads import detector, segmenter
from nas.compare import command
from nas.core import tables
from nas.core.errors import NasError
from nas.study.objective import Accuracy
from nas.study.storage.opening import open_storage, open_study
from nas.study.trial_attributes import trial_records
from nas.study.trial_record import Outcome
from tests.json_output import MS_PER_GMAC, json_answer
from tests.study.fakes import PARETO, FakeEvaluator, make_search, small_space

SEARCH = {
    "space.name": "small", "data.name": "digits", "proxy.epochs": 3, "objective.kind": "pareto",
    "latency.device": "macs-1",
}  # fmt: skip


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in an empty folder."""
    monkeypatch.chdir(tmp_path)


def searched(name: str, *, runs_dir: str = "runs", seed: int = 0, trials: int = 6, **identity: Any) -> optuna.Study:
    """Create a search with synthetic accuracies; some trials are infeasible.

    In the database of ``runs_dir``.
    """
    Path(runs_dir).mkdir(exist_ok=True)
    storage = open_storage(f"sqlite:///{runs_dir}/optuna.db")
    study = open_study(storage, name, PARETO, {**SEARCH, **identity})
    limits = {"latency_ms": 0.016}
    make_search(small_space(), FakeEvaluator(epochs=3), study=study, n_trials=trials, seed=seed, limits=limits).run()
    return study


def compared_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    return json_answer(command, capsys, (*arguments, "latency=macs"))


def points(study: optuna.Study) -> list[tuple[float, float]]:
    return [
        (row.accuracy, row.latency_ms)
        for row in trial_records(study)
        if row.outcome is Outcome.TRAINED and row.accuracy is not None and row.latency_ms is not None
    ]


def test_networks_are_priced_alike_and_held_against_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    found = compared_json(capsys, "mixnet_s", "mobilenetv3_large_100")["networks"]
    assert [one["name"] for one in found] == ["mixnet_s", "mobilenetv3_large_100"]
    # Parameters and MACs as in test_complexity, against timm and the papers.
    assert [one["params"] for one in found] == [4_134_606, 5_483_032]
    assert found[0]["latency_ms"] == pytest.approx(239_173_360 * MS_PER_GMAC / 1e9)
    assert (found[0]["macs_ratio"], found[0]["latency_ms_ratio"]) == (1.0, 1.0)
    for name in ("macs", "params", "latency_ms", "peak_memory_bytes"):
        assert found[1][f"{name}_ratio"] == pytest.approx(found[1][name] / found[0][name])


def test_accuracies_come_with_where_they_are_from(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arch = replace(zoo.get("mixnet_s"), name="winner_1", classes=10)
    for study in ("one", "two"):
        provenance = {"study": study, "data": "digits", "proxy_accuracy": 0.875}
        (tmp_path / f"{study}.yaml").write_text(dump_spec(arch, provenance), encoding="utf-8")
    data = compared_json(capsys, "one.yaml", "two.yaml", "mixnet_s")
    assert [one["name"] for one in data["networks"]] == ["one/winner_1", "two/winner_1", "mixnet_s"]
    assert [one["accuracy"] for one in data["networks"]] == [0.875, 0.875, None]
    assert data["networks"][0]["accuracy_of"] == "proxy on digits, study one"
    remarks = " ".join(data["remarks"])
    assert "accuracies of different studies" in remarks and "classes differ (10, 1000)" in remarks


def test_scores_of_other_tasks_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name, make in (("boxes", detector), ("masks", segmenter)):
        arch = make(zoo.get("mobilenetv3_small_050"), classes=3)
        provenance = {"study": name, "data": arch.task, "proxy_accuracy": 0.25}
        (tmp_path / f"{name}.yaml").write_text(dump_spec(arch, provenance), encoding="utf-8")
    data = compared_json(capsys, "boxes.yaml", "masks.yaml", "mixnet_s")
    assert [one["score"] for one in data["networks"]] == ["map", "miou", "accuracy"]
    assert sum("without post-processing" in remark for remark in data["remarks"]) == 2
    assert command(["boxes.yaml", "masks.yaml", "latency=macs"]) == 0
    text = capsys.readouterr().out
    assert "25.00% AP" in text and "25.00% mIoU" in text


def test_studies_without_trials_have_the_score_of_their_task(capsys: pytest.CaptureFixture[str]) -> None:
    task: dict[str, Any] = {"objective.task": "segmentation"}
    searched("one", trials=2, **task)
    open_study(open_storage("sqlite:///runs/optuna.db"), "two", PARETO, {**SEARCH, **task})
    data = compared_json(capsys, "one", "two")
    assert [one["score"] for one in data["studies"]] == ["miou", "miou"]
    assert any("to the best mIoU and latency of all" in remark for remark in data["remarks"])


def test_networks_of_equal_name_are_labelled_as_given(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(dump_spec(replace(zoo.get("mixnet_m"), name="mixnet_s")), encoding="utf-8")
    assert [one["name"] for one in compared_json(capsys, "mixnet_s", "mine.yaml")["networks"]] == [
        "mixnet_s",
        "mine.yaml",
    ]


def test_studies_stand_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    studies = [searched("one"), searched("two", seed=3)]
    data = compared_json(capsys, "one", "two")
    for record, study in zip(data["studies"], studies, strict=True):
        rows = trial_records(study)
        assert (record["name"], record["kind"]) == (study.study_name, "search")
        outcomes = [outcome for outcome in Outcome if outcome is not Outcome.BASELINE]
        assert {name: record[name] for name in outcomes} == {
            name: sum(row.outcome is name for row in rows) for name in outcomes
        }
        assert record["baselines"] == [] and record["conclusion"] is None
        assert record["best_accuracy"] == max(high for high, _ in points(study))
        # A winner has nobody that is at least as accurate and as fast, and better in one of them.
        best = {
            (high, slow)
            for high, slow in points(study)
            if not any((b >= high and s <= slow and (b, s) != (high, slow)) for b, s in points(study))
        }
        assert {(one["accuracy"], one["latency_ms"]) for one in record["winners"]} == best
    assert data["studies"][0]["infeasible"] > 0


def covered(dominating: list[tuple[float, float]], everything: list[tuple[float, float]]) -> float:
    """Dominated share of the rectangle around ``everything``, by grid cells.

    An independent computation of the hypervolume.
    """
    highs, slows = (sorted({point[axis] for point in everything}) for axis in (0, 1))
    area = 0.0
    for (low, high), (fast, slow) in itertools.product(itertools.pairwise(highs), itertools.pairwise(slows)):
        if any(accuracy >= high and latency_ms <= fast for accuracy, latency_ms in dominating):
            area += (high - low) * (slow - fast)
    return area / ((highs[-1] - highs[0]) * (slows[-1] - slows[0]))


def test_fronts_are_measured_from_one_point(capsys: pytest.CaptureFixture[str]) -> None:
    one, two = points(searched("one", trials=6)), points(searched("two", seed=3, trials=6))
    data = compared_json(capsys, "one", "two")
    expected = [covered(front, one + two) for front in (one, two)]
    assert [record["hypervolume"] for record in data["studies"]] == pytest.approx(expected)
    lowest, slowest = min(high for high, _ in one + two), max(slow for _, slow in one + two)
    assert data["reference"] == {"accuracy": lowest, "latency_ms": slowest}


@pytest.mark.parametrize(
    ("identity", "remark"),
    [
        ({"latency.device": "macs-2"}, "latencies are not comparable:"),
        ({"data.name": "cifar10"}, "accuracies are not comparable, these settings differ: data.name digits, cifar10"),
        ({"proxy.epochs": 9}, "accuracies are not comparable, these settings differ: proxy.epochs 3, 9"),
    ],
)
def test_incomparable_studies_are_reported_and_have_no_hypervolume(
    capsys: pytest.CaptureFixture[str], identity: dict[str, Any], remark: str
) -> None:
    searched("one", trials=1)
    searched("two", trials=1, **identity)
    data = compared_json(capsys, "one", "two")
    assert [record["hypervolume"] for record in data["studies"]] == [None, None]
    assert remark in data["remarks"] and data["differing"] == list(identity)


def test_a_setting_that_one_kind_of_study_does_not_know_is_off_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    searched("search", trials=1, **{"latency.refine": False})
    searched("grid", trials=1)
    assert compared_json(capsys, "search", "grid")["differing"] == []


def test_studies_of_other_folders_are_named_by_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for folder in ("here", "there"):
        searched("same", runs_dir=folder, trials=1)
        (tmp_path / folder / "same").mkdir()
    found = compared_json(capsys, "here/same", str(tmp_path / "there" / "same"))["studies"]
    assert [one["name"] for one in found] == ["here/same", "there/same"]


class Table(HTMLParser):
    """Cells of a page's rows, and every address in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.addresses: list[str] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self._inside = tag in ("td", "th", "button") if tag != "br" else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag not in ("td", "th", "tr")


def test_table_file_and_page_say_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    names = ("mixnet_s", "mixnet_m", "mobilenetv3_small_100")
    assert command([*names, "latency=macs", "csv=out.csv", "html=sub/out.html"]) == 0
    out = capsys.readouterr().out
    assert "written: out.csv\nwritten: sub/out.html\n" in out
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    assert [(line["name"], int(line["params"])) for line in lines] == [
        (one["name"], one["params"]) for one in compared_json(capsys, *names)["networks"]
    ]
    page = (tmp_path / "sub" / "out.html").read_text(encoding="utf-8")
    table = Table(page)
    shown = [line.split() for line in out.splitlines()[2:5]]
    assert [[cell for cell in row] for row in table.rows[1:]] == shown
    assert table.addresses == [] and not re.search(r"https?://", page)


def test_a_hostile_name_is_text_in_the_page(tmp_path: Path) -> None:
    arch = replace(zoo.get("mixnet_s"), name="<script>alert(1)</script>")
    (tmp_path / "bad.yaml").write_text(dump_spec(arch), encoding="utf-8")
    assert command(["mixnet_s", "bad.yaml", "latency=macs", "html=out.html"]) == 0
    assert "<script>alert" not in (tmp_path / "out.html").read_text(encoding="utf-8")


def test_80_columns_suffice(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(tables, "Console", lambda: Console(width=80, color_system=None, force_terminal=True))
    searched("a-search-of-a-long-name-and-more", trials=1)
    searched("another", trials=1)
    for names in (["a-search-of-a-long-name-and-more", "another"], ["mixnet_s", "mobilenetv3_large_minimal_100"]):
        assert command([*names, "latency=macs"]) == 0
        table = capsys.readouterr().out.partition("\n\n")[0]
        assert max(map(len, table.splitlines())) <= 80
        assert all(any(line.startswith(f"{name} ") for line in table.splitlines()) for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], r"nothing to compare: name two or more networks, or studies"),
        (["mixnet_s"], r"nothing to compare 'mixnet_s' with: name two or more"),
        (["mixnet_s", "mixnet_s"], r"nothing to compare 'mixnet_s' with"),
        (["names=mixnet_s"], r"names 'mixnet_s': must be a list"),
        (["mixnet_s", "one"], r"'mixnet_s' is a network and 'one' is not: compare networks with networks"),
        (["mixnet_s", "mixnet_x"], r"'mixnet_x' is not.*Did you mean 'mixnet_"),
        (["mixnet_x", "one"], r"'mixnet_x': runs/optuna\.db does not exist.*Did you mean 'mixnet_"),
        (["mixnet_s", "gone.yaml"], r"cannot read spec file 'gone\.yaml'"),
        (["mixnet_s", "mixnet_m", "csv=out.txt"], r"csv 'out\.txt': must be the path of a file that ends in \.csv"),
        (["mixnet_s", "mixnet_m", "html=/proc/x/out.html"], r"^html '/proc/x': cannot be written to"),
        (["one", "two", "storage=3"], r"storage 3: must be text, or null"),
        (["mixnet_s", "mixnet_m", "jsn=true"], r"unknown key 'jsn'.* Did you mean 'json'"),
        (["mixnet_s", "mixnet_m", "--wide"], r"unknown option '--wide'"),
    ],
)
def test_user_errors_are_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(NasError, match=message) as caught:
        command(arguments)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_folders_of_trainings_are_no_studies(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("format: nas.training/1\n")
    with pytest.raises(
        NasError, match=r"'nas\.training/1', not of a study; give .* files in theirs, such as best\.yaml"
    ):
        command([f"{tmp_path}/a", f"{tmp_path}/b"])


def test_an_unknown_study_lists_the_existing_ones() -> None:
    searched("one", trials=1)
    with pytest.raises(NasError, match=r"study 'onne': is not in .*; there are one\. Did you mean 'one'\?"):
        command(["one", "onne"])


def test_help_and_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["a", "b", "--help"]) == 0
    assert "html=compare.html" in capsys.readouterr().out
    assert command(["mixnet_s", "--cfg", "job", "json=true"]) == 0
    assert "json: true" in capsys.readouterr().out


def test_a_grid_answers_as_its_report_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither the baseline nor what was lucky with its only seed is the answer."""
    (tmp_path / "runs").mkdir()
    trained = {"baseline": (0.99, 0.98), "1/1/1.4": (0.97,), "1/1.4/1": (0.7, 0.71), "2/1/1": (0.8, 0.82)}
    for name in ("one", "two"):
        study = open_study(
            open_storage("sqlite:///runs/optuna.db"), name, Accuracy(), {"phi": 1.0, "rounding.divisor": 8}
        )
        for label, seed, accuracy in ((key, *one) for key, values in trained.items() for one in enumerate(values)):
            known = {"network": label, "seed": seed, "outcome": "trained", "accuracy": accuracy, "latency_ms": 2.0}
            study.add_trial(optuna.trial.create_trial(value=accuracy, user_attrs={**known, "arch_id": label}))
    for record in compared_json(capsys, "one", "two")["studies"]:
        (winner,) = record["winners"]
        assert (winner["name"], winner["seeds"], winner["accuracy"]) == ("2/1/1", 2, pytest.approx(0.81))
