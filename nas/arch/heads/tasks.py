"""Refusal of detectors and segmenters where only classifiers are supported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.errors import NasError, quoted

if TYPE_CHECKING:
    from nas.arch.spec import ArchSpec


def check_classifier(arch: ArchSpec, field: str, reason: str) -> None:
    """Check that ``arch`` is a classifier.

    ``field``: the setting that named it. ``reason``: why only a classifier will do, as a clause.

    Raises: NasError for a detector or segmenter.
    """
    if arch.task != "classification":
        raise NasError(
            f"{field} {quoted(arch.name)}: {reason}, and this network is for {arch.task}; give one with a classifier, "
            "such as nas.arch.heads.backbone(spec)."
        )
