"""Parts of a network that are quantised, or kept in float32, together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from nas.arch.ops.network import Op
from nas.exporters.graph import InferenceGraph

_WEIGHTED: Final = ("conv", "depthwise", "linear")
_BLOCK_WORDS: Final = 3  # of a path: blocks.2.1, or class_heads.0 of class_heads.0.conv
_LAYER_WORDS: Final = 4  # blocks.2.1.conv_dw, whose parts are blocks.2.1.conv_dw.0, ...


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisationUnit:
    """Operations that are quantised together: a block, or a layer.

    ``name``: the path that they share, or that of the first. ``ops``: their paths.
    """

    name: str
    ops: frozenset[str]


def block_units(graph: InferenceGraph) -> list[QuantisationUnit]:
    """Blocks of ``graph``, and each layer outside of a block, in execution order.

    A detector's blocks are also those behind its trunk, and the layers that predict from one map. Operations without
    weights that are in no block belong to the layer before them.
    """
    units: list[QuantisationUnit] = []
    for name, ops in _grouped(graph.ops, _block_name):
        if units and not any(op.kind in _WEIGHTED for op in ops):
            last = units.pop()
            units.append(QuantisationUnit(name=last.name, ops=last.ops | {op.path for op in ops}))
        else:
            units.append(QuantisationUnit(name=name, ops=frozenset(op.path for op in ops)))
    return units


def layer_units(graph: InferenceGraph, paths: Set[str]) -> list[QuantisationUnit]:
    """Layers of ``graph`` among the operations at ``paths``, in execution order.

    The groups of a MixConv are one layer, and so is a squeeze-excite.
    """
    found = [op for op in graph.ops if op.path in paths]
    return [
        QuantisationUnit(name=name, ops=frozenset(op.path for op in ops)) for name, ops in _grouped(found, _layer_name)
    ]


def _block_name(path: str) -> str:
    words = path.split(".")
    return ".".join(words[: max(1, min(len(words) - 1, _BLOCK_WORDS))])


def _layer_name(path: str) -> str:
    return ".".join(path.split(".")[:_LAYER_WORDS])


def _grouped(ops: Iterable[Op], name_of: Callable[[str], str]) -> list[tuple[str, list[Op]]]:
    """Consecutive operations whose paths have the same name."""
    return [(name, list(group)) for name, group in groupby(ops, key=lambda op: name_of(op.path))]
