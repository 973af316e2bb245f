"""MnasNet (arXiv:1807.11626): a factorized space, with choices per stage.

Operation, kernel, squeeze-excite, shortcut, filters and layers.
"""

from __future__ import annotations

from typing import ClassVar

from nas.arch.scaling.transform import Scaling
from search_spaces.blockwise import BlockwiseSpace
from search_spaces.family import Family


class MnasNetSpace(BlockwiseSpace):
    """MnasNets: operation and shortcut chosen per stage, ReLU throughout.

    ``type`` is the paper's ConvOp (ir or ds), ``skip`` its SkipOp without pooling. All blocks of a stage are equal, so
    that each stage is one block string. Squeeze-excite is relative to a block's input channels; the head keeps its
    width. Figures and choices: ``conf/space/mnasnet.yaml``.
    """

    family: ClassVar[Family] = Family(
        activation="relu", dropout=0.2, scaling=Scaling(head="fixed"), block={"type": "ir"}
    )
