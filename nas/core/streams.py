"""Standard output and error of commands: closed ones, narrow encodings, lines.

Loads no rich: ``--help`` and errors are printed by it too.
"""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Final, TextIO

from nas.core.formatting import escape_controls

_ENCODING_ERRORS: Final = "nas.replace"
# What an ASCII terminal shows for characters of our own texts; all others are shown as escapes.
_ASCII: Final = {
    "–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "…": "...", "×": "x", "·": "*", "±": "+-", "²": "2",  # noqa: RUF001
    "µ": "u", "≤": "<=", "≥": ">=", "→": "->", "\xa0": " ",
}  # fmt: skip


def prepare_streams() -> None:
    """Make standard output and error able to take any text.

    A stream that was closed (``>&-``) discards it: a file opened later would otherwise get its number, and with it
    whatever a library prints. Characters that the encoding lacks are replaced by ASCII ones or by escapes.
    """
    codecs.register_error(_ENCODING_ERRORS, _replaced)
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, _discarding(number))
        with suppress(AttributeError):  # a stream of other software need not be able to
            getattr(sys, name).reconfigure(errors=_ENCODING_ERRORS)


def write_lines(*lines: str, stream: TextIO | None = None) -> None:
    """Write lines to ``stream`` (None: standard output), control characters escaped."""
    target = sys.stdout if stream is None else stream
    target.write("".join(f"{escape_controls(line)}\n" for line in lines))
    target.flush()


def write_error(*lines: str) -> None:
    """Write lines to standard error, or nowhere if nobody reads that any more."""
    with suppress(OSError):
        write_lines(*lines, stream=sys.stderr)


def write_unbuffered(stream: IO[str], line: str) -> None:
    """Write a line from a signal handler.

    Past the buffer of ``stream``, a write to which may be what the signal interrupted.
    """
    with suppress(OSError, ValueError):
        encoding = getattr(stream, "encoding", None) or "utf-8"
        os.write(stream.fileno(), f"{escape_controls(line)}\n".encode(encoding, "backslashreplace"))


def discard_output() -> None:
    """Discard what is still to be written to an output that nobody reads any more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


@contextmanager
def silenced_standard_error() -> Iterator[None]:
    """Context in which what is written to file descriptor 2 is discarded.

    For native libraries that report there, in the midst of a progress bar, and have no setting against it.
    """
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _discarding(number: int) -> TextIO:
    """A stream to nowhere that occupies the file descriptor ``number`` if it is free."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    try:
        os.fstat(number)
    except OSError:
        os.dup2(nowhere, number)
    if nowhere == number:
        return os.fdopen(number, "w", encoding="utf-8")
    os.close(nowhere)
    return os.fdopen(number, "w", encoding="utf-8", closefd=False)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Encoding error handler: ASCII in place of characters that cannot be encoded."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    failed = error.object[error.start : error.end]
    return "".join(_ASCII.get(one) or escape_controls(one, ascii_only=True) for one in failed), error.end
