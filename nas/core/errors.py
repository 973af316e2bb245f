"""The one kind of error a user sees: what is wrong, what is allowed, what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NasError(ValueError):
    """A mistake that its maker can mend; commands print it as one line and exit with code 2."""


class SpecError(NasError):
    """A network description that contradicts itself or the notation it is written in."""


def quoted(value: object) -> str:
    """``value`` as its maker wrote it in YAML, where Python has another word for it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def suggestion(value: str, allowed: Iterable[str]) -> str:
    """' Did you mean X?' for the allowed word nearest to ``value``, or an empty string if none is near."""
    close = difflib.get_close_matches(value, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def unknown_choice(
    what: str, value: object, allowed: Iterable[object], *, error: type[NasError] = NasError
) -> NasError:
    """The error for a word that is not in a closed list: names the field, the value, the list, the nearest word."""
    words = [str(word) for word in allowed]
    return error(f"unknown {what} {quoted(value)}: choose from {', '.join(words)}.{suggestion(str(value), words)}")
