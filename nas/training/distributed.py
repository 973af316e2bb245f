"""Data parallel training: processes that torchrun started share every batch."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor, distributed

from nas.core.errors import NasError
from nas.training.runtime import pick_device
from nas.training.settings import TrainSettings

_TORCHRUN_VARIABLES: Final = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_ADDRESS: Final = ("MASTER_ADDR", "MASTER_PORT")
_ADVICE: Final = "start all processes by torchrun, or unset it for a process on its own"


def _all_reduce(tensor: Tensor) -> None:
    distributed.all_reduce(tensor)  # which torch has not where it was built without distributed


class ProcessPlace(NamedTuple):
    """Place of a process among ``size`` of a group, and on its machine."""

    rank: int
    size: int
    local_rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessGroup:
    """Processes that train the same weights, each on its share of every batch.

    Without arguments: a process on its own. ``device``: of the tensors that are exchanged. ``sum_in_place`` adds a
    tensor over all processes, in each of them.
    """

    rank: int = 0
    size: int = 1
    device: torch.device | str = "cpu"
    sum_in_place: Callable[[Tensor], object] = _all_reduce

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """Return this process's part of a batch; sizes of parts differ by one at most."""
        return batch.tensor_split(self.size)[self.rank]

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of ``value`` over all processes. Raises: NasError if one ended."""
        if self.size == 1:
            return value
        total = value.clone()
        try:
            self.sum_in_place(total)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise NasError(f"torchrun: another of the {self.size} processes ended; see its error ({reason}).") from None
        return total

    def sum_gradients(self, weights: Iterable[Tensor]) -> None:
        """Replace gradients by their sums over all processes, by one message.

        All processes must have gradients of the same weights.
        """
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        if self.size == 1 or not gradients:
            return
        total = self.sum(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        for gradient, part in zip(
            gradients, torch.split(total, [gradient.numel() for gradient in gradients]), strict=True
        ):
            gradient.copy_(part.view(gradient.shape))

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.sum(torch.zeros((), device=self.device))

    def check_equal(self, value: int, message: str) -> None:
        """Raise ``message`` as NasError unless all processes have the same ``value``."""
        values = torch.zeros(self.size, dtype=torch.int64, device=self.device)
        values[self.rank] = value
        if len(set(self.sum(values).tolist())) > 1:
            raise NasError(message)


def process_place() -> ProcessPlace | None:
    """Read the place that torchrun gave this process; None for one on its own.

    Raises: NasError if the environment is incomplete or contradicts itself.
    """
    given = [name for name in _TORCHRUN_VARIABLES if name in os.environ]
    if not given or os.environ.get("WORLD_SIZE") == "1":
        return None
    missing = [name for name in (*_TORCHRUN_VARIABLES, *_ADDRESS) if not os.environ.get(name)]
    if missing:
        raise NasError(f"environment: has {', '.join(given)}, but not {', '.join(missing)}; {_ADVICE}.")
    size = _number("WORLD_SIZE", low=1, high=1_000_000)
    return ProcessPlace(
        rank=_number("RANK", low=0, high=size - 1), size=size, local_rank=_number("LOCAL_RANK", low=0, high=size - 1)
    )


def is_first_process() -> bool:
    """Whether this process prints, as the only or the first one. Raises: NasError."""
    place = process_place()
    return place is None or place.rank == 0


def check_single_process() -> None:
    """Check that torchrun did not start this process among others. Raises: NasError."""
    if all(name in os.environ for name in _TORCHRUN_VARIABLES) and (place := process_place()) is not None:
        raise NasError(
            f"torchrun: started {place.size} processes, each of which would run the whole study; start it with "
            "python -m, and set engine.workers for several at a time. torchrun is for nas.train and nas.supernet alone."
        )


def join_process_group(settings: TrainSettings) -> ProcessGroup:
    """Join the group of the processes that torchrun started; once per process.

    They communicate by NCCL where ``settings`` train on CUDA, each on the GPU of its local rank, else by Gloo.

    Raises: NasError if the environment is wrong, there are fewer GPUs than processes, or the others do not answer.
    """
    place = process_place()
    if place is None:
        return ProcessGroup()
    if not distributed.is_initialized():
        _initialize(place, pick_device(settings), settings.group)
    return ProcessGroup(rank=place.rank, size=place.size, device=pick_device(settings))


def _initialize(place: ProcessPlace, device: torch.device, group: str) -> None:
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if place.local_rank >= count:
            raise NasError(
                f"LOCAL_RANK {place.local_rank}: this machine has {count} GPUs; start torchrun with "
                f"--nproc-per-node={count}, or add {group}.device=cpu."
            )
        torch.cuda.set_device(place.local_rank)
    try:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        address = ":".join(os.environ[name] for name in _ADDRESS)
        raise NasError(f"torchrun: no connection at {address} ({str(error).splitlines()[0]}); {_ADVICE}.") from None
    atexit.register(distributed.destroy_process_group)


def _number(name: str, *, low: int, high: int) -> int:
    text = os.environ[name]
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise NasError(f"environment: {name} {text!r} must be a whole number from {low} to {high}; {_ADVICE}.")
    return int(text)
