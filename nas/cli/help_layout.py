"""Help text formatting for 80-column terminals: paragraphs, option lists."""

from __future__ import annotations

import textwrap
from typing import Final

_WIDTH: Final = 80
_COLUMN: Final = 24

HelpEntry = tuple[str, str]


def paragraph(text: str) -> str:
    """Wrap ``text``, such as a docstring, and remove its markup."""
    return _filled(text.replace("``", ""), "", "")


def entries(*pairs: HelpEntry, column: int = _COLUMN) -> str:
    """Format names and their descriptions as a definition list.

    Descriptions start at ``column``; a name too long for that gets its own line above.
    """
    return "\n".join(_entry(name, text, column) for name, text in pairs)


def option_lines(command: str, *own: HelpEntry) -> str:
    """Help lines of ``own`` options of ``nas.<command>`` and the common ones."""
    script = f"nas-{command.replace('_', '-')}"
    return entries(
        *own,
        ("--cfg job", "prints the whole configuration and stops"),
        (f'eval "$({script} -sc install=bash)"', f"tab completion of {script}; also zsh, fish"),
    )


def _entry(name: str, text: str, column: int) -> str:
    indent = " " * column
    beside = f"  {name}".ljust(column)
    if len(beside) == column and beside.endswith(" "):
        return _filled(text, beside, indent)
    return f"{_filled(name, '  ', '  ')}\n{_filled(text, indent, indent)}"


def _filled(text: str, first: str, others: str) -> str:
    words = " ".join(text.split())
    return textwrap.fill(
        words, _WIDTH, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )
