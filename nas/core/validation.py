"""Range checks shared by dataclasses, so that equal mistakes read alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from nas.core.errors import NasError, SpecError, quoted

MAX_DIGITS: Final = 9  # of a whole number in a text, such as a block string or a cell of a table
MAX_FIGURE: Final = 1e12  # of numbers whose field has no bound of its own
MAX_THREADS: Final = 1024
MAX_SEED: Final = 2**31 - 1  # numpy and scikit-learn take 32 bits, and seeds of trials are added to it


def is_whole_text(text: str) -> bool:
    """Whether ``text`` is a whole number of at most ``MAX_DIGITS`` ASCII digits."""
    return text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS


def check_number(
    field: str,
    value: object,
    *,
    low: float,
    high: float = MAX_FIGURE,
    open_low: bool = False,
    open_high: bool = False,
    whole: bool = False,
    optional: bool = False,
) -> None:
    """Check that ``value`` is a finite number in the range ``low`` to ``high``.

    ``field``: the dotted name for the message. ``high`` is 10^12 unless the field has a bound of its own. ``open_low``
    and ``open_high`` exclude the bound itself, ``whole`` requires an int, ``optional`` allows None.

    Raises: NasError.
    """
    if optional and value is None:
        return
    is_large = False
    # A bool is an int in Python, but never a valid number in a config. Comparisons are false for NaN.
    if isinstance(value, int if whole else int | float) and not isinstance(value, bool):
        above = value > low if open_low else value >= low
        below = value < high if open_high else value <= high
        if above and below:
            return
        is_large = above and not below
    kind = "a whole number" if whole else "a number"
    lower = f"above {low:g}" if open_low else f"of at least {low:g}"
    bound = str(int(high)) if high == int(high) < 1e10 else f"{high:g}"
    upper = f" and below {bound}" if open_high else f" and at most {bound}"
    if high == MAX_FIGURE and not is_large:
        upper = ""  # not the mistake
    raise NasError(f"{field} {quoted(value)}: must be {kind} {lower}{upper}{', or null' if optional else ''}.")


def check_whole(field: str, value: object, *, minimum: int, maximum: int | None = None) -> None:
    """Check that a spec's ``value`` is an int from ``minimum`` to ``maximum``.

    ``field``: its name for the message.

    Raises: SpecError.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise SpecError(f"{field} {quoted(value)}: must be a whole number of at least {minimum}.")
    if maximum is not None and value > maximum:
        raise SpecError(f"{field} {quoted(value)}: must be at most {maximum}.")


def check_figures(
    field: str, data: object, *, low: float, high: float = MAX_FIGURE, open_low: bool = False
) -> dict[str, float]:
    """Check that ``data`` is a mapping of names to numbers, and return it.

    The numbers are in the range ``low`` to ``high``. ``field``: its dotted name, for the message.

    Raises: NasError.
    """
    if not isinstance(data, Mapping) or not all(isinstance(name, str) for name in data):
        raise NasError(f"{field}: must be a mapping of names to numbers, not {quoted(data)}.")
    for name, value in data.items():
        check_number(f"{field}.{name}", value, low=low, high=high, open_low=open_low)
    return dict(data)
