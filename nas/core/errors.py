"""Exceptions reported to the user, and helpers that word their messages.

A message says what is wrong, what is allowed and what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from nas.core.credentials import mask_credentials
from nas.core.formatting import escape_controls

_SIMILAR: Final = 0.7  # below it, words only share letters: oracle and journal

_MAX_MESSAGE: Final = 6000  # characters; the longest of ours lists the experiments of a command
_MAX_VALUE: Final = 160  # characters of a value in a message
_MASKED_WITH: Final = 2000  # characters that follow, of which masking sees whether a URL has a password


class NasError(ValueError):
    """A user error; commands print it as one line and exit with code 2.

    Passwords in its message are masked and control characters escaped, wherever the text comes from, and a message of
    more than 6000 characters is shortened. ``choices``: lines of help that are printed below the message.
    """

    def __init__(self, *parts: object, choices: str = "") -> None:
        self.choices = choices
        super().__init__(*(_shown(part) if isinstance(part, str) else part for part in parts))

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\n{self.choices}" if self.choices else message


class SpecError(NasError):
    """An invalid network description: inconsistent, or a violation of its notation."""


def _shown(text: str) -> str:
    """``text`` masked, control characters escaped, cut at a blank if too long."""
    if len(text) > _MAX_MESSAGE:
        text = f"{text[:_MAX_MESSAGE].rpartition(' ')[0]} ..."
    return escape_controls(mask_credentials(text))


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

    In any case; an empty string if none is similar.
    """
    words = {word.lower(): word for word in allowed}
    close = difflib.get_close_matches(value.lower(), list(words), n=1, cutoff=_SIMILAR)
    return f" Did you mean {words[close[0]]!r}?" if close else ""


def unknown_choice(
    what: str, value: object, allowed: Iterable[object], *, error: type[NasError] = NasError
) -> NasError:
    """Build the error for a value that is not in a closed list.

    The message names the field ``what``, the value, the allowed values and the nearest of them.
    """
    choices = [str(choice) for choice in allowed]
    return error(f"unknown {what} {quoted(value)}: choose from {', '.join(choices)}.{suggestion(str(value), choices)}")
