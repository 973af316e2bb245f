"""Memory layouts of the tensors that a head reads from within a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nas.arch.ops.network import PartSegments
from nas.arch.spec import ArchSpec


class TapLayout(NamedTuple):
    """Layout of a tensor that a head reads from within the network.

    ``path``: of the tensor, in its part or in the network. ``blocked``: whether it is in the NCHWc layout;
    ``converted``: whether it is in the other one, too, because a reader before the head has converted it.
    ``is_input``: whether it is the tensor that the head reads as the last map, too.
    """

    path: str
    blocked: bool
    converted: bool
    is_input: bool = False


TapLayouts = tuple[TapLayout, ...]


class TapStep(NamedTuple):
    """What happens to the tensors that a head reads where a part of the network runs.

    ``prefix``: the path of the part. ``input_tap``: path of the tensor if it is the part's input, otherwise "".
    ``is_head``: whether the part is the head.
    """

    prefix: str
    input_tap: str
    is_head: bool

    def read(self, known: TapLayouts) -> TapLayouts:
        """Layouts of the tensors of earlier parts that the part reads."""
        if not self.is_head:
            return ()
        return tuple([tap._replace(is_input=tap.path == self.input_tap) for tap in known])

    def after(self, known: TapLayouts, *, converts: bool, own: TapLayouts) -> TapLayouts:
        """Layouts that are known after the part.

        ``converts``: whether it converts its input. ``own``: of its own tensors, with paths relative to it.
        """
        if converts and self.input_tap:
            known = tuple([tap._replace(converted=True) if tap.path == self.input_tap else tap for tap in known])
        if not own:
            return known
        dot = f"{self.prefix}." if self.prefix else ""
        return (*known, *(tap._replace(path=dot + tap.path) for tap in own))


def tap_steps(spec: ArchSpec, parts: Sequence[PartSegments]) -> list[TapStep] | None:
    """Steps of the parts of ``spec``; None if its head reads the last map alone."""
    if not any([part.taps for part in parts]):
        return None
    steps, output_tap = [], ""
    for prefix, part in zip(["", *(placed.path for placed in spec.placed_blocks()), ""], parts, strict=True):
        steps.append(TapStep(prefix, output_tap, part is parts[-1]))
        output = part.ops[-1].path
        output_tap = (f"{prefix}.{output}" if prefix else output) if output in part.taps else ""
    return steps
