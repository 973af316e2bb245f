"""Forms that a block may take, each with other operations than the ones before it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from nas.arch.ops.network import Op, PartSegments
from nas.arch.spec import Padding
from nas.exporters.rewriting.block import InferencePart, rewritten_part
from nas.exporters.rewriting.forms import PLAIN, BlockForm, Pointwise
from nas.exporters.rewriting.shape import block_shape, groups_of


class Candidate(NamedTuple):
    """A form of a part of a network, and the part in that form."""

    form: BlockForm
    part: InferencePart


@lru_cache(maxsize=16384)
def candidates(part: PartSegments, padding: Padding, lane: int, linear_gates: bool = False) -> tuple[Candidate, ...]:
    """Forms of ``part`` that are worth comparing, the plain one first.

    ``lane``: channels of one vector of the runtime's kernels, to which pieces are padded. ``linear_gates``: whether
    squeeze-excite by matrix products is among them. Kernels that are larger than their map are cropped in all but the
    plain form: it costs nothing.
    """
    found: dict[tuple[Op, ...], Candidate] = {}
    for form in (PLAIN, *_forms(part, lane, linear_gates)):
        changed = rewritten_part(part, form, padding).part
        found.setdefault(changed.ops, Candidate(form, changed))  # where there is nothing to pad, for example
    return tuple(found.values())


def _forms(part: PartSegments, lane: int, linear_gates: bool) -> tuple[BlockForm, ...]:
    shape = block_shape(part)
    if shape is None:
        return ()
    return _forms_of_kind(
        has_rest=shape.depthwise.ops[0].in_channels % lane > 0,
        kernels=groups_of(shape.depthwise),
        expand_groups=groups_of(shape.expand) if shape.expand else 0,
        project_groups=groups_of(shape.project),
        lane=lane,
        gates=(False, True) if shape.gate and linear_gates else (False,),
    )


@lru_cache(maxsize=4096)
def _forms_of_kind(
    *, has_rest: bool, kernels: int, expand_groups: int, project_groups: int, lane: int, gates: tuple[bool, ...]
) -> tuple[BlockForm, ...]:
    """Forms of blocks of one kind.

    ``has_rest``: whether the hidden channels are no multiple of ``lane``. ``gates``: of the forms, ``linear_gate``.
    """
    convolutions = _convolutions(has_rest, kernels, expand_groups, project_groups, lane)
    return tuple([form._replace(linear_gate=gate, cropped=True) for form in convolutions for gate in gates])


def _convolutions(
    has_rest: bool, kernels: int, expand_groups: int, project_groups: int, lane: int
) -> Iterator[BlockForm]:
    """Forms of the convolutions, each the fastest in some block and runtime.

    Measured block by block in MixNet-S, M and L in ONNX Runtime, among all combinations, and as whole networks in
    LiteRT, OpenVINO and ncnn: others gained a percent of the block at most.
    """
    is_mixed, has_groups = kernels > 1, max(expand_groups, project_groups) > 1
    project: Pointwise = "grouped" if project_groups > 1 else "split"
    expand: Pointwise = "grouped" if expand_groups > 1 else "split"
    if is_mixed or has_groups:
        yield BlockForm(expand=expand, merged=(kernels,), project=project)
    if is_mixed and has_groups:
        yield BlockForm(expand=expand, project=project)
    if not expand_groups:
        return
    if is_mixed:
        yield BlockForm(expand="pieces", project=project)
    if is_mixed or has_rest:
        for merged in _partitions(kernels):
            yield BlockForm(expand="pieces", merged=merged, lane=lane, project=project)


def _partitions(kernels: int) -> tuple[tuple[int, ...], ...]:
    """Ways to merge neighbouring kernels: none, pairs."""
    pairs = (2,) * (kernels // 2) + (1,) * (kernels % 2)
    return ((1,) * kernels, pairs) if kernels > 2 else ((1,) * kernels,)
