"""The group of processes that share a training: its environment, shares and sums."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TypeVar

import pytest
import torch
from torch import distributed, nn

from nas.core.errors import NasError
from nas.engines.run import run_study
from nas.training.distributed import (
    ProcessGroup,
    check_single_process,
    is_first_process,
    join_process_group,
    process_place,
)
from nas.training.settings import TrainSettings

T = TypeVar("T")

PLACE = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def in_group(size: int, work: Callable[[ProcessGroup], T]) -> list[T]:
    """Results of ``work`` in a group of threads that communicate by Gloo, by rank."""
    store = distributed.HashStore()

    def run(rank: int) -> T:
        gloo = distributed.ProcessGroupGloo(store, rank, size, timedelta(minutes=5))
        return work(ProcessGroup(rank=rank, size=size, sum_in_place=lambda tensor: gloo.allreduce([tensor]).wait()))

    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(run, range(size)))


def set_place(monkeypatch: pytest.MonkeyPatch, **changes: str | None) -> None:
    for name, value in {**PLACE, **changes}.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)


def test_shares_are_a_partition_of_nearly_equal_sizes() -> None:
    for images in range(3, 20):
        batch = torch.arange(images)
        for size in range(1, images + 1):
            shares = [ProcessGroup(rank=rank, size=size).share(batch) for rank in range(size)]
            assert torch.equal(torch.cat(shares), batch)
            assert {len(share) for share in shares} <= {images // size, -(-images // size)}


def test_gradients_of_unequal_shares_sum_to_that_of_the_batch() -> None:
    """Without batch norm the gradient of a mean loss is that of one process on the whole batch."""
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(7, 5, generator=generator), torch.randn(7, 3, generator=generator)

    def gradients(group: ProcessGroup) -> list[torch.Tensor | None]:
        model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3), nn.Linear(3, 3))
        with torch.no_grad():
            for index, weight in enumerate(model.parameters()):
                weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(index)))
        own, wanted = group.share(inputs), group.share(targets)
        ((model[:3](own) - wanted) ** 2).mean().mul(len(own) / len(inputs)).backward()
        group.sum_gradients(model.parameters())
        return [weight.grad for weight in model.parameters()]

    alone = gradients(ProcessGroup())
    for found in in_group(3, gradients):
        assert found[-1] is None  # of a layer that was not used
        torch.testing.assert_close(found[:-2], alone[:-2], rtol=1e-5, atol=1e-6)


def test_unequal_values_are_an_error_in_every_process() -> None:
    def check(group: ProcessGroup) -> str:
        group.wait()
        group.check_equal(5, "unequal fives")
        with pytest.raises(NasError) as error:
            group.check_equal(group.rank // 2, "unequal")
        return str(error.value)

    assert in_group(3, check) == 3 * ["unequal"]


def test_end_of_another_process_is_one_line() -> None:
    def fail(_: torch.Tensor) -> None:
        raise RuntimeError("Connection closed by peer [127.0.0.1]:1\nstack")

    with pytest.raises(NasError, match=r"another of the 2 processes ended; see its error \(Connection closed[^\n]*$"):
        ProcessGroup(size=2, sum_in_place=fail).wait()


def test_environment_of_torchrun_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    set_place(monkeypatch)
    assert process_place() == (1, 4, 1)
    assert not is_first_process()
    set_place(monkeypatch, RANK="0")
    assert is_first_process()
    set_place(monkeypatch, WORLD_SIZE="1", LOCAL_RANK=None)  # as some schedulers start single processes
    assert process_place() is None
    set_place(monkeypatch, RANK=None, WORLD_SIZE=None, LOCAL_RANK=None)
    assert process_place() is None
    assert join_process_group(TrainSettings()) == ProcessGroup()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"LOCAL_RANK": None}, "has RANK, WORLD_SIZE, but not LOCAL_RANK; start all processes by torchrun, or unset"),
        ({"MASTER_PORT": None}, "has RANK, WORLD_SIZE, LOCAL_RANK, but not MASTER_PORT"),
        ({"RANK": "4"}, "RANK '4' must be a whole number from 0 to 3"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE 'two' must be a whole number from 1 to 1000000"),
        ({"LOCAL_RANK": "-1"}, "LOCAL_RANK '-1' must be a whole number from 0 to 3"),
    ],
)
def test_wrong_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], message: str
) -> None:
    set_place(monkeypatch, **changes)
    with pytest.raises(NasError, match=re.escape(message)):
        join_process_group(TrainSettings(device="cpu"))


def test_a_study_refuses_to_run_in_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    check_single_process()
    set_place(monkeypatch)
    with pytest.raises(NasError, match=r"torchrun: started 4 processes, each of which would run the whole study"):
        run_study(None, None, None)  # type: ignore[arg-type]
