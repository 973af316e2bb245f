"""Checkpoint file of a training, written atomically and bound to that training.

A fingerprint of network, data and settings ensures that only the training that wrote a checkpoint resumes from it.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import timm
import torch
from torch import nn

from nas.core.errors import NasError
from nas.core.files import write_bytes_atomically
from nas.core.version import __version__
from nas.training.settings import TrainSettings

_log = logging.getLogger(__name__)
_FORMAT: Final = 2  # with the state of the source of batches, and steps of an epoch


class Checkpoint:
    """State of one training at ``path``, written every ``every_s`` s of training.

    ``fingerprint`` identifies the training (``training_fingerprint``). Failure to read or write a checkpoint never
    fails the training; ``say`` gets a line about it, which is logged at level INFO by default. Only plain containers
    and tensors are loaded (``weights_only=True``), so that no file can run code.
    """

    def __init__(self, path: Path, fingerprint: str, every_s: float, say: Callable[[str], object] = _log.info) -> None:
        self.path = path
        self._fingerprint = fingerprint
        self._every_s = every_s
        self._say = say
        self._unsaved_s = 0.0

    def load(self) -> dict[str, Any] | None:
        """Load the saved state, tensors on the CPU, or None.

        None: the file is missing, damaged or of another training.
        """
        try:
            data = self.path.read_bytes()
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                damaged = archive.testzip()  # torch does not verify checksums
            stored = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            if damaged is None and stored["fingerprint"] == self._fingerprint:
                return dict(stored["state"])
            self._say(f"checkpoint {self.path} is not resumed: it is damaged or of another training")
        except FileNotFoundError:
            pass
        except Exception as error:  # arbitrary content raises errors of many types
            self._say(f"checkpoint {self.path} is not resumed, it cannot be read: {error}")
        return None

    def advance(self, duration_s: float, state: Callable[[], Mapping[str, Any]]) -> None:
        """Add ``duration_s`` s of training, and save ``state()`` if a checkpoint is due.

        ``state`` returns plain containers and tensors. On a full disk the previous file remains unchanged.
        """
        self._unsaved_s += duration_s
        if self._unsaved_s >= self._every_s:
            self.save(state)

    def save(self, state: Callable[[], Mapping[str, Any]]) -> None:
        """Save ``state()`` now, as ``advance`` does."""
        buffer = io.BytesIO()
        torch.save({"fingerprint": self._fingerprint, "state": state()}, buffer)
        try:
            write_bytes_atomically(self.path, buffer.getvalue())
            self._unsaved_s = 0.0
        except (OSError, NasError) as error:
            self._say(f"checkpoint {self.path} cannot be written, the training continues: {error}")


def open_checkpoint(
    path: Path | None,
    model: nn.Module,
    images: Sequence[Any],
    settings: TrainSettings,
    *,
    seed: int,
    device: torch.device,
    say: Callable[[str], object] = _log.info,
) -> Checkpoint | None:
    """Create the checkpoint of a training that is about to start, or None if disabled.

    Disabled: ``path`` or ``settings.checkpoint_s`` is None. Call before the first step (``training_fingerprint``).
    """
    if path is None or settings.checkpoint_s is None:
        return None
    fingerprint = training_fingerprint(model, images, settings, seed=seed, device=device)
    return Checkpoint(path, fingerprint, settings.checkpoint_s, say)


def training_fingerprint(
    model: nn.Module, images: Sequence[Any], settings: TrainSettings, *, seed: int, device: torch.device
) -> str:
    """Hash everything that determines the results of a training (SHA-256, hex).

    That is the network with its initial weights, the images (``BatchSource.identity``), settings, seed, device type and
    the versions of torch, timm, this package and the checkpoint's format. Call it before the first step.
    """
    facts = {
        "network": repr(model),
        "format": _FORMAT,
        "images": images,
        "settings": settings.identity(),
        "seed": seed,
        "device": device.type,
        "versions": [torch.__version__, timm.__version__, __version__],
    }
    digest = hashlib.sha256(json.dumps(facts).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
