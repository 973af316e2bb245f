"""MobileNetV3 Large and Small, and their minimalistic variants.

arXiv:1905.02244, tables 1 and 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final, Literal

from nas.arch.parts import MOBILENET_V3_SE, HeadSpec, NormSpec, StemSpec
from nas.arch.scaling.transform import EndRule, Scaling, scale
from nas.arch.spec import ArchSpec
from nas.arch.zoo.labels import width_label

Size = Literal["large", "small"]

# The last block string of each is the 1x1 convolution before the pooling; the hidden layer after it is the head.
_LARGE: Final = [
    ["ds_r1_k3_s1_c16_nre"],
    ["ir_r1_k3_s2_e4_c24_nre", "ir_r1_k3_s1_e3_c24_nre"],
    ["ir_r3_k5_s2_e3_c40_se0.25_nre"],
    ["ir_r1_k3_s2_e6_c80", "ir_r1_k3_s1_e2.5_c80", "ir_r2_k3_s1_e2.3_c80"],
    ["ir_r2_k3_s1_e6_c112_se0.25"],
    ["ir_r3_k5_s2_e6_c160_se0.25"],
    ["cn_r1_k1_s1_c960"],
]
# The paper marks squeeze-excite on the last 1x1 convolution of Small; the published code and its counts have none.
_SMALL: Final = [
    ["ds_r1_k3_s2_c16_se0.25_nre"],
    ["ir_r1_k3_s2_e4.5_c24_nre", "ir_r1_k3_s1_e3.67_c24_nre"],
    ["ir_r1_k5_s2_e4_c40_se0.25", "ir_r2_k5_s1_e6_c40_se0.25"],
    ["ir_r2_k5_s1_e3_c48_se0.25"],
    ["ir_r3_k5_s2_e6_c96_se0.25"],
    ["cn_r1_k1_s1_c576"],
]
_STAGES: Final = {"large": _LARGE, "small": _SMALL}
_HEAD: Final = {"large": 1280, "small": 1024}
_TF_NORM: Final = NormSpec(eps=1e-3, momentum=0.01)


def mobilenet_v3(
    size: Size,
    width: float = 1.0,
    resolution_px: int = 224,
    *,
    minimalistic: bool = False,
    depth: float = 1.0,
    stem: EndRule = "scale",
    head: EndRule = "fixed",
    name: str | None = None,
) -> ArchSpec:
    """MobileNetV3 at a width multiplier (paper appendix A).

    ``minimalistic``: no squeeze-excite, no h-swish, 3x3 kernels only. ``head``: published results below width 1 keep
    the last 1280/1024 layer ``fixed``. ``stem``: the published code scales it; timm keeps it fixed below width 0.75.
    """
    stages = _STAGES[size]
    if minimalistic:
        stages = [[_minimal(text) for text in stage] for stage in stages]
    base = ArchSpec.from_strings(
        name or f"mobilenetv3_{size}_{width_label(width)}",
        stages,
        stem=StemSpec(channels=16),
        head=HeadSpec(kind="pool_conv", channels=_HEAD[size]),
        activation="relu" if minimalistic else "hard_swish",
        squeeze_excite=MOBILENET_V3_SE,
        resolution_px=resolution_px,
        dropout=0.2,
    )
    return scale(base, Scaling(width=width, depth=depth, stem=stem, head=head))


def _minimal(text: str) -> str:
    return text.replace("_se0.25", "").replace("_nre", "").replace("k5", "k3")


def _tensorflow(size: Size, width: float, *, minimalistic: bool = False) -> ArchSpec:
    """timm's port of the TensorFlow checkpoint.

    It has ``same`` padding and TensorFlow's batch-norm constants.
    """
    label = "minimal_" if minimalistic else ""
    name = f"tf_mobilenetv3_{size}_{label}{width_label(width)}"
    spec = mobilenet_v3(size, width, minimalistic=minimalistic, name=name)
    return replace(spec, padding="same", norm=_TF_NORM)


MOBILENETS_V3: Final[dict[str, Callable[[], ArchSpec]]] = {
    "mobilenetv3_large_075": partial(mobilenet_v3, "large", 0.75),
    "mobilenetv3_large_100": partial(mobilenet_v3, "large"),
    "mobilenetv3_large_150d": partial(mobilenet_v3, "large", 1.5, 256, depth=1.2, name="mobilenetv3_large_150d"),
    "mobilenetv3_small_050": partial(mobilenet_v3, "small", 0.5, stem="fixed"),
    "mobilenetv3_small_075": partial(mobilenet_v3, "small", 0.75),
    "mobilenetv3_small_100": partial(mobilenet_v3, "small"),
    "mobilenetv3_large_minimal_100": partial(
        mobilenet_v3, "large", minimalistic=True, name="mobilenetv3_large_minimal_100"
    ),
    "mobilenetv3_small_minimal_100": partial(
        mobilenet_v3, "small", minimalistic=True, name="mobilenetv3_small_minimal_100"
    ),
    "tf_mobilenetv3_large_075": partial(_tensorflow, "large", 0.75),
    "tf_mobilenetv3_large_100": partial(_tensorflow, "large", 1.0),
    "tf_mobilenetv3_large_minimal_100": partial(_tensorflow, "large", 1.0, minimalistic=True),
    "tf_mobilenetv3_small_075": partial(_tensorflow, "small", 0.75),
    "tf_mobilenetv3_small_100": partial(_tensorflow, "small", 1.0),
    "tf_mobilenetv3_small_minimal_100": partial(_tensorflow, "small", 1.0, minimalistic=True),
}
