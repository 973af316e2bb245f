"""Methods that run as a study, and the registry of study kinds.

``KINDS`` is the one place that lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nas.core.errors import NasError
from nas.methods.netadapt.kind import NetAdaptKind
from nas.methods.scaling.kind import ScalingKind
from nas.methods.search.kind import SearchKind
from nas.study.kind import StudyKind

__all__ = ["KINDS", "NETADAPT", "SCALING", "SEARCH", "kind_name", "kind_of"]

SEARCH: Final = SearchKind()
SCALING: Final = ScalingKind()
NETADAPT: Final = NetAdaptKind()
KINDS: Final[tuple[StudyKind, ...]] = (SEARCH, SCALING, NETADAPT)


def kind_of(identity: Mapping[str, Any], study: str) -> StudyKind:
    """Kind of a study, by its settings.

    ``identity``: the settings, by dotted names or by group. ``study``: the name, for the error.

    Raises: NasError for a study that is of none of ``KINDS``.
    """
    kind = next((kind for kind in KINDS if kind.owns(identity)), None)
    if kind is None:
        names = ", ".join(kind.name for kind in KINDS)
        raise NasError(
            f"study {study!r} is of an unknown kind: must be one of {names}. A newer version of nas created it; "
            "upgrade nas."
        )
    return kind


def kind_name(identity: Mapping[str, Any]) -> str:
    """Name of a study's kind for listings; ``unknown`` where ``kind_of`` raises."""
    return next((kind.name for kind in KINDS if kind.owns(identity)), "unknown")
