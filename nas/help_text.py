"""Help texts that fit a terminal of 80 columns: paragraphs, and lists of settings with what they do."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Final

WIDTH: Final = 80
_COLUMN: Final = 24
_INDENT: Final = "  "

Entry = tuple[str, str]


def paragraph(text: str, *, hanging: str = "") -> str:
    """``text`` in lines, all but the first of them behind ``hanging``."""
    return textwrap.fill(
        " ".join(text.split()), WIDTH, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False
    )


def title(docstring: str | None) -> str:
    """The docstring of a command's module, without its mark-up."""
    return paragraph((docstring or "").replace("``", ""))


def entries(pairs: Iterable[Entry]) -> str:
    """A name and what it does to each line or more; a long name has a line of its own."""
    return "\n".join(_entry(name, text) for name, text in pairs)


def _entry(name: str, text: str) -> str:
    indent = " " * _COLUMN
    if len(_INDENT + name) < _COLUMN - 1:
        return paragraph_behind(f"{_INDENT}{name}".ljust(_COLUMN), indent, text)
    return f"{paragraph_behind(_INDENT, _INDENT, name)}\n{paragraph_behind(indent, indent, text)}" if text else ""
