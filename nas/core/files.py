"""Atomic file writes, and the hash of a file."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from nas.core.errors import NasError


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, hex. Raises: OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_text_atomically(path: Path, text: str) -> None:
    """Write ``text`` in UTF-8 by ``write_bytes_atomically``.

    Undecodable bytes of a file's name, which Python holds as surrogates, become escapes.
    """
    write_bytes_atomically(path, text.encode(errors="backslashreplace"))


def write_bytes_atomically(path: Path, data: bytes) -> None:
    """Write a file atomically: no reader and no crash ever sees a partial file.

    Creates the parent folder if it does not exist.

    Raises: NasError if the folder cannot be created or written to, and if the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = temporary.open("xb")  # tempfile would set mode 0600, unreadable for other users
    except OSError as error:
        raise NasError(f"cannot write {str(path)!r}: {error.strerror}; choose a writable folder.") from None
    try:
        with stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())  # otherwise a power failure could leave the new name without its content
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise NasError(
                f"cannot write {str(path)!r}: {error.strerror}; free some disk space and try again."
            ) from None
        raise
