"""Detection of out-of-memory errors, and release of the memory they hold."""

from __future__ import annotations

import gc
import traceback
from typing import Final

import torch

# Texts of plain RuntimeErrors by CUDA's driver, torch's CPU allocator, cuDNN and cuBLAS.
_OUT_OF_MEMORY_TEXTS: Final = ("out of memory", "can't allocate memory", "ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` means out of memory, on the device or on the host."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY_TEXTS)
    )


def release_memory(error: BaseException) -> None:
    """Free the memory referenced by the traceback of ``error``, and CUDA's cache.

    A stored exception keeps the local variables of its frames alive: here a network, its gradients and activations.
    """
    traceback.clear_frames(error.__traceback__)
    gc.collect()  # reference cycles
    torch.cuda.empty_cache()  # no-op if CUDA is not initialised
