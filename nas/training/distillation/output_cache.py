"""Outputs of a teacher in a file, for images that are the same in every epoch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from nas.training.distillation.loss import Teacher

_WRITTEN: Final = 1.0  # in the last column of a row that is complete


class CachedTeacher:
    """A teacher whose outputs are computed once for each image, and kept in a file.

    ``path``: a NumPy file of float32 (``count``, ``classes`` + 1), with one row per train image; the last column is 1
    where the row has been written. It grows while a training runs and is used by the same training when it goes on, or
    by another one with the same teacher and images (``cache_path``). Within an epoch each image occurs once, so that a
    batch is either known or not; one that is known in part is computed as a whole. A full disk costs the file, not the
    training: ``say`` gets a line for the user.
    """

    def __init__(
        self, teacher: Teacher, path: Path, *, count: int, classes: int, say: Callable[[str], object] = print
    ) -> None:
        self._teacher, self._path, self._say = teacher, path, say
        self._stored: np.ndarray | None = None
        try:
            self._stored = _open(path, (count, classes + 1))
        except OSError as error:
            self._give_up(error)

    def identity(self) -> list[Any]:
        """Return the identity of the teacher."""
        return self._teacher.identity()

    def targets(self, rows: Tensor, images: Tensor) -> Tensor:
        """Return the logits of ``images``, from the file or computed."""
        index = rows.cpu().numpy()
        found = None if self._stored is None else self._stored[index]
        if found is not None and bool((found[:, -1] == _WRITTEN).all()):
            return torch.from_numpy(found[:, :-1].copy()).to(images.device)
        computed = self._teacher.targets(rows, images)
        if self._stored is not None:
            self._write(index, computed)
        return computed

    def _write(self, index: np.ndarray, logits: Tensor) -> None:
        assert self._stored is not None
        values = np.full((len(index), self._stored.shape[1]), _WRITTEN, dtype=np.float32)
        values[:, :-1] = logits.cpu().numpy()
        # Not through the mapping, where a full disk would end the process by a signal.
        start, size = self._stored.offset, values.strides[0]  # type: ignore[attr-defined]
        try:
            with self._path.open("r+b", buffering=0) as file:
                for row, value in zip(index.tolist(), values, strict=True):
                    os.pwrite(file.fileno(), value.tobytes(), start + row * size)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._stored = None
        self._say(
            f"the teacher's outputs cannot be kept in {str(self._path)!r} ({error.strerror}): they are computed in "
            "every epoch."
        )


def cache_path(folder: Path, teacher: Teacher, images: list[Any], *, rank: int = 0) -> Path:
    """Return the file for the outputs of ``teacher`` on ``images``.

    ``images``: what the pixels depend on, as JSON data, with resolution, device and precision. ``rank``: of the
    process, each of which keeps those of its share.
    """
    facts = json.dumps([teacher.identity(), images, torch.__version__])
    key = hashlib.sha256(facts.encode()).hexdigest()[:12]
    return folder / f"teacher-{key}{f'-{rank}' if rank else ''}.npy"


def _open(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Map a file of float32 of ``shape``.

    It is made anew where it is missing, damaged or of another shape.

    Raises: OSError.
    """
    try:
        stored: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        if stored.shape == shape and stored.dtype == np.float32 and stored.flags.c_contiguous:
            return stored
    except (FileNotFoundError, ValueError, EOFError):
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 4 * shape[0] * shape[1])  # a hole: takes no space until it is written
    os.replace(temporary, path)
    made: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return made
