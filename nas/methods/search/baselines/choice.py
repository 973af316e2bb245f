"""A baseline as the user chose it; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nas.arch.spec import ArchSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineChoice:
    """A network of ``study.baselines``.

    ``name``: as the user named it. ``arch``: the network. ``weights``: its weights, in a form that ``source_weights``
    reads.
    """

    name: str
    arch: ArchSpec
    weights: str

    def network(self, classes: int, in_channels: int) -> ArchSpec:
        """Return the whole network, for images of these classes and channels."""
        return replace(self.arch, classes=classes, in_channels=in_channels)
