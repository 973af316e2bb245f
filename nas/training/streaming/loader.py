"""Processes that decode and augment the images of batches."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from nas.core.errors import NasError
from nas.data import ImageSet, silent_pillow
from nas.training.streaming.draws import restored_global_states, seed_global_states
from nas.training.streaming.parent_death import die_with_parent
from nas.training.streaming.transforms import Pixels, TrainTransform, ValTransform, is_of_one_colour

_MOST_AUTOMATIC: Final = 8
_END_S: Final = 5.0  # most time between a process's lost connection and its end
_ADVICE: Final = "set fewer, or 0, if memory or shared memory (/dev/shm) is short. The same command goes on."
_VAL_EPOCH: Final = 0  # epochs of training are counted from 1


class BatchRequest(NamedTuple):
    """Rows of a batch: of the train images in ``epoch``, or of validation (0)."""

    epoch: int
    rows: list[int]

    @classmethod
    def of_validation(cls, rows: list[int]) -> BatchRequest:
        """The request for validation images."""
        return cls(_VAL_EPOCH, rows)

    @property
    def is_train(self) -> bool:
        """Whether it is for train images."""
        return self.epoch != _VAL_EPOCH


class LoadingError(NamedTuple):
    """Message of an error in a loader process.

    Raised there, torch would add the process's traceback to it.
    """

    message: str


class BatchImages(Dataset[Tensor | LoadingError]):
    """Batches of images by ``BatchRequest``.

    They are uint8 (B, C, H, W), channels last in memory. A batch depends on ``seed`` and the request alone.
    """

    def __init__(self, images: ImageSet, train: TrainTransform, val: ValTransform, seed: int) -> None:
        self._images, self._train, self._val, self._seed = images, train, val, seed

    def __getitem__(self, request: BatchRequest) -> Tensor | LoadingError:
        is_train = request.is_train
        try:
            with restored_global_states(), silent_pillow():
                pixels = np.stack(
                    [self._augmented(row, request.epoch) if is_train else self._validation(row) for row in request.rows]
                )
            return sendable(torch.from_numpy(pixels)).permute(0, 3, 1, 2)
        except NasError as error:
            return LoadingError(str(error))

    def _augmented(self, row: int, epoch: int) -> Pixels:
        seed_global_states(self._seed, epoch, row)
        with self._images.open("train", row) as image:
            crop = self._train.crop(image)
        if epoch == 1 and is_of_one_colour(crop):  # as the whole image may be
            self._images.check_row(row)
        return self._train.augment(crop)

    def _validation(self, row: int) -> Pixels:
        with self._images.open("val", row) as image:
            return self._val(image)


class BatchLoader:
    """Loads requested batches in this process, or ahead in ``workers`` others.

    The processes start with the first request and end with this object, with its process, or when they fail.
    """

    def __init__(self, batches: BatchImages, workers: int, *, pin_memory: bool) -> None:
        self._batches, self._workers, self._pin_memory = batches, workers, pin_memory
        self._requests = _Requests()
        self._loader: DataLoader[Any] | None = None
        self._processes: Collection[BaseProcess] = ()
        self._end: Callable[[], object] = _nothing

    def load(self, requests: list[BatchRequest]) -> Iterator[Tensor]:
        """Yield the images of ``requests``, uint8 (B, C, H, W).

        An earlier iteration that has not ended must not be continued.

        Raises: NasError for an image that cannot be loaded, or if a process ended.
        """
        found = self._from_processes(requests) if self._workers else map(self._batches.__getitem__, requests)
        for images in found:
            if isinstance(images, LoadingError):
                self.close()
                raise NasError(images.message)
            yield images

    def close(self) -> None:
        """End the processes, which the next request starts anew.

        On its own a ``DataLoader`` takes 5 s for it while the traceback of an error refers to it.
        """
        self._end()
        self._loader, self._processes, self._end = None, (), _nothing

    def _from_processes(self, requests: list[BatchRequest]) -> Iterator[Tensor | LoadingError]:
        self._requests.list = requests
        try:
            yield from self._started() if self._loader is None else self._loader
        except (RuntimeError, OSError, EOFError) as error:
            reason = self._reason(error)
            self.close()
            if str(error).startswith("Caught "):  # a mistake in the code that the process ran, with its traceback
                raise
            raise NasError(
                f"recipe.loader_workers {self._workers}: a process that loads images failed ({reason}); {_ADVICE}"
            ) from None

    def _reason(self, error: Exception) -> str:
        """What went wrong with a process, in a few words.

        Of one that ended it may be its connection that is noticed first.
        """
        if isinstance(error, OSError | EOFError):
            wait([process.sentinel for process in self._processes], _END_S)
            for process in self._processes:
                if process.exitcode is not None:
                    return f"DataLoader worker (pid {process.pid}) ended with exit code {process.exitcode}"
        return (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")

    def _started(self) -> Iterator[Tensor | LoadingError]:
        """Start the processes and their first iteration."""
        self._loader, before = self._data_loader(), set(multiprocessing.active_children())
        with _starting_processes():
            found = iter(self._loader)
        processes = self._processes = set(multiprocessing.active_children()) - before
        lock = found._workers_done_event._cond  # type: ignore[attr-defined]
        self._end = weakref.finalize(self, _kill, processes, lock)
        return found

    def _data_loader(self) -> DataLoader[Any]:
        return DataLoader(
            self._batches,
            batch_size=None,
            sampler=self._requests,
            num_workers=self._workers,
            persistent_workers=True,
            collate_fn=_unchanged,
            worker_init_fn=_begin_worker,
            pin_memory=self._pin_memory,
            generator=torch.Generator(),  # otherwise it draws from torch's global random state
        )


class _Requests:
    """Requests of the next iteration."""

    def __init__(self) -> None:
        self.list: list[BatchRequest] = []

    def __iter__(self) -> Iterator[BatchRequest]:
        return iter(self.list)


def automatic_workers(device: torch.device, threads: int, processes: int) -> int:
    """Number of loader processes for each of ``processes`` trainings on this machine.

    As many as processor cores are left beside the training's ``threads``, one on CUDA, and at most 8.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    free = cores // processes - (1 if device.type == "cuda" else threads)
    return max(0, min(free, _MOST_AUTOMATIC))


