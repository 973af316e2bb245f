"""What differs by task: who is refused, and what figures of a network leave out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from nas.core.errors import NasError, quoted

if TYPE_CHECKING:
    from nas.arch.spec import ArchSpec

_POST_PROCESSING: Final[Mapping[str, str]] = {
    "detection": "decoding of boxes, non-maximum suppression",
    "segmentation": "enlarging the logits to the image, choice of the class",
}


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


def latency_scope(task: str) -> str:
    """Say what latency, MACs and parameters of a network are of.

    ``task``: what it is for; empty for classifiers.
    """
    after = _POST_PROCESSING.get(task)
    return f"the whole network with its head, without post-processing ({after}), which comes on top" if after else ""
