"""Detectors and segmenters of every kind of trunk, as specs, for tests of exporters."""

from __future__ import annotations

from dataclasses import replace

from nas.arch.heads import detector, segmenter
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec

# A MixConv with a grouped expansion, of which the detector reads the expansion, and blocks without one.
_STAGES = (
    (["ds_r1_k3_s2_c16"], ["ir_r1_k5_s2_e3_c24_se0.5"], ["ir_r2_k3.5_a1.1_p1.1_s2_e4_c32_nhs"], ["ir_r1_k5_s2_e3_c40"]),
    (["er_r1_k3_s2_e2_c16"], ["uir_r1_a3_k5_s2_e2_c24"], ["cn_r2_k3_s2_c32_skip"], ["ds_r2_k7_s2_c40"]),
)


def trunk(number: int, padding: str = "symmetric") -> ArchSpec:
    """Classifier of stride 32 with the stages of that number."""
    return ArchSpec.from_strings(
        f"trunk{number}", _STAGES[number], stem=StemSpec(channels=16), head=HeadSpec(channels=48), padding=padding,
        classes=4, activation="hard_swish", resolution_px=96,
    )  # fmt: skip


def dense_specs(padding: str = "symmetric") -> list[ArchSpec]:
    """Detectors and segmenters of both trunks at several output strides."""
    found = [
        detector(trunk(0, padding), classes=3, resolution_px=96, c3_scale=0.1),
        detector(trunk(1, padding), classes=1, resolution_px=75, output_stride=16),
        segmenter(trunk(0, padding), classes=5, resolution_px=96),
        segmenter(trunk(1, padding), classes=2, resolution_px=65, output_stride=32),
        segmenter(trunk(0, padding), classes=3, resolution_px=64, output_stride=8),
    ]
    return [replace(spec, name=f"{spec.task}{index}") for index, spec in enumerate(found)]
