"""Writing files whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from nas.core.errors import NasError


def write_text_atomically(path: Path, text: str) -> None:
    """``write_bytes_atomically`` of ``text`` in UTF-8."""
    write_bytes_atomically(path, text.encode())


def write_bytes_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` so that a reader, or a crash, never meets half a file; makes the folder.

    Raises: NasError where the folder cannot be made or written to, and on a full disk.
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
