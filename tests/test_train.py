"""Tests of ``nas.train``: its files, resuming wherever it was stopped, mistakes."""

from __future__ import annotations

import csv
import errno
import itertools
import json
import math
import os
import signal
from pathlib import Path
from typing import Any, Final

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import nas
from nas import train
from nas.arch.files import load_spec_file, save_spec
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.data.images import load_images
from nas.data.sources import DataSettings
from nas.exporters.standalone import load_weights
from nas.methods.full_training import session
from nas.methods.full_training.results import best_epoch, read_results
from nas.model.build import build
from nas.study.manifest import check_manifest_format
from nas.training.evaluation import evaluate
from nas.training.recipe import RecipeSettings
from nas.training.results import EpochResult
from nas.training.run import TrainingRun
from tests.json_output import json_answer

WORDS: Final = (
    "arch=tiny.yaml", "data=digits", "data.subset=60", "recipe.batch_size=30", "recipe.epochs=3", "recipe.lr=0.01",
    "recipe.warmup_epochs=1", "recipe.ema=0.5", "recipe.device=cpu", "run.name=tiny",
)  # fmt: skip
RUN: Final = Path("runs/tiny")
UNTIMED: Final = ("epoch", "lr", "train_loss", "val_loss", "accuracy", "standard_error")
TENSORS: Final = ("last.safetensors", "best.safetensors")


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in a folder with the spec of a tiny network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)
    spec = ArchSpec.from_strings(
        "tiny", [["ds_r1_k3_s1_e1_c8"]], stem=StemSpec(channels=8), head=HeadSpec(channels=16), resolution_px=8
    )
    save_spec(spec, "tiny.yaml", {"study": "mine"})


def run(*words: str) -> None:
    assert train.command([*WORDS, *words]) == 0


def log(folder: Path = RUN) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as stream:
        return [{name: row[name] for name in UNTIMED} for row in csv.DictReader(stream)]


def results(folder: Path = RUN) -> dict[str, Any]:
    found = json.loads((folder / "results.json").read_text())
    return {
        name: value for name, value in found.items() if name not in ("name", "duration_s", "cpu_s", "images_per_cpu_s")
    }


def assert_equal_runs(first: Path, second: Path) -> None:
    assert log(first) == log(second) and results(first) == results(second)
    for name in TENSORS:
        tensors = load_file(first / name), load_file(second / name)
        assert tensors[0].keys() == tensors[1].keys()
        assert all(torch.equal(tensors[0][key], tensors[1][key]) for key in tensors[0])


def test_a_training_writes_weights_spec_log_and_report(capsys: pytest.CaptureFixture[str]) -> None:
    run()
    said = capsys.readouterr().out
    rows, found = log(), results()
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert f"accuracy after the last epoch: {100 * float(rows[-1]['accuracy']):.2f} ± " in said
    data = load_images(DataSettings(resolution_px=8, subset=60))
    for stem in ("last", "best"):
        file = load_spec_file(RUN / f"{stem}.yaml")
        model = build(file.arch)
        load_weights(model, RUN / f"{stem}.safetensors")
        score = evaluate(model, data, RecipeSettings(device="cpu"))
        row = rows[file.provenance["epoch"] - 1]
        assert score.accuracy == float(row["accuracy"]) == found[stem]["accuracy"]  # of the averaged weights
        assert score.loss == pytest.approx(float(row["val_loss"]), rel=1e-5)
        error = math.sqrt(score.accuracy * (1 - score.accuracy) / 360)
        assert file.provenance["standard_error"] == pytest.approx(error, abs=1e-6) and 0 < score.accuracy < 1
        confusion = found[stem]["confusion"]
        assert sum(images for *_, images in confusion) == 360
        assert [sum(n for a, b, n in confusion if a == b == label) for label in range(10)] == list(score.class_correct)
        assert [sum(n for a, _, n in confusion if a == label) for label in range(10)] == list(data.val_class_images)
        assert file.provenance["class_names"] == [str(digit) for digit in range(10)]
        assert file.provenance["normalisation"] == {"mean": list(data.mean), "std": list(data.std)}
        assert file.provenance["network_from"] == {"study": "mine"}
    assert results()["last"]["epoch"] == 3
    best = max(rows, key=lambda row: (float(row["accuracy"]), -float(row["val_loss"])))
    assert best["epoch"] == str(found["best"]["epoch"])  # of equally accurate ones that of the lowest loss
    page = (RUN / "report.html").read_text()
    for part in ('id="losses-', 'id="accuracy-', 'id="confusion-', "Most frequent mistakes", "weight_decay", "<svg"):
        assert part in page, part
    assert yaml.safe_load((RUN / "config.yaml").read_text())["command"].startswith("python -m nas.train arch=tiny.yaml")


