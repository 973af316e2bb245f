"""Blocks in another form: the same function from other convolutions."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from nas.arch.ops.network import Op, PartSegments
from nas.arch.spec import Padding
from nas.exporters.rewriting.forms import PLAIN, BlockForm
from nas.exporters.rewriting.segments import (
    Derivation,
    RewrittenSegment,
    Written,
    piece_groups,
    written_gate,
    written_hidden,
    written_projection,
)
from nas.exporters.rewriting.shape import BlockShape, block_shape, groups_of


class RewrittenSegments:
    """Block in another form, with what inference needs of ``PartSegments``.

    Its cost is not counted: that of a network is the plain one's. Compared by identity.
    """

    __slots__ = ("addition", "segments")

    def __init__(self, segments: tuple[RewrittenSegment, ...], addition: Op | None) -> None:
        self.segments, self.addition = segments, addition

    @property
    def ops(self) -> tuple[Op, ...]:
        """Operations of the block in execution order."""
        ops = tuple([op for segment in self.segments for op in segment.ops])
        return (*ops, self.addition) if self.addition else ops


InferencePart = PartSegments | RewrittenSegments


class RewrittenPart(NamedTuple):
    """A part of a network in another form.

    ``part``: its operations. ``written``: what they were made of; () for a part that is as it was.
    """

    part: InferencePart
    written: tuple[Written, ...] = ()

    @property
    def derivations(self) -> dict[str, Derivation]:
        """Derivations of convolutions by path.

        Of those whose weights are not those of the plain part's convolution of the same path.
        """
        return {path: derivation for one in self.written for path, derivation in one.derivations.items()}


@lru_cache(maxsize=65536)
def rewritten_part(part: PartSegments, form: BlockForm, padding: Padding) -> RewrittenPart:
    """Rewrite ``part`` in ``form``.

    A part that is no block of a depthwise convolution between 1x1 convolutions is returned as it is. What ``form`` asks
    for and the block does not have is ignored: a dense convolution stays one.
    """
    shape = block_shape(part)
    if form == PLAIN or shape is None:
        return RewrittenPart(part)
    written = _written(shape, form, padding)
    addition = part.addition
    if addition:
        addition = addition._replace(inputs=(written[-1].pieces[0].path, ""))
    return RewrittenPart(RewrittenSegments(_segments(written), addition), written)


def _written(shape: BlockShape, form: BlockForm, padding: Padding) -> tuple[Written, ...]:
    """Expansion and depthwise convolution, squeeze-excite if there is one, projection."""
    own = _hidden_form(form)
    joins = form.project != "sum"
    if form.project == "split" and groups_of(shape.project) > 1:
        joins = not piece_groups(shape.project, written_hidden(shape.expand, shape.depthwise, own, padding).pieces)
    written = [written_hidden(shape.expand, shape.depthwise, own, padding, joins=joins)]
    if shape.gate:
        written.append(written_gate(shape.gate, written[-1].pieces, form.linear_gate))
    written.append(written_projection(shape.project, written[-1].pieces, form.project))
    return tuple(written)


@lru_cache(maxsize=4096)
def _hidden_form(form: BlockForm) -> BlockForm:
    """What the hidden tensor depends on of ``form``."""
    return form._replace(project=PLAIN.project, linear_gate=PLAIN.linear_gate)


def _segments(written: tuple[Written, ...]) -> tuple[RewrittenSegment, ...]:
    """Segments, each of which reads one tensor of the one before.

    One alone where it would read several.
    """
    if all(len(one.pieces) == 1 for one in written):
        return tuple([one.segment for one in written])
    return (RewrittenSegment([op for one in written for op in one.segment.ops]),)
