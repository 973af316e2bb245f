"""MobileNetV1 (arXiv:1704.04861): one network under two multipliers.

They are those of width and resolution.
"""

from __future__ import annotations

from typing import ClassVar

from nas.arch.scaling.transform import Scaling
from search_spaces.blockwise import BlockwiseSpace
from search_spaces.family import Family


class MobileNetV1Space(BlockwiseSpace):
    """MobileNetV1s: depthwise separable blocks without shortcuts.

    Each has an activation after the pointwise convolution. Channels are truncated, max(int(channels * width), 8), the
    published rule; ``space.scaling.width_rule=divisor`` rounds to multiples of 8 instead. The activation is ReLU6, as
    in the released code and timm. Figures and choices: ``conf/space/mobilenet_v1.yaml``.
    """

    family: ClassVar[Family] = Family(
        activation="relu6",
        dropout=0.001,
        scaling=Scaling(width_rule="truncate"),
        block={"type": "dsa", "kernel": 3},
    )
