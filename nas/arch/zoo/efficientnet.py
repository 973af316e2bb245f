"""EfficientNet-B0 to B8 and L2, and EfficientNet-Lite 0 to 4.

arXiv:1905.11946, table 1, scaled by the published coefficients.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.scaling.transform import (
    PUBLISHED_EFFICIENTNET,
    PUBLISHED_EFFICIENTNET_LITE,
    published_coefficients,
    scale,
)
from nas.arch.spec import ArchSpec

_B0: Final = [
    ["ds_r1_k3_s1_c16_se0.25"],
    ["ir_r2_k3_s2_e6_c24_se0.25"],
    ["ir_r2_k5_s2_e6_c40_se0.25"],
    ["ir_r3_k3_s2_e6_c80_se0.25"],
    ["ir_r3_k5_s1_e6_c112_se0.25"],
    ["ir_r4_k5_s2_e6_c192_se0.25"],
    ["ir_r1_k3_s1_e6_c320_se0.25"],
]


def efficientnet(member: str = "b0") -> ArchSpec:
    """EfficientNet ``b0`` to ``b8`` or ``l2`` by its published coefficients.

    Depth is the ceiling per stage.
    """
    base = _base("efficientnet_b0", _B0, activation="swish", drop_path=0.2)  # survival probability 0.8
    return scale(base, published_coefficients(PUBLISHED_EFFICIENTNET, member), name=f"efficientnet_{member}")


def efficientnet_lite(member: str = "lite0") -> ArchSpec:
    """EfficientNet-Lite ``lite0`` to ``lite4`` by its published coefficients.

    No squeeze-excite, ReLU6, fixed stem and head, first and last stage of fixed depth. Lite3 and Lite4 have the
    published 280 and 300 px; timm's defaults for them are 300 and 380.
    """
    stages = [[text.replace("_se0.25", "") for text in stage] for stage in _B0]
    base = _base("efficientnet_lite0", stages, activation="relu6", drop_path=0.2)
    scaling = published_coefficients(PUBLISHED_EFFICIENTNET_LITE, member, stem="fixed", head="fixed", fixed_ends=True)
    return scale(base, scaling, name=f"efficientnet_{member}")


def _base(name: str, stages: list[list[str]], *, activation: str, drop_path: float) -> ArchSpec:
    return ArchSpec.from_strings(
        name,
        stages,
        stem=StemSpec(channels=32),
        head=HeadSpec(channels=1280),
        activation=activation,
        drop_path=drop_path,
    )


EFFICIENTNETS: Final[dict[str, Callable[[], ArchSpec]]] = {
    **{f"efficientnet_{member}": partial(efficientnet, member) for member in PUBLISHED_EFFICIENTNET},
    **{f"efficientnet_{member}": partial(efficientnet_lite, member) for member in PUBLISHED_EFFICIENTNET_LITE},
}
