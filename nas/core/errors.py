"""Exceptions reported to the user, and helpers that word their messages.

A message says what is wrong, what is allowed and what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from nas.core.credentials import mask_credentials

_MAX_MESSAGE: Final = 6000  # characters; the longest of ours lists the experiments of a command
_MAX_VALUE: Final = 160  # characters of a value in a message
_MASKED_WITH: Final = 2000  # characters that follow, of which masking sees whether a URL has a password


class NasError(ValueError):
    """A user error; commands print it as one line and exit with code 2.

    Passwords in its message are masked, wherever the text comes from, and a message of more than 6000 characters is
    shortened.
    """

    def __init__(self, *parts: object) -> None:
        super().__init__(*(_shown(part) if isinstance(part, str) else part for part in parts))


class SpecError(NasError):
    """An invalid network description: inconsistent, or a violation of its notation."""


def _shown(text: str) -> str:
    """``text`` masked, cut at a blank if it is too long."""
    if len(text) > _MAX_MESSAGE:
        text = f"{text[:_MAX_MESSAGE].rpartition(' ')[0]} ..."
    return mask_credentials(text)


def quoted(value: object) -> str:
    """Format ``value`` as in YAML where Python's notation differs (null, true, false).

    A long one is shortened, with its length in characters.
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**_MAX_VALUE:
        return "a number of more than 160 digits"  # Python refuses to write the longest
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    if len(text) <= _MAX_VALUE:
        return text
    return f"{mask_credentials(text[: _MAX_VALUE + _MASKED_WITH])[:_MAX_VALUE]}... ({len(text):,} characters)"


def suggestion(value: str, allowed: Iterable[str]) -> str:
    """Format the allowed word nearest to ``value`` as " Did you mean 'X'?".

    An empty string if none is similar.
    """
    close = difflib.get_close_matches(value, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def unknown_choice(
    what: str, value: object, allowed: Iterable[object], *, error: type[NasError] = NasError
) -> NasError:
    """Build the error for a value that is not in a closed list.

    The message names the field ``what``, the value, the allowed values and the nearest of them.
    """
    choices = [str(choice) for choice in allowed]
    return error(f"unknown {what} {quoted(value)}: choose from {', '.join(choices)}.{suggestion(str(value), choices)}")
