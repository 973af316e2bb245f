"""Methods that run as a study, and the registry of their kinds: the one place that lists them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nas.core.errors import NasError
from nas.methods.scaling.kind import ScalingKind
from nas.methods.search.kind import SearchKind
from nas.study.kind import StudyKind

__all__ = ["KINDS", "SCALING", "SEARCH", "kind_name", "kind_of"]

SEARCH: Final = SearchKind()
SCALING: Final = ScalingKind()
KINDS: Final[tuple[StudyKind, ...]] = (SEARCH, SCALING)


def kind_of(identity: Mapping[str, Any]) -> StudyKind:
    """The kind of the study with the settings ``identity``, by dotted names or by group.

    Raises: NasError for a study that is of none of ``KINDS``.
    """
    known = next((kind for kind in KINDS if kind.owns(identity)), None)
    if known is None:
        names = ", ".join(kind.name for kind in KINDS)
        raise NasError(f"this study is none of {names}: a newer version of nas made it; upgrade nas.")
    return known


def kind_name(identity: Mapping[str, Any]) -> str:
    """The name of a study's kind for a list of studies; ``unknown`` where ``kind_of`` would raise."""
    return next((kind.name for kind in KINDS if kind.owns(identity)), "unknown")
