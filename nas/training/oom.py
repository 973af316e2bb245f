"""Out-of-memory errors: detection, release of memory, and an error that names it."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from nas.training.results import OutOfMemoryError

# Texts of plain RuntimeErrors by CUDA's driver, torch's CPU allocator, cuDNN and cuBLAS.
_OUT_OF_MEMORY_TEXTS: Final = ("out of memory", "can't allocate memory", "ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` means out of memory, on the device or on the host."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY_TEXTS)
    )


@contextmanager
def named_out_of_memory(at: str, advice: str) -> Iterator[None]:
    """Context in which running out of memory is an ``OutOfMemoryError``, in one line.

    ``at``: the setting that decides what is needed, with its value; ``advice``: what to do. The memory is released.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        release_memory(error)
        raise OutOfMemoryError(f"out of memory at {at}: {advice}.") from None


def release_memory(error: BaseException) -> None:
    """Free the memory referenced by the traceback of ``error``, and CUDA's cache.

    A stored exception keeps the local variables of its frames alive: here a network, its gradients and activations.
    """
    traceback.clear_frames(error.__traceback__)
    gc.collect()  # reference cycles
    torch.cuda.empty_cache()  # no-op if CUDA is not initialised
