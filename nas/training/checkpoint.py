"""A file that a killed training goes on from: written whole or not at all, read only by the training it belongs to."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from nas.core.errors import NasError
from nas.core.files import write_bytes_atomically
from nas.core.version import __version__
from nas.data.images import ImageData
from nas.training.settings import TrainSettings

_log = logging.getLogger(__name__)


class Checkpoint:
    """The state of one training at ``path``, written every ``every_s`` seconds of training.

    ``fingerprint`` says which training (``training_fingerprint``). A checkpoint is a convenience: one that cannot be
    written or read costs time, never the training; the log says so at level INFO. Plain containers and tensors alone
    are read back, so that no file can run code.
    """

    def __init__(self, path: Path, fingerprint: str, every_s: float) -> None:
        self._path = path
        self._fingerprint = fingerprint
        self._every_s = every_s
        self._unsaved_s = 0.0

    def load(self) -> dict[str, Any] | None:
        """The state that was saved, on the CPU; None where there is no whole file of this very training."""
        try:
            data = self._path.read_bytes()
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                damaged = archive.testzip()  # torch checks no sums
            found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            if damaged is None and found["fingerprint"] == self._fingerprint:
                return dict(found["state"])
            _log.info("checkpoint %s is damaged or of another training: starting anew", self._path)
        except FileNotFoundError:
            pass
        except Exception as error:  # a file of any content raises from many hierarchies
            _log.info("checkpoint %s cannot be read, starting anew: %s", self._path, error)
        return None

    def advance(self, duration_s: float, state: Callable[[], Mapping[str, Any]]) -> None:
        """Count ``duration_s`` seconds more of training, and save ``state`` if it is time.

        ``state`` gives plain containers and tensors. On a full disk the file before stays as it was.
        """
        self._unsaved_s += duration_s
        if self._unsaved_s < self._every_s:
            return
        buffer = io.BytesIO()
        torch.save({"fingerprint": self._fingerprint, "state": state()}, buffer)
        try:
            write_bytes_atomically(self._path, buffer.getvalue())
            self._unsaved_s = 0.0
        except (OSError, NasError) as error:
            _log.info("no checkpoint at %s: %s", self._path, error)


def open_checkpoint(
    path: Path | None, model: nn.Module, data: ImageData, settings: TrainSettings, *, seed: int, device: torch.device
) -> Checkpoint | None:
    """The checkpoint at ``path`` of the training that is about to begin; None where none is wanted."""
    if path is None or settings.checkpoint_s is None:
        return None
    return Checkpoint(
        path, training_fingerprint(model, data, settings, seed=seed, device=device), settings.checkpoint_s
    )


def training_fingerprint(
    model: nn.Module, data: ImageData, settings: TrainSettings, *, seed: int, device: torch.device
) -> str:
    """A hash of all that a training's numbers follow from; call it before the first step.

    That is the network with its initial weights, the images (by their number, side and statistics), settings, seed,
    kind of device and the versions of torch, timm and this package.
    """
    facts = {
        "network": repr(model),
        "images": [data.train_images.shape, data.val_images.shape, data.mean, data.std, data.classes, data.flips],
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
