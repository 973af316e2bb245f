"""MixNet (arXiv:1907.09595): inverted residuals with mixed depthwise kernels."""

from __future__ import annotations

from typing import ClassVar

from nas.arch.scaling.transform import Scaling
from search_spaces.blockwise import BlockwiseSpace
from search_spaces.family import Family


class MixNetSpace(BlockwiseSpace):
    """MixNets: depthwise convolutions with kernels 3, 5, ..., 2g+1 in g groups.

    ``groups`` is g. Squeeze-excite is relative to a block's input channels. The head keeps its width and depths round
    half to even, as in the published code. Figures and choices: ``conf/space/mixnet.yaml``.
    """

    family: ClassVar[Family] = Family(
        activation="relu",
        dropout=0.2,
        scaling=Scaling(depth_rule="round", head="fixed"),
        block={"type": "ir"},
    )
