"""Range checks shared by dataclasses, so that equal mistakes read alike."""

from __future__ import annotations

import math

from nas.core.errors import NasError, SpecError, quoted


def check_number(
    field: str,
    value: object,
    *,
    low: float,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
    whole: bool = False,
    optional: bool = False,
) -> None:
    """Check that ``value`` is a finite number in the range ``low`` to ``high``.

    ``field``: the dotted name for the message. ``open_low`` and ``open_high`` exclude the bound itself, ``whole``
    requires an int, ``optional`` allows None.

    Raises: NasError.
    """
    if optional and value is None:
        return
    # A bool is an int in Python, but never a valid number in a config.
    if isinstance(value, int if whole else int | float) and not isinstance(value, bool) and math.isfinite(value):
        above = value > low if open_low else value >= low
        below = value < high if open_high else value <= high
        if above and below:
            return
    kind = "a whole number" if whole else "a number"
    lower = f"above {low:g}" if open_low else f"of at least {low:g}"
    upper = "" if math.isinf(high) else f" and below {high:g}" if open_high else f" and at most {high:g}"
    raise NasError(f"{field} {quoted(value)}: must be {kind} {lower}{upper}{', or null' if optional else ''}.")


def check_whole(field: str, value: object, *, minimum: int, maximum: int | None = None) -> None:
    """Check that a spec's ``value`` is an int from ``minimum`` to ``maximum``.

    ``field``: its name for the message.

    Raises: SpecError.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise SpecError(f"{field} {quoted(value)}: must be a whole number of at least {minimum}.")
    if maximum is not None and value > maximum:
        raise SpecError(f"{field} {value}: must be at most {maximum}.")
