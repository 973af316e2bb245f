"""Tests of a search's baselines: their training, what is stored and resumed, errors, and where they are shown."""

from __future__ import annotations

import csv
import html
import itertools
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import pytest
import torch
import yaml
from huggingface_hub import constants
from optuna_dashboard import get_note
from safetensors.torch import load_file, save_file

import nas
from nas import report
from nas.arch.files import load_spec_file, save_spec
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.cli.hydra_config import compose_config
from nas.core.errors import NasError
from nas.data.images import load_images
from nas.data.sources import DataSettings
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.estimators.proxy.settings import ProxySettings
from nas.methods.search import session as search_session
from nas.methods.search.baselines.records import baseline_records
from nas.methods.search.trials.evaluated_file import read_evaluated_file
from nas.model.build import build
from nas.model.weights import random_state_dict
from nas.search import command
from nas.study import session as study_session
from nas.training.recipe import RecipeSettings
from nas.training.run import TrainingRun
from tests.json_output import json_answer
from tests.methods.search.interrupts import interrupt_training
from tests.studies import open_study_file
from tests.study.fakes import MS_PER_GMAC, Stopwatch, mobilenet_v1

MEAN, STD = 0.25, 0.5  # of the weights' images, other than those of digits
BASELINE: Final = "study.baselines=[own.yaml]"
SEARCH: Final = (
    "space=mobilenet_v1", "space.width=[0.25]", "latency=macs", f"latency.ms_per_gmac={MS_PER_GMAC}", "estimator=proxy",
    "data=digits", "data.subset=100", "proxy=tiny", "proxy.epochs=2", "study.n_trials=2", "study.seed_published=false",
    "study.name=tiny",
)  # fmt: skip


def network(name: str = "own") -> ArchSpec:
    stem, head = StemSpec(channels=8), HeadSpec(channels=16)
    blocks = [["ds_r1_k3_s1_e1_c8"], ["ir_r1_k3_s2_e3_c16"]]
    return ArchSpec.from_strings(name, blocks, stem=stem, head=head, classes=10, in_channels=1, resolution_px=24)


def write_weights(seed: int = 1) -> None:
    facts = {"class_names": list("0123456789"), "normalisation": {"mean": [MEAN], "std": [STD]}}
    save_spec(network(), "own.yaml", facts)
    save_file(random_state_dict(network(), seed), "own.safetensors")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a network and its weights."""
    monkeypatch.chdir(tmp_path)
    write_weights()
    return tmp_path


def correct_of(spec: str | Path, weights: Path) -> torch.Tensor:
    """Validation digits that a stored network classifies correctly, computed without the house's loops."""
    file = load_spec_file(spec)
    facts, side_px = file.provenance["normalisation"], file.arch.resolution_px
    data = load_images(DataSettings(subset=100, resolution_px=8)).resized(side_px)
    model = build(file.arch).eval()
    model.load_state_dict(load_file(weights))
    pixels = (data.val_images.float() / 255 - facts["mean"][0]) / facts["std"][0]
    with torch.no_grad():
        return model(pixels).argmax(1) == data.val_labels


