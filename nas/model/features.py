"""Feature extractors: the last map of each resolution, or those of detectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from timm.models import FeatureInfo
from timm.models.efficientnet import EfficientNetFeatures
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nas.arch.heads import STEM, SSDLiteHead, stage_expansion
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.model.dense.network import expansion_and_output

__all__ = ["DetectionFeatures", "NetworkFeatures", "feature_levels"]


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


class DetectionFeatures(NetworkFeatures):
    """Maps of a network as detectors read them.

    Source: MobileNetV3, arXiv:1905.02244, section 6.3. Those of ``NetworkFeatures``, but for the last two resolutions
    C4, the expansion of the block that has the last stride, if there is one, and C5, the map before pooling: after the
    network's 1x1 convolution where it has one before its pooling. ``spec``: of ``model``.
    """

    def __init__(self, model: Any, levels: Sequence[int], spec: ArchSpec) -> None:
        super().__init__(model, levels)
        head = spec.head
        tap = stage_expansion(spec, is_inner=not isinstance(head, SSDLiteHead) or head.tap == "expansion")
        self._expanded = int(tap.block.split(".")[1]) if tap.inner and tap.block != STEM else -1
        entries = [dict(entry) for entry in model.feature_info]
        if tap.inner:
            before = next(entry for entry in entries if entry["stage"] == self._expanded)
            before |= {"num_chs": tap.channels, "module": f"{tap.block}.bn1"}
        self._has_last_conv = not head.pools_first and head.channels > 0
        if self._has_last_conv:
            self.conv_head, self.bn2 = model.conv_head, model.bn2
            entries[-1] |= {"num_chs": head.channels, "module": "bn2"}
        self._last = entries[-1]["stage"]
        self.feature_info = FeatureInfo(entries, tuple(levels))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images (N, C, H, W) to the maps of ``feature_info``."""
        x = self.bn1(self.conv_stem(x))
        maps = {0: x}  # by number of stages before it
        for index, stage in enumerate(self.blocks):
            if index == self._expanded:
                maps[index], x = expansion_and_output(stage[0], x)
                x = stage[1:](x)
            else:
                x = checkpoint(stage, x, use_reentrant=False) if self.grad_checkpointing else stage(x)
            maps[index + 1] = x
        if self._has_last_conv:
            maps[self._last] = self.bn2(self.conv_head(x))
        return [maps[stage] for stage in sorted(self._stage_out_idx)]


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
