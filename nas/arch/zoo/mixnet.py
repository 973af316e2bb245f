"""MixNet-S, M and L, and timm's wider XL and XXL.

arXiv:1907.09595, figure 5; tensorflow/tpu, ``mixnet_builder.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.scaling.transform import Scaling, scale
from nas.arch.spec import ArchSpec

_S: Final = [
    ["ds_r1_k3_s1_c16"],
    ["ir_r1_k3_a1.1_p1.1_s2_e6_c24", "ir_r1_k3_a1.1_p1.1_s1_e3_c24"],
    ["ir_r1_k3.5.7_s2_e6_c40_se0.5_nsw", "ir_r3_k3.5_a1.1_p1.1_s1_e6_c40_se0.5_nsw"],
    ["ir_r1_k3.5.7_p1.1_s2_e6_c80_se0.25_nsw", "ir_r2_k3.5_p1.1_s1_e6_c80_se0.25_nsw"],
    ["ir_r1_k3.5.7_a1.1_p1.1_s1_e6_c120_se0.5_nsw", "ir_r2_k3.5.7.9_a1.1_p1.1_s1_e3_c120_se0.5_nsw"],
    ["ir_r1_k3.5.7.9.11_s2_e6_c200_se0.5_nsw", "ir_r2_k3.5.7.9_p1.1_s1_e6_c200_se0.5_nsw"],
]
_M: Final = [
    ["ds_r1_k3_s1_c24"],
    ["ir_r1_k3.5.7_a1.1_p1.1_s2_e6_c32", "ir_r1_k3_a1.1_p1.1_s1_e3_c32"],
    ["ir_r1_k3.5.7.9_s2_e6_c40_se0.5_nsw", "ir_r3_k3.5_a1.1_p1.1_s1_e6_c40_se0.5_nsw"],
    ["ir_r1_k3.5.7_s2_e6_c80_se0.25_nsw", "ir_r3_k3.5.7.9_a1.1_p1.1_s1_e6_c80_se0.25_nsw"],
    ["ir_r1_k3_s1_e6_c120_se0.5_nsw", "ir_r3_k3.5.7.9_a1.1_p1.1_s1_e3_c120_se0.5_nsw"],
    ["ir_r1_k3.5.7.9_s2_e6_c200_se0.5_nsw", "ir_r3_k3.5.7.9_p1.1_s1_e6_c200_se0.5_nsw"],
]


def mixnet_s() -> ArchSpec:
    """MixNet-S: 4.1 M parameters, 239 M MACs."""
    return _mixnet("mixnet_s", _S, stem=16, dropout=0.2)


def mixnet_m(width: float = 1.0, depth: float = 1.0, name: str = "mixnet_m") -> ArchSpec:
    """MixNet-M; at ``width`` 1.3 it is MixNet-L.

    Depth is rounded per stage, and the 1536-channel head never scales.
    """
    base = _mixnet(name, _M, stem=24, dropout=0.25)
    return scale(base, Scaling(width=width, depth=depth, depth_rule="round", head="fixed"))


def _mixnet(name: str, stages: list[list[str]], *, stem: int, dropout: float) -> ArchSpec:
    stem_spec, head = StemSpec(channels=stem), HeadSpec(channels=1536)
    return ArchSpec.from_strings(name, stages, stem=stem_spec, head=head, dropout=dropout)


MIXNETS: Final[dict[str, Callable[[], ArchSpec]]] = {
    "mixnet_s": mixnet_s,
    "mixnet_m": mixnet_m,
    "mixnet_l": partial(mixnet_m, 1.3, name="mixnet_l"),
    "mixnet_xl": partial(mixnet_m, 1.6, 1.2, "mixnet_xl"),
    "mixnet_xxl": partial(mixnet_m, 2.4, 1.3, "mixnet_xxl"),
}
