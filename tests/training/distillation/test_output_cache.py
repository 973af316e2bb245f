"""Tests of the teacher's outputs in a file, and of whole trainings with a teacher, killed and resumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.data.images import ImageData
from nas.training.batches import InMemorySource
from nas.training.distillation import (
    CachedTeacher,
    Distillation,
    DistillationSettings,
    Teacher,
    cache_path,
    output_cache,
)
from nas.training.recipe import RecipeSettings
from nas.training.results import TrainResult
from nas.training.trainer import TrainingHooks, train_network
from tests.training.nets import first_images

CPU: Final = torch.device("cpu")
FIXED: Final = RecipeSettings(epochs=3, batch_size=16, lr=0.01, device="cpu", shift=0.0, checkpoint_s=0)
IMAGES: Final = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Convolution, batch norm, dropout and a classifier."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, stride=4), nn.BatchNorm2d(4), nn.SiLU(), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(4, 10))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.body(images))


class Counted:
    """A teacher that counts its batches."""

    def __init__(self) -> None:
        self.model, self.batches = Net(5).eval(), 0

    def identity(self) -> list[Any]:
        return ["counted"]

    @torch.no_grad()
    def targets(self, rows: Tensor, images: Tensor) -> Tensor:
        self.batches += 1
        return self.model(images)


def cached(teacher: Teacher, folder: Path, count: int = 6, say: Callable[[str], object] = print) -> CachedTeacher:
    return CachedTeacher(teacher, cache_path(folder, teacher, ["images"]), count=count, classes=10, say=say)


def test_outputs_from_the_file_are_those_computed_bit_for_bit(tmp_path: Path) -> None:
    teacher, rows = Counted(), torch.tensor([4, 0, 2])
    computed = teacher.targets(rows, IMAGES[rows])
    assert torch.equal(cached(teacher, tmp_path).targets(rows, IMAGES[rows]), computed)
    again = cached(teacher, tmp_path)
    assert torch.equal(again.targets(rows, IMAGES[rows]), computed)
    assert teacher.batches == 2
    # Other images of the file are still to be computed; a batch that is known in part is computed as a whole.
    again.targets(torch.tensor([4, 1]), IMAGES[[4, 1]])
    assert teacher.batches == 3
    stored = np.load(next(tmp_path.glob("teacher-*.npy")))
    assert (stored.shape, stored[:, -1].tolist()) == ((6, 11), [1, 1, 1, 0, 1, 0])


@pytest.mark.parametrize("content", [b"", b"garbage", b"other shape"])
def test_a_damaged_file_is_made_anew(content: bytes, tmp_path: Path) -> None:
    teacher = Counted()
    path = cache_path(tmp_path, teacher, ["images"])
    path.write_bytes(content)
    if content == b"other shape":
        np.save(path, np.ones((6, 3), dtype=np.float32))
    one = cached(teacher, tmp_path)
    for _ in range(2):
        one.targets(torch.arange(6), IMAGES)
    assert teacher.batches == 1


@pytest.mark.parametrize("broken", ["pwrite", "replace"])
def test_a_full_disk_costs_the_file_and_not_the_training(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output_cache.os, broken, full)
    said: list[str] = []
    teacher = Counted()
    one = cached(teacher, tmp_path, say=said.append)
    for _ in range(2):
        one.targets(torch.arange(6), IMAGES)
    assert teacher.batches == 2
    assert len(said) == 1 and said[0].endswith("(No space left on device): they are computed in every epoch.")


def test_files_of_other_teachers_images_and_processes_are_others(tmp_path: Path) -> None:
    teacher = Counted()
    paths = {cache_path(tmp_path, teacher, ["images", side], rank=rank) for side in (32, 64) for rank in (0, 1)}
    assert len(paths) == 4


def train(
    data: ImageData, teacher: Teacher, settings: RecipeSettings, path: Path | None = None, stop_at: int = 0
) -> tuple[TrainResult, dict[str, Tensor]]:
    def on_step(done: int, total: int) -> None:
        if done == stop_at:
            raise KeyboardInterrupt

    model = Net(0)
    result = train_network(
        model,
        InMemorySource(data, settings, seed=1, device=CPU),
        settings,
        seed=1,
        checkpoint=path,
        hooks=TrainingHooks(on_step=on_step),
        distillation=Distillation(teacher, DistillationSettings(temperature=2.0, share=0.5)),
    )
    return result, model.state_dict()


def test_a_student_learns_what_its_teacher_says_and_not_the_labels_alone(digits: ImageData) -> None:
    data, settings = first_images(digits, 32), replace(FIXED, epochs=1)
    with_teacher, alone = train(data, Counted(), settings)[1], Net(0)
    train_network(alone, InMemorySource(data, settings, seed=1, device=CPU), settings, seed=1)
    assert not torch.equal(with_teacher["classifier.2.weight"], alone.state_dict()["classifier.2.weight"])


@pytest.mark.parametrize("stop_at", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("is_cached", [False, True])
def test_a_training_with_a_teacher_resumes_bitwise(
    stop_at: int, is_cached: bool, digits: ImageData, tmp_path: Path
) -> None:
    def teacher(folder: str) -> Teacher:
        return cached(Counted(), tmp_path / folder, count=47) if is_cached else Counted()

    data = first_images(digits, 47)
    expected, weights = train(data, teacher("unbroken"), FIXED)
    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        train(data, teacher("killed"), FIXED, checkpoint, stop_at)
    result, resumed = train(data, teacher("killed"), FIXED, checkpoint)
    assert [epoch.train_loss for epoch in result.epochs] == [epoch.train_loss for epoch in expected.epochs]
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)


def test_each_image_of_a_training_is_computed_once(digits: ImageData, tmp_path: Path) -> None:
    teacher = Counted()
    train(first_images(digits, 47), cached(teacher, tmp_path, count=47), FIXED)
    assert teacher.batches == 3  # of 16, 16 and 15 images, in the first of three epochs


def test_fixed_images_are_those_without_random_draws(digits: ImageData) -> None:
    data = first_images(digits, 16)
    found = [
        InMemorySource(replace(data, flips=flips), replace(FIXED, shift=shift), seed=1, device=CPU).has_fixed_images
        for flips, shift in ((False, 0.0), (True, 0.0), (False, 0.125))
    ]
    assert found == [True, False, False]
