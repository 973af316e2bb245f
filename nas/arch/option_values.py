"""Values of the options of block strings, in either notation."""

from __future__ import annotations

from typing import Final

from nas.arch.limits import MAX_BLOCK_STRING, MAX_GROUPS
from nas.core.errors import SpecError
from nas.core.validation import MAX_DIGITS, is_whole_text

_MAX_NUMBER: Final = 24  # characters, those of the longest float


def check_length(text: str) -> None:
    """Refuse a block string that is too long to be one.

    Raises: SpecError.
    """
    if len(text) > MAX_BLOCK_STRING:
        raise SpecError(f"block {_shortened(text)!r}: has more than {MAX_BLOCK_STRING} characters.")


def whole_option(key: str, text: str) -> int:
    """Value of the option ``key``, a whole number.

    Raises: SpecError.
    """
    if not is_whole_text(text):
        raise SpecError(
            f"option {_shortened(key + text)!r}: needs a whole number of at most {MAX_DIGITS} digits after {key!r}."
        )
    return int(text)


def real_option(key: str, text: str) -> float:
    """Value of the option ``key``, a number.

    Raises: SpecError.
    """
    try:
        if text.isascii() and len(text) <= _MAX_NUMBER:
            return float(text)
    except ValueError:
        pass
    raise SpecError(f"option {_shortened(key + text)!r}: needs a number after {key!r}.")


def parse_kernels(text: str) -> tuple[int, ...]:
    """Parse kernel sides: ``"3.5.7"`` or ``"k3.5.7"`` to ``(3, 5, 7)``.

    The prefix keeps dashboards from reading the value as a number.

    Raises: SpecError.
    """
    sides = text.removeprefix("k").split(".")
    if len(sides) > MAX_GROUPS:
        raise SpecError(f"kernels {_shortened(text)!r}: {len(sides)} sides; at most {MAX_GROUPS} are allowed.")
    if not all(map(is_whole_text, sides)):
        raise SpecError(f"kernels {_shortened(text)!r}: must be whole numbers joined by dots, such as 3.5.7.")
    return tuple(int(side) for side in sides)


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}..."
