"""The format of a study on disk; studies of newer versions are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nas.core.errors import NasError, quoted
from nas.core.version import __version__

# Raise it where an earlier version would misread a study's folder or what its storage holds beside Optuna's own.
STUDY_FORMAT: Final = 1
FORMAT_ATTRIBUTE: Final = "nas:format"  # system attribute of a study
# Settings that earlier versions stored under other names: today's name by theirs.
_RENAMED: Final = {"table.sides_px": "table.resolution_px"}


def with_present_names(stored: Mapping[str, Any], group: str = "") -> dict[str, Any]:
    """``stored`` settings, by dotted names or by group, under their present names."""
    named = {}
    for key, value in stored.items():
        name = f"{group}.{key}" if group else key
        present = _RENAMED.get(name, name).removeprefix(f"{group}." if group else "")
        named[present] = with_present_names(value, key) if isinstance(value, Mapping) and not group else value
    return named


def is_readable_format(found: object) -> bool:
    """Whether this version reads studies of the format ``found``.

    None, where a study has no mark, is format 1.
    """
    return found is None or (type(found) is int and 1 <= found <= STUDY_FORMAT)


def check_study_format(where: str, found: object, remedy: str = "choose another study.name") -> None:
    """Refuse the study at ``where`` if its format ``found`` is too new.

    Refuse as well what is of another format of this project. ``remedy``: what the user can do there.

    Raises: NasError.
    """
    if isinstance(found, str) and found.startswith("nas."):
        raise NasError(f"{where}: is of format {quoted(found)}, not of a study; {remedy}.")
    if not is_readable_format(found):
        raise NasError(
            f"{where}: the study is of format {quoted(found)}, nas {__version__} reads formats up to {STUDY_FORMAT}: "
            "a newer version wrote it; upgrade nas to go on with it."
        )
