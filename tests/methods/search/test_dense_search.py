"""Tests of searches for segmenters and detectors: settings, screening, trainings, files, report, resuming."""

from __future__ import annotations

import csv
import html
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from nas import report
from nas.arch.complexity import complexity
from nas.arch.files import load_spec_file
from nas.arch.heads import segmenter
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.data.dense import DenseDataSettings
from nas.estimators.base import Evaluation
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.search import command, make_plan
from tests.methods.search.tiny_masks import write_masks
from tests.study.fakes import accuracy_of

TINY: Final = (
    "space=mobilenet_v1", "space.width=[0.25,0.3,0.4,0.5,0.6,0.75]", "space.resolution_px=64", "latency=macs",
    "objective.task=segmentation", "data.root=masks", "proxy.resolution_px=32", "proxy.width_multiplier=0.5",
    "proxy.epochs=1", "proxy.batch_size=6", "study.name=tiny",
)  # fmt: skip
FOLDER: Final = Path("runs/tiny")


@pytest.fixture(autouse=True)
def in_a_folder_with_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_masks(Path("masks"))


def trials() -> list[dict[str, str]]:
    with (FOLDER / "trials.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def genotype_of(row: Mapping[str, str], parameters: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    return {name: next(value for value in values if str(value) == row[name]) for name, values in parameters.items()}


def invent_trainings(monkeypatch: pytest.MonkeyPatch, interrupted: int | None = None) -> None:
    """Trainings take no time, and end with invented scores; Ctrl-C in the one ``interrupted``, from 1."""
    trainings = itertools.count(1)

    def evaluate(_: ProxyEvaluator, arch: ArchSpec, **__: object) -> Evaluation:
        if next(trainings) == interrupted:
            raise KeyboardInterrupt
        miou = accuracy_of(arch)
        return Evaluation(
            accuracy=miou,
            loss=1 - miou,
            cpu_s=1.0,
            duration_s=1.0,
            standard_error=0.0123,
            class_scores=(miou, None),
            class_errors=(0.02, None),
            constant_accuracy=0.25,
            metrics={"pixel_accuracy": 0.5},
        )

    monkeypatch.setattr(ProxyEvaluator, "evaluate", evaluate)


def test_a_task_selects_its_images_and_proxy_unless_others_are_given() -> None:
    plan = make_plan(["space=mobilenet_v1", "objective.task=segmentation", "data.root=masks"])
    assert isinstance(plan.data, DenseDataSettings) and plan.data.name == plan.task == "segmentation"
    assert plan.proxy.resolution_px == plan.data.proxy_resolution_px and plan.name == "mobilenet_v1-segmentation"
    given = make_plan(["space=mobilenet_v1", "objective.task=segmentation", "data.root=masks", "proxy=tiny"])
    assert given.proxy.epochs == make_plan(["space=mobilenet_v1", "proxy=tiny"]).proxy.epochs
    assert plan.identity("cpu")["objective.task"] == "segmentation"


def test_a_search_of_classifiers_has_the_identity_of_older_versions() -> None:
    identity = make_plan(["space=mobilenet_v1"]).identity("cpu")
    assert "objective.task" not in identity and identity["data.name"] == "mnist_5k"
    assert not [name for name in identity if name.startswith("head")]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["estimator.zero_cost=[snip]"], "estimator.zero_cost snip: needs one class per image"),
        (["study.baselines=[mobilenetv3_small_100]"], "study.baselines: pretrained networks are fine-tuned as"),
        (["head.c3_scale=0.1"], "head.c3_scale 0.1: does not apply to segmentation"),
        (["head.filters=64", "estimator=supernet"], "head.filters: supernets have the head as published"),
        (["data=digits"], "data.name 'digits': is for classification, objective.task is segmentation"),
        (["objective.task=detection", "data=segmentation"], "data.name 'segmentation': is for segmentation"),
        (["objective.task=pose"], "objective.task 'pose'"),
    ],
)
def test_what_does_not_fit_a_task_is_refused_in_one_line(given: list[str], said: str) -> None:
    words = ["space=mobilenet_v1", "objective.task=segmentation", "data.root=masks"]
    if "data=digits" in given:
        words = words[:2]
    with pytest.raises(NasError, match=re.escape(said)) as caught:
        make_plan([*words, *given])
    assert "\n" not in str(caught.value)


def test_images_with_masks_are_for_searches_of_segmenters() -> None:
    with pytest.raises(NasError, match=r"data\.name 'segmentation': is for segmentation, objective\.task is class"):
        make_plan(["space=mobilenet_v1", "data=segmentation", "data.root=masks"])


