"""MnasNet-A1, B1 and small at the widths of their checkpoints.

arXiv:1807.11626; tensorflow/tpu, ``mnasnet_models.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.scaling.transform import Scaling, scale
from nas.arch.spec import ArchSpec
from nas.arch.zoo.labels import width_label

_A1: Final = [
    ["ds_r1_k3_s1_c16_noskip"],
    ["ir_r2_k3_s2_e6_c24"],
    ["ir_r3_k5_s2_e3_c40_se0.25"],
    ["ir_r4_k3_s2_e6_c80"],
    ["ir_r2_k3_s1_e6_c112_se0.25"],
    ["ir_r3_k5_s2_e6_c160_se0.25"],
    ["ir_r1_k3_s1_e6_c320"],
]
_B1: Final = [
    ["ds_r1_k3_s1_c16_noskip"],
    ["ir_r3_k3_s2_e3_c24"],
    ["ir_r3_k5_s2_e3_c40"],
    ["ir_r3_k5_s2_e6_c80"],
    ["ir_r2_k3_s1_e6_c96"],
    ["ir_r4_k5_s2_e6_c192"],
    ["ir_r1_k3_s1_e6_c320_noskip"],
]
_SMALL: Final = [
    ["ds_r1_k3_s1_c8"],
    ["ir_r1_k3_s2_e3_c16"],
    ["ir_r2_k3_s2_e6_c16"],
    ["ir_r4_k5_s2_e6_c32_se0.25"],
    ["ir_r3_k3_s1_e6_c32_se0.25"],
    ["ir_r3_k5_s2_e6_c88_se0.25"],
    ["ir_r1_k3_s1_e6_c144"],
]


def mnasnet_a1(width: float = 1.0, resolution_px: int = 224) -> ArchSpec:
    """MnasNet-A1, with squeeze-excite; timm's name is semnasnet.

    The head has 1280 channels at every width.
    """
    return _scaled("semnasnet", _A1, 32, 0.2, width, resolution_px)


def mnasnet_b1(width: float = 1.0, resolution_px: int = 224) -> ArchSpec:
    """MnasNet-B1, without squeeze-excite; timm's name is mnasnet."""
    return _scaled("mnasnet", _B1, 32, 0.2, width, resolution_px)


def mnasnet_small() -> ArchSpec:
    """MnasNet-small, searched with the reward of small models.

    66.0% at 68 M MACs (paper table 4, search2).
    """
    base = _scaled("mnasnet", _SMALL, 8, 0.0, 1.0, 224)
    return scale(base, Scaling(head="fixed"), name="mnasnet_small")


def _scaled(
    family: str, stages: list[list[str]], stem: int, dropout: float, width: float, resolution_px: int
) -> ArchSpec:
    base = ArchSpec.from_strings(
        f"{family}_{width_label(width)}",
        stages,
        stem=StemSpec(channels=stem),
        head=HeadSpec(channels=1280),
        resolution_px=resolution_px,
        dropout=dropout,
    )
    return scale(base, Scaling(width=width, head="fixed"))


_WIDTHS: Final = (0.35, 0.5, 0.75, 1.0, 1.4)

MNASNETS: Final[dict[str, Callable[[], ArchSpec]]] = {
    **{f"semnasnet_{width_label(width)}": partial(mnasnet_a1, width) for width in _WIDTHS},
    **{f"mnasnet_{width_label(width)}": partial(mnasnet_b1, width) for width in _WIDTHS},
    "mnasnet_small": mnasnet_small,
}
