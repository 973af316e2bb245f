"""Tests of ``nas.netadapt`` as a command: results, report, interrupts, other commands."""

from __future__ import annotations

import csv
import io
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from rich.console import Console

import nas
from nas.arch.files import load_spec, load_spec_file
from nas.arch.spec import ArchSpec
from nas.compare import command as compare
from nas.core.errors import NasError
from nas.dashboard import _Notes
from nas.data.images import load_images
from nas.data.sources import DataSettings
from nas.latency.predictors.macs import MacsPredictor
from nas.methods.netadapt.evaluator import NetAdaptEvaluator
from nas.methods.netadapt.results.closing_checks import measure_ends
from nas.methods.netadapt.results.comparison import stored_comparison
from nas.methods.netadapt.results.steps import kept_rows
from nas.methods.netadapt.session import is_netadapt_finished
from nas.methods.netadapt.step_files import StepFiles
from nas.netadapt import command, make_plan
from nas.report import command as report
from nas.study.storage.optuna_private import storage_of
from nas.study.trial_attributes import MeasuredLatency, trial_records
from tests.deadline import DEADLINE_S
from tests.json_output import MS_PER_GMAC, json_answer
from tests.methods.netadapt.tiny import TINY, write_small_spec
from tests.methods.scaling.tiny import Finished, Page
from tests.studies import open_study_file


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A finished adaptation; tests work on copies."""
    folder = tmp_path_factory.mktemp("adapted")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as said:
        patch.chdir(folder)
        write_small_spec(folder)
        assert command([*TINY]) == 0
    return Finished(folder, said.getvalue())


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: None) -> None:
    """Everything is written into an empty folder."""
    monkeypatch.chdir(tmp_path)
    write_small_spec(tmp_path)


@pytest.fixture
def copy(finished: Finished, tmp_path: Path) -> Path:
    """Folder of a copy of the finished study."""
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    return tmp_path / "runs" / "tiny"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def predicted(spec: Path, weights: Path) -> torch.Tensor:
    """Class of each validation image, by timm's model of the files."""
    side = load_spec(spec).resolution_px
    data = load_images(DataSettings(name="digits", subset=100, resolution_px=side))
    model = timm.create_model("nas_arch", spec=str(spec), checkpoint_path=str(weights)).eval()
    mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in (data.mean, data.std))
    with torch.no_grad():
        logits = model((data.val_images / 255 - mean) / std)
    return torch.stack([logits.argmax(1), data.val_labels])


def test_the_tables_are_those_of_the_networks_that_were_kept(finished: Finished) -> None:
    folder = finished.folder / "runs" / "tiny"
    steps = rows_of(folder / "steps.csv")
    assert [row["step"] for row in steps] == ["0", "1", "2"]
    costs = [nas.complexity(load_spec(folder / "steps" / f"{number:03}.yaml")) for number in range(3)]
    for row, cost in zip(steps, costs, strict=True):
        assert float(row["macs_m"]) == pytest.approx(cost.macs / 1e6, abs=1e-6)
        assert float(row["latency_ms"]) == pytest.approx(cost.macs * MS_PER_GMAC / 1e9, abs=1e-6)
        assert float(row["share"]) == pytest.approx(cost.macs / costs[0].macs, abs=1e-3)
        assert 0 < float(row["standard_error"]) < 0.03  # of 360 images: at most 0.5 / sqrt(360)
    assert float(steps[-1]["share"]) <= 0.6 < float(steps[-2]["share"])
    assert all(float(row["loss_error"]) > 0 for row in steps[1:])
    assert float(steps[0]["loss_after"]) == float(steps[1]["loss_before"])

    proposals = rows_of(folder / "proposals.csv")
    trials = rows_of(folder / "trials.csv")
    assert len(proposals) == len(trials) == sum(int(row["proposals"]) for row in steps)
    for step in steps[1:]:
        own = [row for row in proposals if row["step"] == step["step"]]
        joined = {row["change"] for row in own if row["kept"] and row["phase"] == "loss"}
        assert joined == set(step["change"].split("; "))
        for row in own:
            if row["phase"] == "loss" and row["change"] != "unchanged":
                assert float(row["increase"]) == pytest.approx(float(row["loss"]) - float(step["loss_before"]))
                assert float(row["saving"]) > 0
    layers = {row["layer"]: row for row in rows_of(folder / "layers.csv")}
    assert layers["head"]["channels_before"] == "32" and layers["blocks.1.1"]["hidden_before"] == "64"