def sendable(images: Tensor) -> Tensor:
    """Return a tensor of a batch, moved to shared memory if this is a loader process.

    Where there is none, torch would wait forever. Raises: NasError.
    """
    if get_worker_info() is not None:
        try:
            images.share_memory_()  # type: ignore[no-untyped-call]
        except (RuntimeError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise NasError(f"recipe.loader_workers: images cannot be handed over ({reason}); {_ADVICE}") from None
    return images


def _nothing() -> None:
    return None


def _kill(processes: Iterable[BaseProcess], lock: Any) -> None:
    """End processes and release the lock of torch's event for their end.

    A process that ends while it looks at the event keeps the lock, and torch would wait for it forever.
    """
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
    lock.acquire(False)
    lock.release()


def _unchanged(images: Any) -> Any:
    return images


def _begin_worker(worker: int) -> None:
    """Prepare a loader process, which ends with its parent and prints nothing.

    Ctrl-C, which reaches all processes of a terminal, does not end it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform.startswith("linux"):
        die_with_parent()
    warnings.simplefilter("ignore")


@contextmanager
def _starting_processes() -> Iterator[None]:
    """Context in which processes start as ``_begin_worker`` wants them to.

    Ctrl-C is held back, which would end them with a traceback before they ignore it. The handler of SIGCHLD is
    restored: torch sets its own, which raises wherever the training happens to be when a loader process ends. Without
    it the next batch raises.
    """
    if not hasattr(signal, "SIGCHLD"):  # Windows
        yield
        return
    handler = signal.getsignal(signal.SIGCHLD)
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, handler)
