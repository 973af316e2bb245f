"""A network of two blocks, whose weights are made in a moment."""

from __future__ import annotations

from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec


def tiny(width: int, classes: int = 3) -> ArchSpec:
    """Network whose last block has ``width`` channels."""
    return ArchSpec.from_strings(
        "tiny",
        [["ds_r1_k3_s1_e1_c8"], [f"ir_r1_k5_s2_e2_c{width}"]],
        stem=StemSpec(channels=8),
        head=HeadSpec(channels=16),
        classes=classes,
    )
