"""Settings that speed up training, same results up to rounding; random state."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from nas.core.errors import NasError
from nas.model.acceleration import fast_layers
from nas.training.settings import TrainSettings

# In-place SiLU saves a copy of its input for the backward pass; out of place it moves less memory and a step is 3 to 7%
# faster. Hard-swish copies too, but showed no gain in measurements (tests/benchmarks/proxy.py).
_COPYING_IN_PLACE: Final = (nn.SiLU,)

# torch's own optimizers, which update all parameters in one pass when told so; on CPU that is not their default.
_FUSED: Final = ("sgd", "momentum", "adam", "adamw")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_RETAINED_BYTES: Final = 2**31 - 1
_MMAP_BYTES: Final = (2**30, 2**25)  # the second is the maximum of older glibc versions


def pick_device(settings: TrainSettings) -> torch.device:
    """Resolve ``settings.device`` on this machine; ``auto`` prefers CUDA.

    Raises: NasError if CUDA is requested and not available.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise NasError(
            f"{settings.group}.device: cuda is not available here; set {settings.group}.device=cpu or install a CUDA "
            "build of torch."
        )
    if settings.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


@functools.cache
def retain_freed_memory() -> bool:
    """Make glibc's allocator retain freed memory; returns whether it succeeded.

    By default activations of many megabytes are mapped and unmapped in every step, and the system has to zero their
    pages: 2% of the time of a narrow network, about 20% where single activations reach 25 MB. The setting applies to
    the whole process, which retains up to 2 GiB.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library, such as musl
        return False
    accepted = any(mallopt(_M_MMAP_THRESHOLD, size) == 1 for size in _MMAP_BYTES)
    return accepted and mallopt(_M_TRIM_THRESHOLD, _RETAINED_BYTES) == 1


@contextmanager
def fast_training(model: nn.Module, device: torch.device, threads: int) -> Iterator[None]:
    """Context with the fastest known settings for training ``model`` on ``device``.

    All settings but ``retain_freed_memory`` are restored afterwards.
    """
    before = torch.get_num_threads()
    in_place = [m for m in model.modules() if isinstance(m, _COPYING_IN_PLACE) and m.inplace]
    benchmark = torch.backends.cudnn.benchmark
    if device.type == "cpu":
        retain_freed_memory()
    try:
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = True
        for module in in_place:
            module.inplace = False
        with fast_layers(model) if device.type == "cpu" else nullcontext():
            yield
    finally:
        torch.set_num_threads(before)
        torch.backends.cudnn.benchmark = benchmark
        for module in in_place:
            module.inplace = True


def fused_update(optimizer: str, device: torch.device) -> dict[str, Any]:
    """Return the argument of timm's ``optimizer`` for an update in one pass on CPU.

    Empty for those that have none, and on other devices.
    """
    return {"fused": True} if optimizer in _FUSED and device.type == "cpu" else {}


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[torch.Generator]:
    """Context that seeds torch and numpy; yields a seeded generator on ``device``.

    The previous global random states are restored afterwards.
    """
    numpy_state = np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # timm's Mixup draws from numpy's global state
        try:
            yield torch.Generator(device).manual_seed(seed)
        finally:
            np.random.set_state(numpy_state)


def random_state(generator: torch.Generator) -> dict[str, Any]:
    """Return all random states of ``seeded``, as plain containers and tensors."""
    return {"generator": generator.get_state(), **global_random_state(generator.device)}


def global_random_state(device: torch.device) -> dict[str, Any]:
    """Return the global random states of torch and numpy.

    As plain containers and tensors.
    """
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "numpy": [name, np.asarray(keys).tolist(), *rest],
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def set_random_state(generator: torch.Generator, state: Mapping[str, Any]) -> None:
    """Restore the random states that ``random_state`` returned."""
    generator.set_state(state["generator"])
    set_global_random_state(state, generator.device)


def set_global_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Restore the random states that ``global_random_state`` returned."""
    torch.set_rng_state(state["torch"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
