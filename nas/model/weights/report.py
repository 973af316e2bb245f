"""What of a target network's weights came from its source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedPart:
    """What of one part of the target network came from the source.

    ``path``: module path in timm. ``params``: its parameters; ``source_params``: those of the source's part, 0 where it
    has none; ``carried_params``: how many both have. ``channels``, ``source_channels``: input and output channels, of
    the source None where it has no such part.
    """

    path: str
    params: int
    channels: tuple[int, int]
    source_params: int = 0
    carried_params: int = 0
    source_channels: tuple[int, int] | None = None

    @property
    def change(self) -> str:
        """What became of the source's part.

        ``carried`` as it is, ``cropped``, ``embedded``, ``cropped and embedded``, or ``drawn anew``. Cropped: the
        target lacks some of the source's parameters; embedded: the source lacks some of the target's.
        """
        if not self.carried_params:
            return "drawn anew"
        changes = {"cropped": self.carried_params < self.source_params, "embedded": self.carried_params < self.params}
        return " and ".join(name for name, found in changes.items() if found) or "carried"


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedLayer(CarriedPart):
    """What of one layer of the target network came from the source.

    ``block``: path of its block, "" in stem and head. ``kernels``, ``source_kernels``: sides in px, one per MixConv
    group. ``inputs``, ``outputs``: the source's channel of each input and output channel, -1 for a new one.
    """

    block: str
    kernels: tuple[int, ...]
    source_kernels: tuple[int, ...] = ()
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()

    @property
    def part(self) -> str:
        """Path of the part that it is in: a block, or a module of stem or head."""
        return self.block or self.path.partition(".")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedWeights:
    """Weights of a target network, and where they came from.

    ``state``: its state dict, complete. ``layers``: its layers in execution order. ``left_out``: the source's layers
    that nothing continues, path to number of parameters. ``changed_shortcuts``: paths of blocks that have a shortcut in
    one of the two only.
    """

    state: dict[str, Tensor]
    layers: tuple[CarriedLayer, ...]
    left_out: Mapping[str, int]
    changed_shortcuts: tuple[str, ...]

    @property
    def carried_share(self) -> float:
        """Share of the target's parameters that are the source's."""
        return sum(layer.carried_params for layer in self.layers) / sum(layer.params for layer in self.layers)

    @property
    def layers_by_part(self) -> Mapping[str, Sequence[CarriedLayer]]:
        """Layers of stem, blocks and parts of the head, in execution order."""
        parts: dict[str, list[CarriedLayer]] = {}
        for layer in self.layers:
            parts.setdefault(layer.part, []).append(layer)
        return parts

    @property
    def parts(self) -> tuple[CarriedPart, ...]:
        """Stem, blocks, head and classifier in execution order, as rows of a table."""
        return tuple([self._part(path, layers) for path, layers in self.layers_by_part.items()])

    def _part(self, path: str, layers: Sequence[CarriedLayer]) -> CarriedPart:
        sources = [layer.source_channels for layer in layers if layer.source_channels]
        lost = [params for name, params in self.left_out.items() if name.startswith(f"{path}.")] if sources else []
        return CarriedPart(
            path=path,
            params=sum([layer.params for layer in layers]),
            channels=(layers[0].channels[0], layers[-1].channels[1]),
            source_params=sum([layer.source_params for layer in layers]) + sum(lost),
            carried_params=sum([layer.carried_params for layer in layers]),
            source_channels=(sources[0][0], sources[-1][1]) if sources else None,
        )
