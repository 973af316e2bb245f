"""A supernet's training in a group of processes, against one that splits its batches."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.data.images import load_images
from nas.data.sources import DataSettings
from nas.estimators.supernet import scorer as scorer_module
from nas.estimators.supernet.layout import slot_shapes
from nas.estimators.supernet.network import Subnetwork
from nas.estimators.supernet.scorer import SupernetScorer
from nas.estimators.supernet.training import SupernetTraining, train_supernet
from nas.training.checkpoint import Checkpoint
from nas.training.distributed import ProcessGroup
from nas.training.results import OutOfMemoryError
from tests.estimators.test_supernet_training import PROXY, SETTINGS, failing, make_space
from tests.training.test_distributed import in_group

Weights = dict[str, Tensor]


def specs() -> list[ArchSpec]:
    space, rng = make_space(), random.Random(0)
    return [space.decode(space.sample(rng), classes=10, in_channels=1) for _ in range(8)]


def make_training(**changes: Any) -> SupernetTraining:
    """Two epochs of four batches of 25 digits, three networks in each."""
    drawn = specs()
    return SupernetTraining(
        networks=lambda step: [drawn[(3 * step + index) % len(drawn)] for index in range(3)],
        has_teacher=True,
        data=load_images(DataSettings(resolution_px=8, subset=100)),
        settings=replace(SETTINGS, optimizer="sgd", lr=0.1).training(PROXY),
        seed=0,
        say=lambda _: None,
        **changes,
    )


def train(group: ProcessGroup, **changes: Any) -> Weights:
    return train_supernet(slot_shapes(specs()), replace(make_training(), processes=group, **changes))


def assert_close(found: Weights, expected: Weights) -> None:
    for slot, tensor in expected.items():
        torch.testing.assert_close(found[slot], tensor, rtol=1e-3, atol=1e-4)


def split_batch_norm(parts: int) -> Callable[..., Tensor]:
    """Batch norm with the statistics of each of ``parts`` parts of the batch."""
    plain = functional.batch_norm

    def batch_norm(x: Tensor, *args: Any, **options: Any) -> Tensor:
        return torch.cat([plain(part, *args, **options) for part in x.tensor_split(parts)])

    return batch_norm


def test_two_processes_train_as_one_whose_norm_statistics_are_of_half_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = in_group(2, train)
    assert all(torch.equal(first[slot], second[slot]) for slot in first)
    whole = train(ProcessGroup())
    monkeypatch.setattr(functional, "batch_norm", split_batch_norm(2))
    assert_close(first, train(ProcessGroup()))
    with pytest.raises(AssertionError):  # what the tolerance tells apart
        assert_close(first, whole)


def test_network_that_fails_in_one_process_is_left_out_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(sizes: set[int]) -> Callable[[Subnetwork, Tensor], Tensor | None]:
        return lambda network, images: (
            torch.full((len(images), 10), torch.nan) if network.spec.depth == 2 and len(images) in sizes else None
        )

    original, lines = Subnetwork.outputs, list[str]()
    monkeypatch.setattr(Subnetwork, "outputs", failing(original, fails({12})))  # of 13 and 12 images
    found = in_group(2, lambda group: train(group, has_teacher=False, say=lines.append))
    assert lines
    monkeypatch.setattr(Subnetwork, "outputs", failing(original, fails({25})))
    monkeypatch.setattr(functional, "batch_norm", split_batch_norm(2))
    expected = train(ProcessGroup(), has_teacher=False)
    for weights in found:
        assert_close(weights, expected)


def test_processes_resume_from_the_checkpoint_of_the_first(tmp_path: Path) -> None:
    def checkpoint(folder: str) -> Checkpoint:
        return Checkpoint(tmp_path / folder / "checkpoint.pt", "this training", every_s=0)

    (tmp_path / "shared").mkdir()
    unbroken = in_group(2, lambda group: train(group, checkpoint=checkpoint("shared")))
    steps: list[int] = []
    resumed = in_group(
        2,
        lambda group: train(group, checkpoint=checkpoint("shared"), progress=lambda step, _: steps.append(step)),
    )
    assert sorted(steps) == [5, 5, 6, 6, 7, 7, 8, 8]
    for found, expected in zip(resumed, unbroken, strict=True):
        assert all(torch.equal(found[slot], expected[slot]) for slot in expected)

    def of_own_folder(group: ProcessGroup) -> None:
        with pytest.raises(NasError, match="runs_dir must be a folder that all machines share"):
            train(group, checkpoint=checkpoint("shared" if group.is_first else "own"))

    in_group(2, of_own_folder)


def test_only_the_first_process_writes_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = threading.local()
    monkeypatch.setattr(scorer_module, "join_process_group", lambda _: here.group)
    arch = specs()[0]

    def prepare(group: ProcessGroup) -> tuple[int, float]:
        here.group, steps = group, list[int]()
        scorer = SupernetScorer(
            data=load_images(DataSettings(resolution_px=8, subset=100)),
            proxy=PROXY,
            settings=replace(SETTINGS, epochs=1),
            space=make_space(),
            largest_kernel=5,
            seed=0,
            folder=tmp_path / "supernet",
        )
        scorer.prepare(lambda step, _: steps.append(step))
        assert scorer.path.exists()
        return len(steps), scorer.evaluate(arch).loss

    (first_steps, first), (second_steps, second) = in_group(2, prepare)
    assert (first_steps, second_steps) == (4, 0)
    assert first == second
    assert [path.name for path in (tmp_path / "supernet").iterdir()] == ["supernet.safetensors"]


def test_shares_without_enough_images_and_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NasError, match=r"batch_size 25: gives some of 13 processes less than 2 of a batch's 25 images"):
        train(ProcessGroup(rank=0, size=13))

    def out_of_memory(*_: Any) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(Subnetwork, "outputs", out_of_memory)
    with pytest.raises(OutOfMemoryError, match=r"out of memory at estimator\.supernet\.batch_size 25"):
        train(ProcessGroup(rank=0, size=2, sum_in_place=lambda _: None))
