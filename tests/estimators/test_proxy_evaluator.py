"""Proxy evaluator: resume from checkpoints, their deletion, out-of-memory errors."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from nas.arch import zoo
from nas.data.images import load_images
from nas.data.sources import DataSettings
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.estimators.proxy.settings import ProxySettings
from nas.model.build import build
from nas.training.results import EpochResult, OutOfMemoryError, TrainingError

TINY = ProxySettings(
    width_multiplier=0.1, resolution_px=8, min_map_px="auto", epochs=2, batch_size=32, lr=0.01, checkpoint_s=0,
    device="cpu",
)  # fmt: skip
ARCH = zoo.get("mobilenetv1_100")


@pytest.fixture
def evaluator(tmp_path: Path) -> ProxyEvaluator:
    """Evaluator on a hundred digits, before its weight and checkpoint folders exist."""
    return ProxyEvaluator(
        data=load_images(DataSettings(resolution_px=8, subset=100)),
        settings=TINY,
        largest_kernel=3,
        seed=0,
        weights_dir=tmp_path / "weights",
        checkpoints_dir=tmp_path / "checkpoints",
    )


def interrupt_at(epoch: int) -> Callable[[EpochResult], None]:
    def on_epoch(result: EpochResult) -> None:
        if result.epoch == epoch:
            raise KeyboardInterrupt

    return on_epoch


def checkpoints(evaluator: ProxyEvaluator) -> set[str]:
    assert evaluator.checkpoints_dir is not None
    return {path.name for path in evaluator.checkpoints_dir.glob("*")}


def test_evaluation_resumes_and_its_checkpoint_stays_until_discarded(evaluator: ProxyEvaluator, tmp_path: Path) -> None:
    unbroken = replace(evaluator, checkpoints_dir=None, weights_dir=tmp_path / "expected")
    expected = unbroken.evaluate(ARCH)
    with pytest.raises(KeyboardInterrupt):
        evaluator.evaluate(ARCH, on_epoch=interrupt_at(2))
    assert checkpoints(evaluator) == {f"{ARCH.arch_id}.pt"}
    reported: list[EpochResult] = []
    assert evaluator.evaluate(ARCH, on_epoch=reported.append).accuracy == expected.accuracy
    assert [epoch.epoch for epoch in reported] == [2]
    name = f"{ARCH.arch_id}.safetensors"
    ours, theirs = load_file(tmp_path / "weights" / name), load_file(tmp_path / "expected" / name)
    assert all((ours[key] == theirs[key]).all() for key in theirs)
    assert checkpoints(evaluator) == {f"{ARCH.arch_id}.pt"}
    evaluator.discard_checkpoint(ARCH)
    evaluator.discard_checkpoint(ARCH)
    assert checkpoints(evaluator) == set()


def test_repeats_have_separate_checkpoints(evaluator: ProxyEvaluator) -> None:
    for repeat in (0, 2):
        with pytest.raises(KeyboardInterrupt):
            evaluator.evaluate(ARCH, repeat=repeat, on_epoch=interrupt_at(2))
    assert checkpoints(evaluator) == {f"{ARCH.arch_id}.pt", f"{ARCH.arch_id}-2.pt"}
    evaluator.discard_checkpoint(ARCH, repeat=2)
    assert checkpoints(evaluator) == {f"{ARCH.arch_id}.pt"}
    evaluator.discard_checkpoints()
    evaluator.discard_checkpoints()
    assert checkpoints(evaluator) == set()


def test_out_of_memory_error_names_settings_and_frees_memory(
    evaluator: ProxyEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[weakref.ref[nn.Module]] = []

    def fill(model: nn.Module) -> nn.Module:
        def forward(*_: object) -> torch.Tensor:
            activations = torch.ones(1000)
            return torch.cat([activations, torch.empty(2**50)])  # more memory than any machine has

        model.forward = forward  # type: ignore[method-assign]
        models.append(weakref.ref(model))
        return model

    monkeypatch.setattr("nas.estimators.proxy.evaluator.build", lambda spec: fill(build(spec)))
    with pytest.raises(OutOfMemoryError, match=r"out of memory at proxy\.batch_size 32: lower it") as caught:
        evaluator.evaluate(ARCH)
    assert models[0]() is None  # although the error is still referenced
    assert isinstance(caught.value, TrainingError)


def test_other_errors_propagate(evaluator: ProxyEvaluator, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> nn.Module:
        raise RuntimeError("a broken kernel")

    monkeypatch.setattr("nas.estimators.proxy.evaluator.build", fail)
    with pytest.raises(RuntimeError, match="a broken kernel"):
        evaluator.evaluate(ARCH)
