"""Feature extractor of a network: its last map of each resolution."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from timm.models import FeatureInfo
from timm.models.efficientnet import EfficientNetFeatures
from torch import nn

from nas.core.errors import NasError

__all__ = ["NetworkFeatures", "feature_levels"]


class NetworkFeatures(EfficientNetFeatures):  # type: ignore[misc]
    """Stem and stages of a timm module built by ``nas.model.build``, without its head.

    Maps images (N, C, H, W) to a list of maps, the last of each resolution, in the order of the network;
    ``feature_info`` has their channels and reductions. ``levels``: indices of the maps, as ``feature_levels`` returns
    them. The modules are those of ``model``, so that the state dict is the model's less the head's.
    """

    def __init__(self, model: Any, levels: Sequence[int]) -> None:
        nn.Module.__init__(self)  # timm's constructor would build the blocks again
        self.in_chans, self.drop_rate = model.in_chans, model.drop_rate
        self.grad_checkpointing = False
        self.conv_stem, self.bn1, self.blocks = model.conv_stem, model.bn1, model.blocks
        self.feature_info = FeatureInfo(model.feature_info, tuple(levels))
        self._stage_out_idx = {level["stage"]: level["index"] for level in self.feature_info.get_dicts()}
        self.feature_hooks = None


def feature_levels(out_indices: object, count: int) -> tuple[int, ...]:
    """Resolve timm's ``out_indices`` to ascending indices of ``count`` feature levels.

    None: all levels. An int n: the last n. A sequence: these levels, negative ones from the end. Example:
    ``feature_levels((1, -1), 5)`` is ``(1, 4)``.

    Raises: NasError for another type, a level that the network lacks, and levels that do not ascend (the maps come in
    the network's order, whatever the indices').
    """
    if out_indices is None:
        return tuple(range(count))
    valid = f"must be a number of levels (1 to {count}), or a list of levels from {-count} to {count - 1}"
    refusal = NasError(f"out_indices {out_indices!r}: {valid}; the network has {count} resolutions.")
    if isinstance(out_indices, int) and not isinstance(out_indices, bool):
        if not 1 <= out_indices <= count:
            raise refusal
        return tuple(range(count - out_indices, count))
    indices = list(out_indices) if isinstance(out_indices, Iterable) and not isinstance(out_indices, str) else []
    whole = all(isinstance(index, int) and not isinstance(index, bool) for index in indices)
    if not indices or not whole or not all(-count <= index < count for index in indices):
        raise refusal
    levels = tuple(index % count for index in indices)
    if any(second <= first for first, second in pairwise(levels)):
        ascending = tuple(sorted(set(levels)))
        raise NasError(f"out_indices {out_indices!r}: must ascend, as the maps do; use {ascending}.")
    return levels
