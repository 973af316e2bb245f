"""Settings from Python as override strings of the command line."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Real
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from nas.core.errors import NasError, quoted

_KEY: Final = re.compile(r"[A-Za-z_][\w.]*")


def overrides_of(settings: Mapping[str, Any]) -> list[str]:
    """Convert ``settings`` to ``name=value`` strings of a command line.

    Nested mappings become dotted names: ``{"constraint": {"latency_ms": 20}}`` is ``constraint.latency_ms=20``.
    None becomes null, and text is quoted where Hydra would parse it differently (``"3"``, ``"a,b"``, ``"true"``).
    Raises: NasError for a value that is not text, a number, bool, None, a path, or a list or mapping of these.
    """
    return [f"{name}={_value(name, value)}" for name, value in _flat(settings)]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            where = f"{prefix.rstrip('.')}: " if prefix else ""
            raise NasError(f"{where}{quoted(key)} is not a setting's name; names are words, such as study.n_trials.")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _value(name: str, value: object, *, nested: bool = False) -> str:
    """Format ``value`` in Hydra's override grammar.

    ``nested``: the value is inside a list or a mapping.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        return repr(float(value)) if math.isfinite(value) else str(float(value))
    if isinstance(value, PathLike):
        value = fspath(value)
    if isinstance(value, str):
        return _text(name, value, nested=nested)
    if isinstance(value, Mapping):
        pairs = (f"{_text(name, str(key), nested=True)}:{_value(name, one, nested=True)}" for key, one in value.items())
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return "[" + ",".join(_value(name, one, nested=True) for one in value) + "]"
    raise NasError(
        f"{name}: type {type(value).__name__} is not allowed for a setting; give text, a number, a bool, None, a path, "
        "or a list or mapping of these."
    )


def _text(name: str, text: str, *, nested: bool) -> str:
    """``text``, quoted if Hydra would parse it differently. Raises: NasError."""
    if text == "~" or text.startswith("~/"):  # expanded as in shells and ``normalize_override``
        text = str(Path(text).expanduser())
    if _is_read_as(text, text, nested) and "${" not in text:
        return text
    # A backslash is literal except before a quote or an interpolation, where it must be doubled.
    escaped = re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", text)
    written = "'" + re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + (r"\'" if found[2] else ""), escaped) + "'"
    if not _is_read_as(written, escaped, nested):
        raise NasError(f"{name} {text!r}: contains characters that a setting cannot hold; remove them.")
    return written


def _is_read_as(written: str, text: str, nested: bool) -> bool:
    """Whether Hydra parses ``written`` as ``text``."""
    try:
        override = OverridesParser.create().parse_override(f"name=[{written}]" if nested else f"name={written}")
    except HydraException:
        return False
    return not override.is_sweep_override() and bool(override.value() == ([text] if nested else text))
