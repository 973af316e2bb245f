"""A network that is small enough to run in every test."""

from __future__ import annotations

from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec

TINY = ArchSpec.from_strings(
    "tiny", [["ir_r1_k3_s2_e2_c8"]], stem=StemSpec(channels=8), head=HeadSpec(channels=16), resolution_px=32, classes=3
)
