"""The format of a study on disk, and the refusal of a study that a newer version wrote."""

from __future__ import annotations

from typing import Final

from nas import __version__
from nas.core.errors import NasError, quoted

# Raise it where an earlier version would misread a study's folder or what its storage holds beside Optuna's own.
STUDY_FORMAT: Final = 1
FORMAT_ATTRIBUTE: Final = "nas:format"  # system attribute of a study


def check_study_format(where: str, found: object) -> None:
    """Refuse the study at ``where`` if this version cannot read its format; ``found``: None where none is written.

    Studies of version 0.1.0 and before carry no format: they are of format 1.
    Raises: NasError.
    """
    if found is None or (type(found) is int and 1 <= found <= STUDY_FORMAT):
        return
    raise NasError(
        f"{where}: the study is of format {quoted(found)}, nas {__version__} reads formats up to {STUDY_FORMAT}: a newer "
        "version wrote it; upgrade nas to go on with it."
    )