def test_the_adapted_network_is_a_timm_model_and_its_accuracy_that_of_the_report(finished: Finished) -> None:
    folder = finished.folder / "runs" / "tiny"
    facts = load_spec_file(folder / "adapted.yaml").provenance
    before = predicted(folder / "steps" / "000.yaml", folder / "steps" / "000.safetensors")
    after = predicted(folder / "adapted.yaml", folder / "adapted.safetensors")
    was_right, is_right = before[0] == before[1], after[0] == after[1]
    assert facts["adapted_from"]["accuracy"] == pytest.approx(float(was_right.double().mean()), abs=1e-6)
    assert facts["accuracy"] == pytest.approx(float(is_right.double().mean()), abs=1e-6)
    differences = is_right.double() - was_right.double()
    assert facts["accuracy_change"]["value"] == pytest.approx(float(differences.mean()), abs=1e-6)
    error = float(differences.std(correction=0)) / len(differences) ** 0.5
    assert facts["accuracy_change"]["standard_error"] == pytest.approx(error, abs=1e-6)
    assert facts["accuracy_change"]["paired"] is True
    assert facts["class_names"] == [str(digit) for digit in range(10)] and len(facts["normalisation"]["mean"]) == 1
    for step in range(3):  # any of which may be used in its place
        own = load_spec_file(folder / "steps" / f"{step:03}.yaml").provenance
        assert own == {name: facts[name] for name in ("class_names", "normalisation")}
    assert facts["adapted_from"]["name"] == "small" and facts["target"]["requested"] == "target=0.6"
    assert facts["command"].startswith("python -m nas.netadapt arch=small.yaml") and "torch" in facts["versions"]
    assert facts["macs"] == nas.complexity(load_spec(folder / "adapted.yaml")).macs
    assert "of its predicted latency" in finished.output and "points (on the same images)" in finished.output
    assert "step 1, unchanged: loss 2." in finished.output


def made(folder: Path) -> dict[str, bytes]:
    endings = (".html", ".csv", ".svg", ".png")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in endings}


