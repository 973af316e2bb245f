"""Files of exported networks: one, or a description with its weights beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nas.core.errors import NasError
from nas.core.files import write_bytes_atomically

_MOST_REASON: Final = 200  # characters of what a runtime says


def read_model(path: Path) -> bytes:
    """Content of a network's file. Raises: NasError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise NasError(f"{path}: cannot be read: {error.strerror}.") from None


def unopened(path: Path | str, runtime: str, error: Exception) -> NasError:
    """Error about a network that ``runtime`` cannot open.

    It has what the runtime says, in one line. ``path``: of its file, or what it is.
    """
    reason = " ".join(str(error).split()).rstrip(".!")[:_MOST_REASON] or type(error).__name__
    return NasError(f"{path}: {runtime} cannot open it ({reason}).")


def weights_path(path: Path) -> Path:
    """File of weights that belongs to the description at ``path``."""
    return path.with_suffix(".bin")


def write_pair(path: Path, description: bytes, weights: bytes) -> tuple[Path, ...]:
    """Write a description to ``path``, and its weights beside it; returns both.

    The weights come first, so that no description is ever without them. Raises: NasError if a file cannot be written.
    """
    write_bytes_atomically(weights_path(path), weights)
    write_bytes_atomically(path, description)
    return path, weights_path(path)


def check_pair(path: Path, runtime: str) -> None:
    """Check that both files are there.

    Raises: NasError that names the one that is missing.
    """
    for file in (path, weights_path(path)):
        if not file.is_file():
            raise NasError(f"{file}: there is no such file; {runtime} reads {path.name} and {weights_path(path).name}.")