def test_a_finished_training_prints_its_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("recipe.epochs=1")
    first = capsys.readouterr().out

    def refuse(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(session, "run_training", refuse)
    run("recipe.epochs=1", "recipe.checkpoint_s=7")  # which changes no result
    again = capsys.readouterr().out
    assert first.endswith(again) and again.count("\n") >= 4
    answer = json_answer(train.command, capsys, (*WORDS, "recipe.epochs=1"))
    assert answer["last"]["class_correct"] == [
        sum(n for a, b, n in results()["last"]["confusion"] if a == b == label) for label in range(10)
    ]
    assert answer["folder"] == str(RUN) and "confusion" not in answer["last"]


class Killed(BaseException):
    """The end of the process, as far as it can be had within one."""


def test_killed_at_any_write_it_ends_as_an_unbroken_one(monkeypatch: pytest.MonkeyPatch) -> None:
    run("run.name=whole")
    replace, writes = os.replace, 0
    for kill_at in itertools.count(1):
        writes = 0

        def killing(*paths: Any, at: int = kill_at) -> None:
            nonlocal writes
            writes += 1
            if writes == at:
                raise Killed
            replace(*paths)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", killing)
            try:
                run("recipe.checkpoint_s=0")
                break
            except Killed:
                pass
    # A run that is killed at its first write comes no further, the next one by a write: all of a whole run are met.
    assert kill_at >= 6
    assert_equal_runs(Path("runs/whole"), RUN)
    assert not list(RUN.glob(".*.*"))


def test_the_first_interrupt_saves_the_step_it_came_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("run.name=whole")
    original = TrainingRun._train_step

    def interrupted(self: TrainingRun, batch: Any) -> torch.Tensor:
        if self.steps_done == 2:
            signal.raise_signal(signal.SIGINT)
        return original(self, batch)

    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "_train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("recipe.checkpoint_s=3600")
    assert signal.getsignal(signal.SIGINT) is handler
    capsys.readouterr()
    run("recipe.checkpoint_s=3600")
    assert "resumed after 3 of 6 steps\n" in capsys.readouterr().out
    assert_equal_runs(Path("runs/whole"), RUN)


def test_a_full_disk_is_told_in_a_line_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    run("run.name=whole")
    fsync, writes = os.fsync, itertools.count()

    def full(stream: int) -> None:
        if next(writes) == 8:  # within the weights of the second epoch
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(stream)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(NasError, match=r"^cannot write 'runs/tiny/.*': No space left on device; free some disk"):
            run()
    assert [row["epoch"] for row in log()] == ["1"]
    run()
    assert_equal_runs(Path("runs/whole"), RUN)


def test_a_loss_that_is_not_finite_names_the_last_good_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    original = TrainingRun._train_step

    def broken(self: TrainingRun, batch: Any) -> torch.Tensor:
        return original(self, batch) * (math.nan if self.steps_done == 3 else 1.0)

    monkeypatch.setattr(TrainingRun, "_train_step", broken)
    message = (
        r"loss became nan at epoch 2, step 2: lower recipe\.lr\. The last good weights are runs/tiny/last\.safetensors"
    )
    with pytest.raises(NasError, match=message):
        run()
    assert load_spec_file(RUN / "last.yaml").provenance["epoch"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("recipe.lr=0.2",), r"run 'tiny' was begun with recipe\.lr = 0\.01, now it is 0\.2; choose another run\.name"),
        (("run.seed=3", "data.seed=1"), r"run 'tiny' was begun with .* \(and 1 more: .*seed\)"),
    ],
)
def test_other_settings_under_the_same_name_are_refused(words: tuple[str, ...], message: str) -> None:
    run("recipe.epochs=1")
    with pytest.raises(NasError, match=message):
        run("recipe.epochs=1", *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("arch=null",), r"which network\? Add arch="),
        (("recipe=fine",), r"unknown recipe 'fine': choose from default, detection, efficientnet, finetune"),
        (("recipe.class_weights=[1,2]",), r"recipe\.class_weights: has 2 numbers, the images have 10 classes"),
        (("recipe.resolution_px=2",), r"recipe\.resolution_px 2: must be"),
        (("run.name=a/b",), r"run\.name 'a/b': may hold letters"),
        (("run.name=latency",), r"run\.name 'latency': is taken by the folder of calibrations"),
        (("data=imagefolder", "data.root=none"), r"data\.root: none does not exist"),
        (("runs_dir=tiny.yaml",), r"runs_dir 'tiny\.yaml': cannot be written to"),
        (("recipe.epoch=1",), r"recipe\.epoch.*"),
    ],
)
def test_mistakes_are_told_before_a_training(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(NasError, match=message) as caught:
        run(*words)
    assert "\n" not in str(caught.value)
    assert not (RUN / "last.safetensors").exists()


def test_settings_that_never_trained_may_be_corrected_under_the_same_name() -> None:
    with pytest.raises(NasError, match="has 2 numbers"):
        run("recipe.epochs=1", "recipe.class_weights=[1,2]")
    run("recipe.epochs=1", "recipe.class_weights=[1,1,1,1,1,1,1,1,1,2]")
    with pytest.raises(NasError, match=r"was begun with recipe\.class_weights"):
        run("recipe.epochs=1")


def test_a_fixed_body_trains_the_classifier_alone() -> None:
    run("recipe.epochs=1", "recipe.body_lr=0", "recipe.ema=null")
    run("recipe.epochs=2", "recipe.body_lr=0", "recipe.ema=null", "run.name=longer")
    one, two = (load_file(folder / "last.safetensors") for folder in (RUN, Path("runs/longer")))
    changed = {name for name in one if "running" not in name and "num_batches" not in name}
    changed = {name for name in changed if not torch.equal(one[name], two[name])}
    assert changed == {"classifier.weight", "classifier.bias"}
    assert [float(row["lr"]) > 0 for row in log()] == [True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"last": None}, "last: must be a mapping"),
        ({"class_names": ["0"]}, r"confusion: has more classes than the 1 of class_names"),
        ({"class_names": 5}, "class_names: must be a list of names"),
        *(
            ({"best": {"epoch": 1, "accuracy": 0.5, "val_loss": 1.0, "confusion": counts}}, r"best\.confusion: must be")
            for counts in ([], [1], [[0, 0]], [["a", 0, 1]], [[0, 0, 0]], [[-1, 0, 1]], 5)
        ),
    ],
)
def test_damaged_results_are_named_in_a_line(change: dict[str, Any], message: str) -> None:
    scored = {"epoch": 1, "accuracy": 0.5, "val_loss": 1.0, "confusion": [[0, 0, 1], [1, 0, 1]]}
    found = {
        "format": "nas.training.results/1", "name": "x", "arch_name": "x", "arch_id": "x", "params": 1, "macs": 1,
        "resolution_px": 8, "class_names": ["0", "1"], "train_images": 1, "epochs": 1, "last": scored, "best": scored,
        "duration_s": 1.0, "cpu_s": 1.0, "images_per_cpu_s": 1.0,
    }  # fmt: skip
    path = Path("results.json")
    path.write_text(json.dumps(found))
    assert read_results(path).majority == 0.5
    path.write_text(json.dumps(found | change))
    with pytest.raises(NasError, match=rf"^results\.json: cannot be read \({message}.*\); delete it") as caught:
        read_results(path)
    assert "\n" not in str(caught.value)