def test_a_baseline_stands_beside_the_winners_in_files_terminal_report_and_api(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Stopwatch(2 * MS_PER_GMAC)
    monkeypatch.setattr(search_session, "make_measurer", lambda *_: watch)
    assert command([*SEARCH, BASELINE]) == 0
    said, runs = capsys.readouterr().out, folder / "runs" / "tiny"
    result = nas.load_study("tiny")
    assert isinstance(result, nas.SearchResult)
    (one,) = result.baselines
    assert (one.name, one.network, one.epochs) == ("B1", "own.yaml", 2) and one.cpu_s > 0
    # Its figures are those of the written weights, with the normalisation of the weights it began with.
    facts = load_spec_file(one.paths["spec"]).provenance
    assert facts["normalisation"] == {"mean": [MEAN], "std": [STD]}
    correct = correct_of(one.paths["spec"], one.paths["weights"])
    assert one.accuracy == int(correct.sum()) / len(correct)
    assert one.standard_error == pytest.approx(math.sqrt(one.accuracy * (1 - one.accuracy) / 360), abs=1e-6)
    # Priced at its own side, and measured in turn with the winners.
    assert one.latency_ms == pytest.approx(MS_PER_GMAC * nas.complexity(network()).macs / 1e9, abs=1e-6)
    assert one.measured_ms == pytest.approx(2 * one.latency_ms, rel=1e-3)
    assert watch.timed == [*(winner.spec.arch_id for winner in result.winners), network().arch_id]
    # Winner and baseline on the same images.
    (record,) = baseline_records(open_study_file())
    for winner in result.winners:
        theirs = correct_of(winner.paths["proxy_spec"], winner.paths["proxy_weights"])
        expected = (int((theirs & ~correct).sum()), int((correct & ~theirs).sum()))
        assert tuple(record.paired[winner.spec.arch_id]) == expected

    (verdict,) = result.baseline_verdicts
    assert "B1 (own.yaml, fine-tuned for 2 epochs)" in verdict
    written = (runs / "report.html").read_text(encoding="utf-8")
    page, note = html.unescape(written), get_note(open_study_file())
    assert "Winners and baselines" in note and "| **B1** | own.yaml |" in note
    for text in (said, page):
        assert verdict in text and "whole networks that began with pretrained weights" in text
    assert "winners of tiny, and baselines" in said and "fine-tuning 1 baseline ...\n" in said
    assert 'id="baseline-B1"' in page and 'data-row="baseline-B1"' in page and "B1, baseline own.yaml" in page
    with (runs / "trials.csv").open(encoding="utf-8", newline="") as stream:
        *_, row = csv.DictReader(stream)
    assert (row["number"], row["outcome"], row["reason"]) == ("", "baseline", "own.yaml")
    assert float(row["accuracy"]) == one.accuracy
    (told,) = json_answer(report.command, capsys, ("tiny",))["studies"]
    assert told["baselines"][0]["accuracy"] == one.accuracy and told["conclusion"] == {"baselines": [verdict]}
    assert len(told["winners"]) == len(result.winners)
    assert (runs / "report.html").read_text(encoding="utf-8") == written  # rendered again
    # The file of trials is read again by a search that learns from it: a baseline is no candidate.
    assert len(read_evaluated_file(runs / "trials.csv", mobilenet_v1()).evaluations) == 2


def test_it_is_added_to_a_finished_study_and_trained_again_for_other_weights_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(list(SEARCH)) == 0
    monkeypatch.setattr(ProxyEvaluator, "evaluate", None)  # no network of the search is trained again
    begun = interrupt_training(monkeypatch, at=0)
    assert command([*SEARCH, BASELINE]) == 0 and begun == [1, 2]
    settings = yaml.safe_load((folder / "runs" / "tiny" / "config.yaml").read_text(encoding="utf-8"))
    assert settings["study"]["baselines"] == ["own.yaml"]
    (first,) = nas.load_study("tiny").baselines
    assert command([*SEARCH, BASELINE]) == 0 and begun == [1, 2]
    write_weights(seed=2)
    assert command([*SEARCH, BASELINE]) == 0 and begun == [1, 2, 1, 2]
    (second,) = nas.load_study("tiny").baselines
    assert second.name == "B1" and asdict(second) != asdict(first)


def test_interrupted_it_resumes_with_the_weights_of_an_unbroken_training(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fast = (*SEARCH, BASELINE, "study.n_trials=1", "proxy.checkpoint_s=0")
    assert command(list(fast)) == 0
    unbroken = nas.load_study("tiny").baselines[0]
    expected = load_file(unbroken.paths["weights"])
    (folder / "runs").rename(folder / "before")
    begun = interrupt_training(monkeypatch, at=4)  # two of the trial's network, two of the baseline
    command(list(fast))
    said = capsys.readouterr().out
    assert "baselines were not all fine-tuned: interrupted; the same command goes on" in said
    assert (folder / "runs" / "tiny" / "winners" / "winner_1.yaml").is_file()  # the results are there nevertheless
    assert nas.load_study("tiny").baselines == ()
    assert command(list(fast)) == 0 and begun == [1, 2, 1, 2, 2]
    resumed = nas.load_study("tiny").baselines[0]
    found = load_file(resumed.paths["weights"])
    assert resumed.accuracy == unbroken.accuracy
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
    assert {path.suffix for path in resumed.paths["weights"].parent.iterdir()} == {".yaml", ".safetensors"}


def test_a_training_that_fails_is_told_in_a_line_and_costs_no_result(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps, original = itertools.count(1), TrainingRun._train_step

    def train_step(run: TrainingRun, batch: Any) -> torch.Tensor:
        is_baseline = isinstance(run.settings, RecipeSettings)
        return original(run, batch) * (math.nan if is_baseline and next(steps) == 2 else 1.0)

    monkeypatch.setattr(TrainingRun, "_train_step", train_step)
    assert command([*SEARCH, BASELINE, "study.n_trials=1"]) == 0
    said = capsys.readouterr().out
    assert "baseline own.yaml was not fine-tuned: loss became nan at epoch 1, step 2" in said
    assert (folder / "runs" / "tiny" / "report.html").is_file() and nas.load_study("tiny").baselines == ()


@pytest.mark.parametrize(
    ("baselines", "message"),
    [
        ("[nope]", r"^study\.baselines 'nope': neither a published network nor timm/NAME nor a \.yaml spec file"),
        ("[timm/nope]", r"^study\.baselines 'timm/nope': timm has no such network\."),
        ("[bare.yaml]", r"^study\.baselines 'bare\.yaml': has no weights beside it \(bare\.safetensors\)"),
        ("[other.yaml]", r"^study\.baselines 'other\.yaml': weights 'other\.safetensors': .* tensors do not fit"),
        ("[own.yaml,own.yaml]", r"^study\.baselines: 'own\.yaml' is given twice; remove one\.$"),
        ("own.yaml", r"^study\.baselines 'own\.yaml': must be a list of names of networks, such as \[own\.yaml\]\.$"),
        ("[timm/mobilenetv3_small_050]", r"^study\.baselines 'timm/mobilenetv3_small_050': weights of .* save https://"),
        ("[mobilenetv1_025]", r"^study\.baselines 'mobilenetv1_025': timm has no pretrained weights of it; give timm/"),
    ],
)  # fmt: skip
def test_mistakes_are_named_before_images_are_loaded(
    baselines: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(study_session, "load_images", None)
    save_spec(network("bare"), "bare.yaml")
    save_spec(network("other"), "other.yaml")
    wrong = random_state_dict(network("other"), 0)
    save_file({**wrong, "conv_stem.weight": torch.zeros(1, 1, 3, 3)}, "other.safetensors")
    with pytest.raises(NasError, match=message) as raised:
        command([*SEARCH, f"study.baselines={baselines}"])
    assert "\n" not in str(raised.value)


def test_the_recipe_is_that_of_the_command_for_full_training() -> None:
    proxy = ProxySettings(epochs=3, batch_size=32, threads=2)
    config = compose_config("train", ["recipe=finetune", "recipe.epochs=3", "recipe.batch_size=32", "recipe.threads=2"])
    assert asdict(RecipeSettings.fine_tuning(proxy)) == asdict(RecipeSettings(**config["recipe"]))
