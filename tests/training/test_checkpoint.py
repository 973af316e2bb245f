"""Training checkpoints: bitwise resume, fingerprints, damaged files, full disks."""

from __future__ import annotations

import errno
import io
import itertools
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from nas.data.images import ImageData
from nas.training.checkpoint import Checkpoint
from nas.training.results import EpochResult, TrainResult
from nas.training.settings import OPTIMIZERS, SCHEDULES, TrainSettings
from nas.training.trainer import train
from tests.training.nets import first_images, make_net

ALWAYS = TrainSettings(epochs=3, batch_size=16, lr=0.01, device="cpu", warmup_epochs=0.5, checkpoint_s=0)


def small_net() -> nn.Module:
    """Build a network with weights, buffers, and draws from torch's global state."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, stride=4), nn.BatchNorm2d(4), nn.SiLU(), nn.Flatten(), nn.Dropout(0.2)]
    return nn.Sequential(*layers, nn.Linear(64, 10))


def train_and_interrupt(
    path: Path,
    data: ImageData,
    settings: TrainSettings,
    *,
    epoch: int = 3,
    model: nn.Module | None = None,
) -> None:
    """Interrupt a training in ``on_epoch`` of ``epoch``, before its checkpoint."""

    def on_epoch(result: EpochResult) -> None:
        if result.epoch == epoch:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model or small_net(), data, settings, seed=1, on_epoch=on_epoch, checkpoint=path)


def figures(result: TrainResult) -> list[tuple[float, float, float]]:
    return [(epoch.train_loss, epoch.val_loss, epoch.accuracy) for epoch in result.epochs]


def assert_resumes(path: Path, data: ImageData, settings: TrainSettings, make: Callable[[], nn.Module]) -> None:
    """Assert that a twice interrupted training ends bitwise equal to a complete one."""
    whole = make()
    expected = train(whole, data, settings, seed=1)
    train_and_interrupt(path, data, settings, epoch=2, model=make())
    train_and_interrupt(path, data, settings, epoch=3, model=make())
    reported: list[EpochResult] = []
    model = make()
    result = train(model, data, settings, seed=1, on_epoch=reported.append, checkpoint=path)
    assert figures(result) == figures(expected)
    assert [epoch.epoch for epoch in reported] == [3]
    assert result.epochs[-1:] == tuple(reported)
    states = whole.state_dict(), model.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


STATEFUL: list[dict[str, Any]] = [
    {"ema": 0.9},
    {"mixup": 0.3},
    {"cutmix": 0.5, "mixup": 0.2},
    {"clip_grad": 0.5},
    {"amp": "bfloat16"},
    {"amp": "float16"},
    {"channels_last": False},
    *({"schedule": name} for name in SCHEDULES),
    *({"optimizer": name, "lr": 1e-3} for name in OPTIMIZERS),
]


@pytest.mark.parametrize("fields", STATEFUL, ids=str)
def test_resume_is_bitwise_exact(digits: ImageData, tmp_path: Path, fields: dict[str, Any]) -> None:
    assert_resumes(tmp_path / "c.pt", first_images(digits, 48), replace(ALWAYS, **fields), small_net)


def test_resume_of_a_mixnet_with_all_stateful_settings(digits: ImageData, tmp_path: Path) -> None:
    settings = replace(ALWAYS, ema=0.9, mixup=0.2, clip_grad=1.0)
    assert_resumes(tmp_path / "c.pt", first_images(digits, 48), settings, lambda: make_net(stem_stride=2))


def test_checkpoint_interval_and_no_write_after_the_last_epoch(digits: ImageData, tmp_path: Path) -> None:
    data, path = first_images(digits, 20), tmp_path / "c.pt"
    for settings in (replace(ALWAYS, checkpoint_s=None), replace(ALWAYS, checkpoint_s=3600), replace(ALWAYS, epochs=1)):
        train(small_net(), data, settings, seed=1, checkpoint=path)
        assert not path.exists()
    checkpoint = Checkpoint(path, "mine", every_s=10)
    written = []
    for seconds in (4, 5, 2, 9, 1, 30):
        path.unlink(missing_ok=True)
        checkpoint.advance(seconds, dict)
        written.append(path.exists())
    assert written == [False, False, True, False, True, True]


def test_times_before_an_interruption_are_included(
    digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall, cpu = (
        itertools.count(),
        itertools.count(step=10),
    )  # read before and after the training steps, and after validation
    clock = SimpleNamespace(perf_counter=lambda: next(wall), process_time=lambda: next(cpu))
    monkeypatch.setattr("nas.training.run.time", clock)
    data, path = first_images(digits, 48), tmp_path / "c.pt"
    train_and_interrupt(path, data, ALWAYS)
    result = train(small_net(), data, ALWAYS, seed=1, checkpoint=path)
    assert [(epoch.duration_s, epoch.cpu_s) for epoch in result.epochs] == [(2, 20)] * 3
    assert (result.duration_s, result.cpu_s) == (6, 60)
    assert (result.images_per_s, result.images_per_cpu_s) == (3 * 48 / 3, 3 * 48 / 30)


def test_checkpoints_of_other_trainings_are_ignored(digits: ImageData, tmp_path: Path) -> None:
    data, path = first_images(digits, 48), tmp_path / "c.pt"
    train_and_interrupt(path, data, ALWAYS)

    def first_epoch(model: nn.Module, data: ImageData = data, seed: int = 1, **fields: Any) -> int:
        reported: list[EpochResult] = []
        copy = tmp_path / "copy.pt"
        shutil.copy(path, copy)
        train(model, data, replace(ALWAYS, **fields), seed=seed, on_epoch=reported.append, checkpoint=copy)
        return reported[0].epoch

    relu, other = small_net(), small_net()
    relu[2] = nn.ReLU()  # type: ignore[operator]
    with torch.no_grad():
        next(other.parameters())[0] += 1e-6
    assert first_epoch(small_net()) == 3
    assert first_epoch(small_net(), checkpoint_s=100.0) == 3
    assert first_epoch(relu) == first_epoch(other) == 1
    assert first_epoch(small_net(), lr=0.02) == first_epoch(small_net(), seed=2) == 1
    assert (
        first_epoch(small_net(), first_images(digits, 47))
        == first_epoch(small_net(), first_images(digits, 48, val_count=41))
        == 1
    )


def damage(data: bytes) -> dict[str, bytes]:
    middle = len(data) // 2
    buffer = io.BytesIO()
    torch.save({"fingerprint": 1}, buffer)
    return {
        "empty": b"",
        "half": data[:middle],
        "a bit": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "zeros": data[:middle] + bytes(1000) + data[middle + 1000 :],
        "words": b"not a checkpoint",
        "something else": buffer.getvalue(),
    }


def test_damaged_files_are_ignored(digits: ImageData, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data, path = first_images(digits, 48), tmp_path / "c.pt"
    expected = figures(train(small_net(), data, ALWAYS, seed=1))
    train_and_interrupt(path, data, ALWAYS)
    caplog.set_level("INFO")
    for number, content in enumerate(damage(path.read_bytes()).values(), start=1):
        path.write_bytes(content)
        reported: list[EpochResult] = []
        assert figures(train(small_net(), data, ALWAYS, seed=1, on_epoch=reported.append, checkpoint=path)) == expected
        assert [epoch.epoch for epoch in reported] == [1, 2, 3]
        assert len(caplog.records) == number and str(path) in caplog.messages[-1]


class Touches:
    """Object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_loading_runs_no_code(tmp_path: Path) -> None:
    path, proof = tmp_path / "c.pt", tmp_path / "proof"
    torch.save({"fingerprint": "mine", "state": Touches(proof)}, path)
    assert Checkpoint(path, "mine", every_s=0).load() is None
    assert not proof.exists()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_does_not_stop_the_training(
    digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    data, path = first_images(digits, 48), tmp_path / "checkpoints" / "c.pt"
    expected = figures(train(small_net(), data, ALWAYS, seed=1))
    train_and_interrupt(path, data, ALWAYS, epoch=2)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    assert figures(train(small_net(), data, ALWAYS, seed=1, checkpoint=path)) == expected
    assert [entry.name for entry in path.parent.iterdir()] == ["c.pt"]
    assert path.read_bytes() == before


def test_unwritable_folder_does_not_stop_the_training(digits: ImageData, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    train(small_net(), first_images(digits, 20), ALWAYS, seed=1, checkpoint=tmp_path / "file" / "c.pt")