def test_what_a_killed_process_left_is_removed() -> None:
    RUN.mkdir(parents=True)
    left, foreign = RUN / ".last.safetensors.0123abcd", RUN / ".notes.of.mine"
    left.touch(), foreign.touch()
    run("recipe.epochs=1")
    assert not left.exists() and foreign.exists()


def test_a_study_of_the_same_name_is_refused() -> None:
    run("recipe.epochs=1")
    with pytest.raises(NasError, match=r"config\.yaml: is of format 'nas\.training/1', not of a study; choose another"):
        check_manifest_format(RUN)


def test_a_folder_of_something_else_is_refused() -> None:
    RUN.mkdir(parents=True)
    (RUN / "config.yaml").write_text("format: 1\nstudy: {}\n")
    with pytest.raises(NasError, match=r"runs/tiny: is not the folder of a training; choose another run\.name"):
        run()


def test_the_best_epoch_is_the_first_of_the_highest_accuracy_and_lowest_loss() -> None:
    figures = [(0.5, 1.0), (0.7, 0.9), (0.7, 0.8), (0.6, 0.1), (0.7, 0.8)]
    rows = [
        EpochResult(epoch=epoch, accuracy=accuracy, val_loss=loss, train_loss=1.0, duration_s=1.0, cpu_s=1.0)
        for epoch, (accuracy, loss) in enumerate(figures, start=1)
    ]
    assert [best_epoch(rows[:count]) for count in range(1, 6)] == [1, 2, 3, 3, 3]


