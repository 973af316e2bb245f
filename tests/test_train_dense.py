"""Tests of ``nas.train`` for detectors and segmenters: files, resuming, pictures, mistakes."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import nas
from nas import train
from nas.arch.files import load_spec_file, save_spec
from nas.arch.heads import LRASPPHead, SSDLiteHead
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.data.dense import VOID
from nas.methods.full_training.pictures import class_colour, picture_rows
from nas.methods.full_training.results import TrainedDenseNetwork, read_results
from nas.model.build import build
from tests.training.tasks.boxed_images import write_boxed_images
from tests.training.tasks.masked_images import write_masked_images

SHORT: Final = (
    "arch=tiny.yaml", "recipe.batch_size=4", "recipe.epochs=2", "recipe.lr=0.02", "recipe.warmup_epochs=0",
    "recipe.ema=0.5", "recipe.device=cpu", "recipe.loader_workers=0", "run.name=tiny",
)  # fmt: skip
SEGMENT: Final = ("task=segmentation", "data.root=masks", *SHORT)
DETECT: Final = ("task=detection", "data.root=boxes", *SHORT)
RUN: Final = Path("runs/tiny")
TIMES: Final = ("duration_s", "cpu_s", "images_per_cpu_s", "name")


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in a folder with the spec of a tiny network, masks and boxes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)
    blocks = ["ds_r1_k3_s2_e1_c8"], ["ir_r1_k3_s2_e2_c8"], ["ir_r1_k3_s2_e2_c8"], ["ir_r1_k3_s2_e2_c16"]
    spec = ArchSpec.from_strings(
        "tiny", [list(one) for one in blocks], stem=StemSpec(channels=8), head=HeadSpec(channels=16), resolution_px=64
    )
    save_spec(spec, "tiny.yaml", {"study": "mine"})
    write_masked_images(Path("masks"), size=(48, 40))


def run(*words: str) -> None:
    assert train.command(list(words)) == 0


def result(folder: Path = RUN) -> TrainedDenseNetwork:
    found = read_results(folder / "results.json")
    assert isinstance(found, TrainedDenseNetwork)
    return found


def rows(folder: Path = RUN) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as stream:
        return [{name: value for name, value in row.items() if name not in TIMES} for row in csv.DictReader(stream)]


def assert_equal_runs(one: Path, two: Path) -> None:
    assert rows(one) == rows(two)
    for stem in ("last.safetensors", "best.safetensors"):
        before, after = load_file(one / stem), load_file(two / stem)
        assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert result(one).last == result(two).last


def test_a_segmenter_is_trained_and_its_files_tell_all(capsys: pytest.CaptureFixture[str]) -> None:
    run(*SEGMENT)
    out = capsys.readouterr().out
    trained = result()
    assert trained.class_names == ("dark", "bright") and trained.task == "segmentation"
    assert re.search(r"epoch 2 of 2: mIoU \d+\.\d+ ± \d+\.\d+%, loss", out)
    assert re.search(r"mIoU after the last epoch: .* of 7 validation images \(one class at every pixel: \d+", out)
    log = rows()
    assert [row["epoch"] for row in log] == ["1", "2"]
    assert float(log[-1]["miou"]) == pytest.approx(trained.last.accuracy, rel=1e-5)
    assert float(log[-1]["class:bright"]) == pytest.approx(trained.last.class_scores[1], rel=1e-5)
    loaded = load_spec_file(RUN / "last.yaml")
    assert isinstance(loaded.arch.head, LRASPPHead) and loaded.arch.classes == 2
    assert loaded.provenance["class_names"] == ["dark", "bright"] and loaded.provenance["score"] == "miou"
    build(loaded.arch).load_state_dict(load_file(RUN / "last.safetensors"))
    confusion = np.zeros((2, 2))
    for label, predicted, pixels in trained.last.confusion:
        confusion[label, predicted] = pixels
    assert confusion.sum() == 7 * 48 * 39  # without void
    unions = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    assert trained.last.class_scores == pytest.approx(tuple(confusion.diagonal() / unions))


def test_a_detector_is_trained_and_its_files_tell_all(capsys: pytest.CaptureFixture[str]) -> None:
    write_boxed_images(Path("boxes"))
    run(*DETECT, "head.extra_channels=[16]", "head.c3_scale=0.1", "json=true")
    facts = json.loads(capsys.readouterr().out)
    assert facts["task"] == "detection" and {"map50", "map75"} <= facts["last"]["metrics"].keys()
    assert len(facts["last"]["class_scores"]) == len(facts["class_names"]) and 0 <= facts["constant"] <= 1
    loaded = load_spec_file(RUN / "last.yaml")
    assert isinstance(loaded.arch.head, SSDLiteHead) and loaded.arch.head.extra_channels == (16,)
    assert loaded.arch.head.c3_scale == 0.1
    assert {"map", "map50", "standard_error"} <= rows()[0].keys()
    page = (RUN / "report.html").read_text()
    assert "COCO&#39;s average precision" in page and page.count("data:image/png") == 2 * 6


def test_a_network_with_its_head_goes_on_to_be_trained() -> None:
    run(*SEGMENT, "recipe.epochs=1", "head.filters=8")
    again = [word for word in SEGMENT if not word.startswith(("arch=", "run.name="))]
    run(*again, f"arch={RUN / 'last.yaml'}", f"weights={RUN / 'last.yaml'}", "recipe.epochs=1", "run.name=on")
    assert load_spec_file("runs/on/last.yaml").arch == load_spec_file(RUN / "last.yaml").arch
    with pytest.raises(NasError, match=r"head\.filters: tiny_lraspp has its head already; leave it out"):
        run(*again, f"arch={RUN / 'last.yaml'}", "head.filters=16", "run.name=other")


def test_killed_at_any_write_it_ends_as_if_it_had_not_been(monkeypatch: pytest.MonkeyPatch) -> None:
    run(*SEGMENT, "run.name=whole", "recipe.checkpoint_s=0")
    replace, killed = os.replace, 0

    class Killed(BaseException):
        """As SIGKILL, nothing handles it."""

    while killed < 30:
        writes = 0

        def killing(*paths: Any, at: int = 1 + killed % 3) -> None:
            nonlocal writes
            writes += 1
            if writes > at:
                raise Killed
            replace(*paths)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", killing)
            try:
                run(*SEGMENT, "recipe.checkpoint_s=0")
                break
            except Killed:
                killed += 1
    assert killed >= 3
    run(*SEGMENT, "recipe.checkpoint_s=0")
    assert_equal_runs(Path("runs/whole"), RUN)


def test_a_finished_training_prints_its_result_and_other_settings_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(*SEGMENT, "recipe.epochs=1")
    capsys.readouterr()
    run(*SEGMENT, "recipe.epochs=1")
    assert "training tiny" not in capsys.readouterr().out
    with pytest.raises(NasError, match=r"was begun with head\.halve = null, now it is true"):
        run(*SEGMENT, "recipe.epochs=1", "head.halve=true")


def test_the_report_shows_truth_and_what_is_found() -> None:
    run(*SEGMENT)
    page = (RUN / "report.html").read_text()
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(one))))
        for one in re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    ]
    assert len(pictures) == 3 * 6  # image, truth, found of six images
    shown = np.load("masks/tiny_val.npz")
    for place, row in enumerate(picture_rows(7, 0)):
        image, truth, _ = pictures[3 * place : 3 * place + 3]
        scale = image.shape[0] // 40
        assert np.array_equal(image[::scale, ::scale], shown["images"][row])
        small = truth[::scale, ::scale].astype(float)
        for label in (0, 1):
            mixed = 0.45 * shown["images"][row] + 0.55 * np.array(class_colour(label))
            of_class = shown["masks"][row] == label
            assert np.abs(small - mixed)[of_class].max() < 2  # of rounding
        assert not small[shown["masks"][row] == VOID].any()
    for text in ("Confusion matrix", "one class at every pixel", "share of correct pixels", "bright"):
        assert text in page
    assert "https:" not in page and not re.search(r"(src|href)=.?http", page)


def test_pictures_are_chosen_by_the_seed_alone() -> None:
    assert picture_rows(101, 3) == picture_rows(101, 3) != picture_rows(101, 4)
    assert len(set(picture_rows(101, 0))) == 6 and picture_rows(2, 0) == (0, 1)
    assert all(part * 100 <= row < (part + 1) * 100 for part, row in enumerate(picture_rows(600, 5)))
    assert len({class_colour(label) for label in range(100)}) == 100


def test_python_returns_the_scores() -> None:
    found = nas.train_network(*SEGMENT, progress=False)
    assert found.accuracy == result().last.accuracy and found.standard_error == result().last.standard_error
    assert found.last.metrics["pixel_accuracy"] > 0 and found.spec.task == "segmentation"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("task=detektion",), r"unknown task 'detektion': .* Did you mean 'detection'\?"),
        (
            ("task=classification", "data=digits", "head.halve=true"),
            r"head\.halve true: does not apply to classific",
        ),
        (("data=digits",), r"data\.name 'digits': is for task=classification, task is segmentation; take data=segm"),
        (("recipe.mixup=0.2",), r"recipe\.mixup 0\.2: does not apply to task=segmentation"),
        (("recipe.zoom_out=0.2",), r"recipe\.zoom_out 0\.2: does not apply to task=segmentation"),
        (("recipe.shift=0.1",), r"recipe\.shift 0\.1: has no effect beside recipe\.crop_scale 0\.25"),
        (("recipe.auto_augment=rand-m9",), r"recipe\.auto_augment 'rand-m9': does not apply"),
        (("teacher=mixnet_s",), r"teacher: networks learn from a teacher with task=classification alone"),
        (("head.tap=output",), r"head\.tap 'output': does not apply to segmentation"),
        (("head.c3_scale=0.1",), r"head\.c3_scale 0\.1: does not apply to segmentation"),
        (
            ("head.c3_scale=0.2", "task=detection"),
            r"head\.c3_scale 0\.2: must be above 0 and below min_scale \(0\.2\), or null",
        ),
        (("head.c3_scale=x", "task=detection"), r"head\.c3_scale: 'x' is not a number or null"),
        (("head.output_stride=12",), r"unknown head\.output_stride 12: choose from 8, 16, 32"),
        (("head.halve=2",), r"head\.halve: 2 is not true or false or null"),
        (("head.filters=0",), r"head\.filters 0: must be"),
        (("head.low_stride=2",), r"head\.low_stride 2: must be 4, 8 or 16"),
        (
            ("head.aspect_ratios=[2]", "head.lowest_anchors=6", "task=detection"),
            r"head\.lowest_anchors 6: must be 3 or 4 ",
        ),
        (("head.lowest_anchors=5", "task=detection"), r"head\.lowest_anchors 5: must be 3, 4 or 6 "),
        (("head.tap=input", "task=detection"), r"unknown head\.tap 'input': choose from expansion, output"),
        (("head.activation=gelu",), r"unknown head\.activation 'gelu': choose from relu, "),
        (("head.max_scale=0.1", "task=detection"), r"head\.min_scale 0\.2, max_scale 0\.1: must be above 0"),
        (("head.width=2", "head.filters=8"), r"head\.width 2: has no effect beside head\.filters, which"),
        (("head.width=2", "head.extra_channels=[8]", "task=detection"), r"head\.width 2: has no .*\.extra_channels"),
        (("head.width=x",), r"head\.width: 'x' is not a number or null"),
        (("head.extra_channels=5", "task=detection"), r"head\.extra_channels 5: must be a list of numbers"),
        (("recipe.class_weights=[1,2,3]",), r"recipe\.class_weights: has 3 numbers, the images have 2 classes"),
        (("recipe.resolution_px=64", "data.resolution_px=96"), r"recipe\.resolution_px 64: data\.resolution_px is 96"),
        (("data.root=nowhere",), r"data\.root: nowhere does not exist"),
        (("data.root=null",), r"data\.root: missing, segmentation needs a folder"),
        (("data.subset=1",), r"data\.root: there is one train image to use; networks are trained on batches of two"),
    ],
)
def test_mistakes_are_told_in_a_line(words: tuple[str, ...], message: str) -> None:
    given = {word.partition("=")[0] for word in words}
    base = [word for word in SEGMENT if word.partition("=")[0] not in given]
    base = [word for word in base if not (words[0].startswith(("data=", "task=cl")) and word.startswith("data."))]
    with pytest.raises(NasError, match=message) as caught:
        run(*base, *words)
    assert "\n" not in str(caught.value)


def test_a_network_of_another_task_is_refused() -> None:
    run(*SEGMENT, "recipe.epochs=1")
    write_boxed_images(Path("boxes"))
    spec = f"arch={RUN / 'last.yaml'}"
    with pytest.raises(NasError, match=r"arch: tiny_lraspp is for segmentation; add task=segmentation"):
        run(spec, "data=digits", "run.name=other")
    with pytest.raises(NasError, match=r"arch: tiny_lraspp is for segmentation; add task=segmentation"):
        run("task=detection", spec, "data.root=boxes", "run.name=other")


def test_damaged_results_are_named() -> None:
    run(*SEGMENT, "recipe.epochs=1")
    path = RUN / "results.json"
    good = json.loads(path.read_text())
    for change, message in (
        ({"task": "drawing"}, "unknown task 'drawing'"),
        ({"last": None}, "last: must be a mapping"),
        ({"class_names": ["one"]}, "class_scores: must be as many"),
        ({"last": {**good["last"], "accuracy": 7}}, "accuracy 7: must be a number of at least 0 and at most 1"),
        ({"last": {**good["last"], "standard_error": -1}}, "standard_error -1: must be a number of at least 0"),
        (
            {"last": {**good["last"], "class_scores": [2, 0]}},
            "class_scores 2: must be a number of at least 0 and at most 1",
        ),
    ):
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(NasError, match=message):
            read_results(path)


def test_the_report_says_which_labels_were_repaired_and_how_much_is_void() -> None:
    file = Path("masks/tiny_val.npz")
    with np.load(file) as arrays:
        content = dict(arrays)
    content["masks"][0, -1] = 7  # of no class
    np.savez(file, **content)
    run(*SEGMENT, "data.repair=true", "recipe.epochs=1")
    page = (RUN / "report.html").read_text()
    assert "data.repair: masks with values of no class: 1, first tiny_val[0] (value 7): these pixels are void" in page
    assert "<dt>Void</dt><dd>2.5% of the train pixels, which no share counts</dd>" in page  # a row of 40