def test_candidates_are_counted_and_stored_with_their_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed search resumes; costs are those of the space's network with LR-ASPP, and winners are such specs."""
    words = [*TINY, "estimator=proxy", "study.n_trials=3", "study.seed_published=false"]
    invent_trainings(monkeypatch, interrupted=2)
    command(list(words))
    invent_trainings(monkeypatch)
    assert command(list(words)) == 0
    rows = [row for row in trials() if row["outcome"] == "trained"]
    assert len(rows) == 3 and len({row["arch_id"] for row in rows}) == 3
    space = make_plan(words).space
    for row in rows:
        arch = segmenter(space.decode(genotype_of(row, space.parameters), classes=2, in_channels=3), 2)
        assert row["arch_id"] == arch.arch_id
        assert float(row["macs_m"]) == pytest.approx(complexity(arch).macs / 1e6, abs=1e-5)
        assert row["standard_error"] == "0.0123" and row["majority_accuracy"] == "0.25"
    winner = load_spec_file(FOLDER / "winners" / "winner_1.yaml")
    assert winner.arch.task == "segmentation" and winner.arch.classes == 2 and winner.arch.resolution_px == 64
    assert winner.provenance["score"] == "miou" and winner.provenance["class_names"] == ["dark", "bright"]
    page = (FOLDER / "report.html").read_text(encoding="utf-8")
    assert "mIoU over latency" in page and "which comes on top" in page
    (FOLDER / "report.html").unlink()
    assert report.command(["study=tiny"]) == 0 and (FOLDER / "report.html").read_text(encoding="utf-8") == page


def test_settings_of_the_head_are_those_of_all_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    invent_trainings(monkeypatch)
    words = [*TINY, "study.n_trials=2", "head.filters=48", "head.halve=true", "estimator=proxy"]
    plan = make_plan(words)
    assert plan.identity("cpu")["head.filters"] == 48
    command(words)
    for row in trials():
        trunk = plan.space.decode(genotype_of(row, plan.space.parameters), classes=2, in_channels=3)
        assert row["arch_id"] == segmenter(trunk, 2, halve=True, filters=48).arch_id
    with pytest.raises(NasError, match=r"head\.filters = 48, now it is null"):
        command([*TINY, "study.n_trials=3", "estimator=proxy"])


def test_a_head_that_no_candidate_can_have_is_refused_with_the_settings() -> None:
    with pytest.raises(NasError, match=r"^head\.low_stride 32"):
        make_plan([*TINY, "head.low_stride=32"])


@pytest.mark.parametrize("estimator", ["zero_cost", "supernet"])
def test_a_search_by_scores_trains_segmenters_and_checks_its_estimate(
    estimator: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is invented: proxies of one step are trained, and networks scored."""
    words = [
        *TINY, "estimator.anchors=4", "estimator.finalists=1", "estimator.checks=0", "study.n_trials=5",
        "study.seed_published=false", "estimator.zero_cost_batch_size=8", "estimator.zero_cost=[naswot]",
        f"estimator={estimator}",
    ]  # fmt: skip
    if estimator == "supernet":
        words += ["estimator.supernet.epochs=1", "estimator.supernet.fine_tune_epochs=1"]
    assert command(words) == 0
    rows = trials()
    trained = [row for row in rows if row["outcome"] == "trained"]
    assert len(trained) == 5 and sum(row["outcome"] == "scored" for row in rows) == 1
    assert all(0 <= float(row["accuracy"]) <= 1 and float(row["metric_pixel_accuracy"]) <= 1 for row in trained)
    assert all(float(row["score_naswot"]) > 0 for row in rows)
    if estimator == "supernet":
        assert all(float(row["score_supernet"]) < 0 for row in rows)  # minus the cross entropy
        tuned = load_spec_file(FOLDER / "winners" / "winner_1.yaml").provenance["proxy_fine_tuned"]
        assert 0 < tuned["inherited_error"] < 0.5 and 0 < tuned["standard_error"] < 0.5
    page = html.unescape((FOLDER / "report.html").read_text(encoding="utf-8"))
    found = re.search(r'<p id="summary">(.*?)</p>', page, re.DOTALL)
    assert found is not None and "estimator" in found[1].lower()
    proxy = load_spec_file(FOLDER / "winners" / "winner_1.proxy.yaml")
    assert proxy.arch.task == "segmentation" and len(proxy.provenance["logits_of_ramp"]) == 2


def test_masks_that_changed_since_a_search_began_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*TINY, "estimator=proxy", "study.seed_published=false"]
    invent_trainings(monkeypatch)
    command([*words, "study.n_trials=1"])
    command([*words, "study.n_trials=2"])
    assert "have changed" not in capsys.readouterr().out
    file = next(Path("masks").glob("*_train.npz"))
    with np.load(file) as arrays:
        content = dict(arrays)
    content["masks"] = 1 - content["masks"].clip(max=1)
    np.savez(file, **content)
    command([*words, "study.n_trials=3"])
    said = " ".join(capsys.readouterr().out.split())
    assert "warning: the images of tiny, or their labels, have changed since it was last run" in said


def test_a_single_train_image_is_refused_before_the_first_trial() -> None:
    with pytest.raises(NasError, match=r"data\.root: there is one train image to use"):
        command([*TINY, "estimator=proxy", "data.subset=1", "study.n_trials=1"])
    assert not (FOLDER / "trials.csv").exists()
