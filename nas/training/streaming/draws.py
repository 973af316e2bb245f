"""Random draws as functions of seed, epoch and image, and not of who draws them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def draw_seed(*parts: int | str) -> int:
    """Hash ``parts``, such as seed, epoch and row, to a seed of 63 bits."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_global_states(*parts: int | str) -> None:
    """Seed the global random states of Python, numpy and torch's CPU.

    Augmentations draw from them. Seeding all devices of torch would interfere with a training on CUDA.
    """
    seed = draw_seed(*parts)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


@contextmanager
def restored_global_states() -> Iterator[None]:
    """Context that restores the global random states of Python, numpy and torch's CPU."""
    python, numpy, of_torch = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.default_generator.set_state(of_torch)


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """Draw the order of ``count`` images in an epoch, int64 (count,)."""
    generator = torch.Generator().manual_seed(draw_seed(seed, epoch, "order"))
    return torch.randperm(count, generator=generator)