def test_the_report_is_made_again_from_the_folder_alone(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (copy / "report.html").read_text(encoding="utf-8")
    links = Page(page).links
    files = [link for link in links if not link.startswith(("#", "data:image/png;base64,"))]
    assert {"adapted.yaml", "adapted.safetensors"} <= set(files) and all((copy / link).is_file() for link in files)
    for part in ("Layers before and after", "Step 2:", "The adapted network", 'id="step-2"', "Accuracy by class"):
        assert part in page
    first = made(copy)
    assert {"latency.svg", "latency.png", "macs.svg", "hidden.svg", "channels.svg", "layers.csv"} <= set(first)
    for name in first:
        (copy / name).unlink()
    monkeypatch.setattr("nas.study.session.load_images", None)
    told = json_answer(report, capsys, ("tiny",))["studies"][0]
    assert made(copy) == first
    assert told["kind"] == "netadapt" and told["scored"] > told["trained"] >= 3
    (winner,) = told["winners"]
    assert (winner["name"], winner["steps"]) == ("adapted", 2)
    assert winner["latency_ms"] <= 0.6 * winner["seed_latency_ms"]


def test_a_finished_adaptation_is_known_by_its_folder(copy: Path) -> None:
    assert is_netadapt_finished(make_plan([*TINY]))
    for other in ("target=0.5", "study.name=other", "study.seed=1", "netadapt.step=0.2"):
        rest = [one for one in TINY if one.split("=")[0] != other.split("=")[0]]
        assert not is_netadapt_finished(make_plan([*rest, other]))
    for missing in ("seed.yaml", "report.html", "steps/002.yaml"):
        (copy / missing).rename(copy / "away")
        assert not is_netadapt_finished(make_plan([*TINY]))
        (copy / "away").rename(copy / missing)


def test_it_stands_in_lists_comparisons_and_the_dashboard(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report([]) == 0
    assert "netadapt" in capsys.readouterr().out
    shutil.copytree(copy.parent, "others")
    assert compare([str(copy), "others/tiny"]) == 0
    assert "adapted" in capsys.readouterr().out

    study = open_study_file()
    stream = io.StringIO()
    notes = _Notes("sqlite:///runs/optuna.db", Path("runs"), stream)
    attributes = storage_of(study).get_study_system_attrs(1)
    texts = [value for key, value in attributes.items() if ":note_str:" in key]
    assert any(text.startswith("# tiny: NetAdapt\n\nsmall was shrunk to ") for text in texts)
    assert any("| step | 2, fine-tuning |" in text and "Winner adapted." in text for text in texts)
    assert len(texts) == 1 + len(study.trials)  # the study's own
    storage_of(study).remove_session()
    shutil.rmtree("runs/artifacts")
    notes.write(verbose=True)
    notes.close()
    assert stream.getvalue() == "writing the notes of tiny ...\n"
    trained = [row for row in trial_records(study) if row.accuracy is not None]
    storage_of(study).remove_session()
    drawn = len(list(Path("runs/artifacts").iterdir()))
    assert drawn == 2 * len(trained) + 6  # and four plots, the adapted network, its spec


def test_from_python(copy: Path) -> None:
    result = nas.run_netadapt(*TINY, progress=False)  # which is finished: nothing is trained
    storage_of(result.study).close()
    assert isinstance(result, nas.NetAdaptResult) and not result.interrupted
    (winner,) = result.winners
    assert nas.load_spec(winner.paths["spec"]).arch_id == winner.spec.arch_id and winner.paths["weights"].is_file()
    assert result.seed is not None and result.seed.spec.arch_id == nas.load_spec("small.yaml").arch_id
    assert result.target == pytest.approx(0.6 * result.seed.latency_ms, abs=1e-6)
    assert winner.latency_ms <= result.target and len(result.steps) == 3 and result.measure == "latency_ms"
    again = nas.load_study("tiny")
    storage_of(again.study).close()
    assert again.winners == result.winners
    with pytest.raises(NasError, match="set one of target="):
        nas.run_netadapt(arch="small.yaml", target=0.5, target_ms=2)
    with pytest.raises(NasError, match=r"nas\.save_spec\(spec, path\) writes one"):
        nas.run_netadapt(arch=nas.published("mixnet_s"))


Measured = list[MeasuredLatency]


def busy(_: Sequence[ArchSpec]) -> Measured:
    raise NasError("other programs used 1.9 cores.")


def impatient(_: Sequence[ArchSpec]) -> Measured:
    raise KeyboardInterrupt


def slow(archs: Sequence[ArchSpec]) -> Measured:
    latencies = (2.0, 1.3)
    return [MeasuredLatency(one, 0.2, None, 0.1) for one, _ in zip(latencies, archs, strict=True)]


def test_latency_is_measured_at_the_end_and_costs_no_result(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = open_study_file()

    def said_with(measure: Any) -> str:
        """What is printed when the two networks are measured by ``measure``."""
        rows = kept_rows(study, trial_records(study))
        session: Any = SimpleNamespace(measure=measure, files=StepFiles(folder=copy), predictor=MacsPredictor(30.0))
        measure_ends(session, study, rows[0], rows[-1], Console())
        return capsys.readouterr().out.removeprefix(
            "measuring the latency of the seed network and the adapted one ...\n"
        )

    assert said_with(None) == ""
    assert said_with(busy) == "latency was not measured: other programs used 1.9 cores.\n"
    assert said_with(impatient) == "latency was not measured: interrupted; the same command measures it\n"
    monkeypatch.setattr("nas.methods.netadapt.session.make_measurer", lambda *_: slow)
    assert command([*TINY]) == 0
    said = capsys.readouterr().out
    # 1.3 / 2 with relative errors 0.1 / 2 and 0.1 / 1.3
    assert "Measured latency: 2.000 ± 0.100 ms before, 1.300 ± 0.100 ms after, 65.0 ± 6.0%." in said
    assert "As measured the adapted network has 65.0 ± 6.0%" not in said  # within the error of the target, 60%
    latency = load_spec_file(copy / "adapted.yaml").provenance["latency"]
    assert (latency["measured_ms"], latency["measured_standard_error_ms"]) == (1.3, 0.1)
    assert report(["tiny"]) == 0
    page = (copy / "report.html").read_text(encoding="utf-8")
    assert "Latency as predicted and as measured" in page and "1.300" in page
    capsys.readouterr()
    assert said_with(busy) == ""  # it is not measured twice
    storage_of(study).remove_session()


def test_an_interrupt_leaves_a_report_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> Iterator[None]:
        os.kill(os.getpid(), signal.SIGTERM)  # treated as Ctrl-C
        time.sleep(DEADLINE_S)
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(NetAdaptEvaluator, "evaluate", stop)
        assert command([*TINY]) == 130
    said = capsys.readouterr().out
    assert "Unfinished: 0 trials ended. The seed network small has no accuracy yet" in said
    assert "stopped; go on with: python -m nas.netadapt arch=small.yaml target=0.6" in said
    assert "No network has an accuracy yet." in Path("runs/tiny/report.html").read_text(encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(NetAdaptEvaluator, "scores", stop)
        assert command([*TINY]) == 130
    said = capsys.readouterr().out
    assert "no step was taken yet. Its validation accuracy is " in said and "stopped; go on with" in said
    page = Path("runs/tiny/report.html").read_text(encoding="utf-8")
    assert "The seed network</h2>" in page and not Path("runs/tiny/adapted.yaml").exists()
    assert report(["tiny"]) == 0
    result = nas.load_study("tiny")
    storage_of(result.study).close()
    assert result.interrupted and [one.name for one in result.winners] == ["seed network"]


def test_the_comparison_by_image_is_stored_with_the_networks_that_it_is_of(finished: Finished) -> None:
    study = open_study_file(finished.folder)
    rows = kept_rows(study, trial_records(study))
    assert stored_comparison(study, rows[0], rows[-1]) is not None
    assert stored_comparison(study, rows[0], rows[1]) is None
    storage_of(study).remove_session()
