"""MobileNetV2 at the widths of its checkpoints, and timm's deeper variants.

arXiv:1801.04381, table 2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.scaling.transform import EndRule, Scaling, scale
from nas.arch.spec import ArchSpec
from nas.arch.zoo.labels import width_label

_STAGES: Final = [
    ["ds_r1_k3_s1_c16"],
    ["ir_r2_k3_s2_e6_c24"],
    ["ir_r3_k3_s2_e6_c32"],
    ["ir_r4_k3_s2_e6_c64"],
    ["ir_r3_k3_s1_e6_c96"],
    ["ir_r3_k3_s2_e6_c160"],
    ["ir_r1_k3_s1_e6_c320"],
]


def mobilenet_v2(
    width: float = 1.0,
    resolution_px: int = 224,
    *,
    depth: float = 1.0,
    fixed_ends: bool = False,
    name: str | None = None,
) -> ArchSpec:
    """MobileNetV2 at a width multiplier and resolution.

    The last convolution never falls below 1280 channels (paper section 6.1). ``fixed_ends`` keeps stem, head, and the
    repeats of first and last stage (timm's ``d`` variants).
    """
    base = ArchSpec.from_strings(
        name or f"mobilenetv2_{width_label(width)}",
        _STAGES,
        stem=StemSpec(channels=32),
        head=HeadSpec(channels=1280),
        activation="relu6",
        resolution_px=resolution_px,
        dropout=0.2,
    )
    stem: EndRule = "fixed" if fixed_ends else "scale"
    head: EndRule = "fixed" if fixed_ends else "grow"
    return scale(base, Scaling(width=width, depth=depth, stem=stem, head=head, fixed_ends=fixed_ends))


MOBILENETS_V2: Final[dict[str, Callable[[], ArchSpec]]] = {
    **{f"mobilenetv2_{width_label(w)}": partial(mobilenet_v2, w) for w in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)},
    "mobilenetv2_110d": partial(mobilenet_v2, 1.1, depth=1.2, fixed_ends=True, name="mobilenetv2_110d"),
    "mobilenetv2_120d": partial(mobilenet_v2, 1.2, depth=1.4, fixed_ends=True, name="mobilenetv2_120d"),
}
