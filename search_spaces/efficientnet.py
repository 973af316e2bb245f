"""EfficientNet (arXiv:1905.11946): MBConv kernels, expansions and repeats.

The space is meant for compound scaling of the network that is found.
"""

from __future__ import annotations

from typing import ClassVar

from search_spaces.blockwise import BlockwiseSpace
from search_spaces.family import Family


class EfficientNetSpace(BlockwiseSpace):
    """EfficientNets: swish, squeeze-excite, and scaled stem and head.

    Swish throughout, squeeze-excite relative to a block's input channels. Dropout 0.2 and drop-path 0.2 are those
    published for B0. Figures and choices: ``conf/space/efficientnet.yaml``.
    """

    family: ClassVar[Family] = Family(activation="swish", dropout=0.2, drop_path=0.2, block={"type": "ir"})
