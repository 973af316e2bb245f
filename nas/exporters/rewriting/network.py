"""Networks with blocks in other forms: operations and derivations of weights."""

from __future__ import annotations

from collections.abc import Container

from nas.arch.ops.network import Op, network_segments, with_network_paths
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.exporters.rewriting.block import RewrittenPart, rewritten_part
from nas.exporters.rewriting.forms import Forms
from nas.exporters.rewriting.segments import Derivation


def rewritten_ops(
    spec: ArchSpec, forms: Forms, resolution_px: int | None = None
) -> tuple[tuple[Op, ...], dict[str, Derivation]]:
    """Operations of ``spec`` with its blocks in ``forms``, and derivations by path.

    Paths of operations are those in the network.
    """
    ops: list[Op] = []
    derivations: dict[str, Derivation] = {}
    paths = ["", *(placed.path for placed in spec.placed_blocks()), ""]
    previous = ""
    for path, rewritten in zip(paths, rewritten_parts(spec, forms, resolution_px), strict=True):
        ops += with_network_paths(rewritten.part.ops, path, previous)
        previous = ops[-1].path
        dot = f"{path}." if path else ""
        for name, derivation in rewritten.derivations.items():
            firsts = [first for _, first in derivation.sources]
            sources = with_network_paths([source for source, _ in derivation.sources], path, previous)
            derivations[dot + name] = derivation._replace(sources=tuple(zip(sources, firsts, strict=True)))
    return tuple(ops), derivations


def plain_path(path: str, plain: Container[str]) -> str:
    """Path of the operation of the plain network that the one at ``path`` belongs to.

    ``plain``: paths of its operations. Operations of a rewritten block are named after those that they replace, as the
    nodes of a file are after their operation.
    """
    while path not in plain and "." in path:
        path = path.rpartition(".")[0]
    return path


def rewritten_parts(spec: ArchSpec, forms: Forms | None, resolution_px: int | None = None) -> list[RewrittenPart]:
    """Stem, blocks in ``forms`` (None: plain ones), and head of ``spec``."""
    stem, *blocks, head = network_segments(spec, resolution_px)
    if forms is None:
        return [RewrittenPart(part) for part in (stem, *blocks, head)]
    if len(forms) != len(blocks):
        raise NasError(f"forms: {len(forms)} for the {len(blocks)} blocks of {spec.name}.")
    rewritten = [rewritten_part(part, form, spec.padding) for part, form in zip(blocks, forms, strict=True)]
    return [RewrittenPart(stem), *rewritten, RewrittenPart(head)]
