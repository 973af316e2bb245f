"""A training that ran out of memory: how one knows, and how the memory is had back."""

from __future__ import annotations

import gc
import traceback
from typing import Final

import torch

# Of errors that are no more than RuntimeErrors: CUDA's driver, torch's allocator on the CPU, cuDNN and cuBLAS.
_SAID: Final = ("out of memory", "can't allocate memory", "ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that there was no memory left, on the device or on the machine."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID)
    )


def release_memory(error: BaseException) -> None:
    """Free what the functions that ``error`` left still hold, and give it back to the device for its other users.

    An error that is kept keeps the variables of those functions: here a network, its gradients and activations.
    """
    traceback.clear_frames(error.__traceback__)
    gc.collect()  # what refers to itself
    torch.cuda.empty_cache()  # nothing where CUDA is not in use
