"""Validated construction of dataclasses from plain mappings.

Spec files and configurations become objects here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from typing import Any, Final, TypeVar

from nas.core.errors import NasError, quoted, suggestion

T = TypeVar("T")

_SCALARS: Final[dict[str, tuple[type, ...]]] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "bool": (bool,),
    "None": (type(None),),
}


def from_mapping(kind: type[T], data: object, where: str, *, error: type[NasError] = NasError) -> T:
    """Build the dataclass ``kind`` from a mapping of its fields.

    ``where``: the dotted name with which error messages begin. Only scalar annotations are checked here; everything
    else is checked by the dataclass' own ``__post_init__``.

    Raises: ``error`` for unknown, missing and badly typed fields, naming the field, the value and what is allowed.
    """
    prefix = f"{where}." if where else ""
    if not isinstance(data, Mapping):
        raise error(f"{where}: must be a mapping, not {quoted(data)}.")
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            near = suggestion(str(key), known)
            raise error(f"{prefix}{_shown_key(key)}: unknown field; choose from {', '.join(known)}.{near}")
    for name, item in known.items():
        if item.default is MISSING and item.default_factory is MISSING and name not in data:
            raise error(f"{prefix}{name}: missing; give it a value.")
    for key, value in data.items():
        _check_scalar(prefix + key, value, str(known[key].type), error)
    try:
        return kind(**{key: value for key, value in data.items()})
    except NasError as problem:
        raise error(_with_location(str(problem), where, known)) from None


def _shown_key(key: object) -> str:
    """``key`` as a word of a dotted name, shortened if it is long."""
    return key if isinstance(key, str) and len(key) <= 80 else quoted(key)


def _with_location(text: str, where: str, known: Collection[str]) -> str:
    """Prefix an error message with its location ``where``, unless it already has it.

    ``known``: the field names of the class that raised the message.
    """
    if not where or re.match(rf"(unknown )?{re.escape(where)}[ .:]", text):
        return text
    # Most messages begin with the field's own name, which is appended to the location; others follow it after a colon.
    return f"{where}.{text}" if text.split(maxsplit=1)[0].rstrip(":") in known else f"{where}: {text}"


def _check_scalar(where: str, value: Any, annotation: str, error: type[NasError]) -> None:
    """Check a scalar ``value`` against the type ``annotation`` of its field.

    YAML reads ``yes`` as a boolean and ``1e-5`` as a string.
    """
    kinds = [part.strip() for part in annotation.split("|")]
    if any(kind not in _SCALARS for kind in kinds):
        return
    allowed = tuple(kind for name in kinds for kind in _SCALARS[name])
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        names = {
            "int": "a whole number",
            "float": "a number",
            "str": "a string",
            "bool": "true or false",
            "None": "null",
        }
        raise error(f"{where}: {quoted(value)} is not {' or '.join(names[kind] for kind in kinds)}.")
