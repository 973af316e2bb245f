"""MobileNetV1 with its width and resolution multipliers, and its ablations.

arXiv:1704.04861.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.rounding import WidthRule
from nas.arch.scaling.transform import Scaling, scale
from nas.arch.spec import ArchSpec
from nas.arch.zoo.labels import width_label

# Paper table 1. Its last depthwise convolution is printed with stride 2; its output size and all code use stride 1.
_SEPARABLE: Final = [
    ["dsa_r1_k3_s1_c64"],
    ["dsa_r2_k3_s2_c128"],
    ["dsa_r2_k3_s2_c256"],
    ["dsa_r6_k3_s2_c512"],
    ["dsa_r2_k3_s2_c1024"],
]


def mobilenet_v1(
    width: float = 1.0,
    resolution_px: int = 224,
    *,
    width_rule: WidthRule = "truncate",
    head_channels: int = 0,
    name: str | None = None,
) -> ArchSpec:
    """MobileNetV1 at a width multiplier and resolution (paper tables 6 and 7).

    ``width_rule``: ``truncate``, max(int(c * width), 8), as published; ``divisor``, to a multiple of 8, as timm.
    ``head_channels``: timm's variant with a head convolution has 1024; the published network has none.
    """
    return _scaled(
        _SEPARABLE, width, resolution_px, width_rule, head_channels, name or f"mobilenetv1_{width_label(width)}"
    )


def full_convolution(width: float = 1.0, resolution_px: int = 224) -> ArchSpec:
    """MobileNetV1 with dense 3x3 convolutions (paper table 4).

    Each replaces one depthwise separable convolution.
    """
    dense = [[text.replace("dsa_", "cn_") for text in stage] for stage in _SEPARABLE]
    return _scaled(dense, width, resolution_px, "truncate", 0, f"mobilenetv1_full_conv_{width_label(width)}")


def shallow(width: float = 1.0, resolution_px: int = 224) -> ArchSpec:
    """MobileNetV1 without its five 14x14x512 stride-1 layers (paper table 5)."""
    stages = [[text.replace("dsa_r6_", "dsa_r1_") for text in stage] for stage in _SEPARABLE]
    return _scaled(stages, width, resolution_px, "truncate", 0, f"mobilenetv1_shallow_{width_label(width)}")


def _scaled(
    stages: list[list[str]], width: float, resolution_px: int, width_rule: WidthRule, head_channels: int, name: str
) -> ArchSpec:
    base = ArchSpec.from_strings(
        name,
        stages,
        stem=StemSpec(channels=32),
        head=HeadSpec(channels=head_channels),
        activation="relu6",
        resolution_px=resolution_px,
        dropout=0.001,  # the published code has a keep probability of 0.999
    )
    return scale(base, Scaling(width=width, width_rule=width_rule, head="grow"))


MOBILENETS_V1: Final[dict[str, Callable[[], ArchSpec]]] = {
    **{f"mobilenetv1_{width_label(width)}": partial(mobilenet_v1, width) for width in (0.25, 0.5, 0.75, 1.0)},
    "mobilenetv1_100h": partial(mobilenet_v1, head_channels=1024, width_rule="divisor", name="mobilenetv1_100h"),
    "mobilenetv1_125": partial(mobilenet_v1, 1.25, width_rule="divisor"),
    "mobilenetv1_full_conv_100": full_convolution,
    "mobilenetv1_shallow_100": shallow,
}
