"""MobileNetV3 (arXiv:1905.02244): choices per layer, h-swish in later stages.

Kernels, expansions and squeeze-excite are chosen per layer; h-swish begins at the split stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from nas.arch.parts import MOBILENET_V3_SE
from nas.arch.scaling.transform import Scaling
from nas.core.errors import NasError
from search_spaces.attributes import Choice, read_values
from search_spaces.blockwise import BlockwiseSpace
from search_spaces.family import Family


class MobileNetV3Space(BlockwiseSpace):
    """MobileNetV3s: squeeze-excite on expanded channels, h-swish in the later stages.

    Squeeze-excite has ReLU inside and a hard-sigmoid gate. ``split``: index of the first stage with h-swish; those
    before it have ReLU (section 5.2), while the stem always has h-swish. It does not apply to a stage with an
    ``activation`` of its own. ``head.kind`` is a choice: ``pool_conv`` is the efficient last stage of section 5.1. The
    head keeps its width; so does the stem below width 0.75, as in timm. Figures and choices:
    ``conf/space/mobilenet_v3.yaml``, ``mobilenet_v3_small.yaml``.

    Raises: NasError for a ``split`` that is not the index of a stage, and as ``BlockwiseSpace``.
    """

    family: ClassVar[Family] = Family(
        activation="hard_swish",
        squeeze_excite=MOBILENET_V3_SE,
        scaling=Scaling(head="fixed"),
        fixed_stem_below=0.75,
        dropout=0.2,
        block={"type": "ir"},
    )

    keys: ClassVar[tuple[str, ...]] = (*BlockwiseSpace.keys, "split")

    def __init__(self, *, split: object = 0, **config: Any) -> None:
        self._split = read_values("space.split", split, int)
        super().__init__(**config)
        stages = len(self._layout.stages)
        for value in self._split:
            if not 0 <= int(value) <= stages:
                raise NasError(f"space.split {value!r}: must be the index of a stage, or {stages} for ReLU in all.")

    def _block_defaults(self, stage: int) -> Mapping[str, Any]:
        meanings = tuple("relu" if stage < int(value) else None for value in self._split)
        return {**super()._block_defaults(stage), "activation": Choice("split", self._split, meanings)}
