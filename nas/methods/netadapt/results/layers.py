"""Layers of the seed network and the adapted one side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from nas.arch.blocks import format_kernels
from nas.arch.spec import ArchSpec

_ARROW = "\N{RIGHTWARDS ARROW}"


class LayerSize(NamedTuple):
    """Sizes of a layer: hidden and output channels, kernels; side of the input in px.

    None or empty for what it does not have.
    """

    channels: int | None = None
    hidden: int | None = None
    kernels: str = ""
    side_px: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerChange:
    """A layer before and after the adaptation; ``after`` is None if it was removed.

    ``name``: input, stem, head, or the path of a block as in timm.
    """

    name: str
    before: LayerSize
    after: LayerSize | None

    @property
    def is_block(self) -> bool:
        """Whether it is a block of a stage."""
        return self.name.startswith("blocks.")

    @property
    def is_changed(self) -> bool:
        """Whether it is smaller, or was removed."""
        return self.before != self.after

    def text(self, field: str) -> str:
        """A size before and after, such as ``48 → 32``; one figure if it is unchanged."""
        before, after = getattr(self.before, field), getattr(self.after, field, None)
        if before in (None, ""):
            return ""
        if self.after is None:
            return f"{before} {_ARROW} removed"
        return f"{before}" if before == after else f"{before} {_ARROW} {after}"


def layer_changes(before: ArchSpec, after: ArchSpec) -> tuple[LayerChange, ...]:
    """Layers of ``before`` in their order, each with its size in ``after``."""
    old, new = _sizes(before), _sizes(after)
    return tuple(LayerChange(name=name, before=size, after=new.get(name)) for name, size in old.items())


def change_counts(changes: tuple[LayerChange, ...]) -> str:
    """How many blocks became smaller, and how many were removed, in words."""
    blocks = [one for one in changes if one.is_block]
    removed = sum(one.after is None for one in blocks)
    smaller = sum(one.is_changed for one in blocks) - removed
    return f"Blocks: {smaller} of {len(blocks)} smaller, {removed or 'none'} removed"


def _sizes(arch: ArchSpec) -> dict[str, LayerSize]:
    blocks = {
        placed.path: LayerSize(placed.block.channels, placed.hidden_channels, format_kernels(placed.block.kernels))
        for placed in arch.placed_blocks()
    }
    return {
        "input": LayerSize(side_px=arch.resolution_px),
        "stem": LayerSize(arch.stem.channels, kernels=str(arch.stem.kernel)),
        **blocks,
        "head": LayerSize(arch.head.channels),
    }