def make_folder(root: Path, count: int) -> None:
    """Random images of two classes as PNG files, ``count`` of each per split."""
    generator = torch.Generator().manual_seed(0)
    for split, name in itertools.product(("train", "val"), ("a", "b")):
        folder = root / split / name
        folder.mkdir(parents=True)
        for index in range(count):
            pixels = torch.randint(256, (8, 8, 3), generator=generator, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(folder / f"{index}.png")


def test_images_stay_in_files_where_memory_does_not_hold_them(capsys: pytest.CaptureFixture[str]) -> None:
    make_folder(Path("photos"), 6)
    words = ("data=imagefolder", "data.root=photos", "data.subset=null", "recipe.epochs=1", "recipe.loader_workers=0")
    run(*words, "run.name=memory", "recipe.interpolation=bicubic")  # which is of streamed images
    run(*words, "run.name=files", "recipe.stream=true")
    run(*words, "run.name=large", f"data.max_memory_bytes={24 * 8 * 8 * 3 - 1}")
    run(*words, "run.name=small", f"data.max_memory_bytes={24 * 8 * 8 * 3}")
    memory, files, large, small = (log(Path("runs") / name) for name in ("memory", "files", "large", "small"))
    assert files == large and small == memory and memory != files  # which draw their changes otherwise
    capsys.readouterr()
    prepared = ("data.fit=pad", "data.background=black", "recipe.crop_pct=0.9", "recipe.interpolation=bicubic")
    run(*words, "run.name=changed", "recipe.random_erasing=1", "recipe.auto_augment=rand-m9", *prepared)
    assert "epoch 1 of 1" in capsys.readouterr().out
    steps = [
        load_spec_file(Path("runs") / name / "best.yaml").provenance["preprocessing"] for name in ("memory", "changed")
    ]
    assert steps[0] == {"fit": "crop", "background": [255] * 3, "interpolation": "bilinear", "crop_pct": 1.0}
    assert steps[1] == {"fit": "pad", "background": [0] * 3, "interpolation": "bicubic", "crop_pct": 0.9}
    assert log(Path("runs/changed")) not in (memory, files)


def test_from_python_it_is_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    result = nas.train_network(*WORDS, recipe={"epochs": 2}, progress=False)
    assert capsys.readouterr() == ("", "")
    assert (result.epochs, result.accuracy) == (2, float(log()[-1]["accuracy"]))
    assert result.spec == nas.load_spec(RUN / "last.yaml") and result.report == RUN / "report.html"
    assert all(path.is_file() for path in result.paths.values()) and len(result.paths) == 5
    assert nas.train_network(*WORDS, recipe={"epochs": 2}, progress=False) == result
    with pytest.raises(NasError, match=r"^arch: must be a name or the path of a spec file; nas\.save_spec"):
        nas.train_network(arch=result.spec)
