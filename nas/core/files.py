"""Atomic file writes."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from nas.core.errors import NasError


def write_text_atomically(path: Path, text: str) -> None:
    """Write ``text`` in UTF-8 by ``write_bytes_atomically``."""
    write_bytes_atomically(path, text.encode())


def write_bytes_atomically(path: Path, data: bytes) -> None:
    """Write a file atomically: no reader and no crash ever sees a partial file.

    Creates the parent folder if it does not exist.

    Raises: NasError if the folder cannot be created or written to, and if the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = temporary.open("xb")  # not by tempfile, whose mode of 0600 would hide results from a team
    except OSError as error:
        raise NasError(f"cannot write {str(path)!r}: {error.strerror}; choose a folder that can be written.") from None
    try:
        with stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())  # or the new name may survive a power cut, and its content not
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise NasError(f"cannot write {str(path)!r}: {error.strerror}; make room, then try again.") from None
        raise
